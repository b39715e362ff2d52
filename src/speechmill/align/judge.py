"""Which sentences are kept, with what confidence, and why the others are not."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence

from speechmill.align.base import Heard, Sentence
from speechmill.align.match import Match

KEPT = "kept"
NOT_SPOKEN = "not-spoken"  # nothing was said where it would be: its neighbours follow each other
SOMETHING_ELSE = "something-else-spoken"  # other words were heard in its place
UNCERTAIN = "too-uncertain"  # some of its words were heard, too few to be sure
OVERLAPS = "overlaps"  # what was heard of it belongs to another sentence as well
NOTHING_TO_SAY = "nothing-to-say"  # no word that can be read aloud
OTHER = "transcript-of-another-recording"
TOO_SHORT = "too-short"  # an utterance of it would be shorter than asked, and has no neighbour to join
TOO_LONG = "too-long"  # an utterance of it would be longer than asked, and has no pause between words to cut it at
UNREADABLE = "unreadable-recording"
FAILED = "alignment-failed"  # a fault of the aligner, or its process was killed

_KEEP = 0.35  # share of the words heard from which a sentence is kept
_KEEP_EXPECTED = 0.4  # the same in a second listening
_ALONE, _ALONE_WORDS = 0.3, 2.0  # share of the words, and so many more, from which it is kept whatever is around it
_TOGETHER = 0.3  # share of the words of sentences in a row, none of which is kept by itself, from which any is
_NOTHING = 0.15  # share of a sentence's words below which it was not heard at all
_SURE = 3  # words: a shorter sentence must be heard whole
# Whose transcript it is: shares of its sentences and of the heard words that settle it, or so many of so many sentences
# in a row. Calls of one company share sentences ("Good morning, and welcome to ..."), and in any transcript some agree
# by chance: with a demo call of as many minutes 0 to 14 % of the sentences and 0 to 9 % of the heard words, after a
# second listening 0 to 11 % and 0 to 7 %. Of calls with 20 % damage whose voices are heard badly it is then 62 and 50 %
# or more.
_SENTENCES, _HEARD = 0.3, 0.11
_DENSE, _WINDOW = 12, 24  # where the transcript begins late in a recording that was cut off
_WRONG = 0.3
_STEEP, _HALF = 25.0, 0.25  # a sentence of four words is as likely there as not with so large a share of them heard
_ROOM = 0.7  # seconds of sound between neighbours in which something else may have been said


def confidence(match: Match) -> float:
    """The share of a sentence's words that are expected to be said there as written, 0 to 1.

    Words of it that were not heard, and heard ones between that it does not have, are `_WRONG` of the time faults of
    the transcript, else of the hearing (measured: `benchmarks/align.py`, part confidence). Where few of its words were
    heard it may not have been said at all: two words out of two agree by chance more easily than twenty out of twenty.
    """
    if match.taken:
        return 0.0
    words = max(len(match.words), 1)
    unlike = (words - match.agreeing + max(0, match.last - match.first - match.agreeing)) / words
    there = 1.0 / (1.0 + math.exp(-(_STEEP * (match.share - _HALF) + 1.2 * math.log(words / 4.0))))
    return there * (1.0 - _WRONG * min(1.0, unlike))


def keep(found: Sequence[Match | None], before: Sequence[Match | None] | None = None) -> list[Match | None]:
    """The matches that are good enough to stand.

    Some stand by themselves (`_stands`), those of up to three words only between their neighbours (`_in_place`): "Thank
    you." is said in every call. Of those that follow each other between two that do, the weaker ones are kept only
    where they agree together: in a stretch of which the transcript is wrong, one of many false sentences agrees
    by chance in some short words. `before` are the matches kept after the first listening: what the second adds must
    agree better, as it was told what to expect.
    """
    found = [match if match and not match.taken else None for match in found]
    kept: list[Match | None] = [match if match and _stands(match) else None for match in found]
    if any(match and len(match.words) > _SURE for match in found):
        kept = _in_place(kept)
    run: list[int] = []
    for place in range(len(kept) + 1):
        if place < len(kept) and kept[place] is None:
            run.append(place)
            continue
        if _agree([found[one] for one in run]):
            for one in run:
                match, least = found[one], _KEEP if before is None or before[one] else _KEEP_EXPECTED
                kept[one] = match if match and _may_stand(match, least) else None
        run = []
    return kept


def _stands(match: Match) -> bool:
    """Whether a match is believed whatever is around it; of up to three words all are heard, and nothing between."""
    words = len(match.words)
    if words <= _SURE:
        return match.agreeing == words and match.last - match.first == words
    return match.agreeing >= _ALONE * words + _ALONE_WORDS


def _in_place(kept: Sequence[Match | None]) -> list[Match | None]:
    """Without the short ones that do not lie between the longer ones around them; neighbours may be in wrong order."""
    long = [place for place, match in enumerate(kept) if match and len(match.words) > _SURE]
    found: list[Match | None] = []
    for place, match in enumerate(kept):
        if match and len(match.words) <= _SURE:
            after = bisect.bisect(long, place)
            before = [one for number in long[max(0, after - 2) : after] if (one := kept[number])]
            behind = [one for number in long[after : after + 2] if (one := kept[number])]
            inside = all(one.first <= match.first for one in before[:1]) and all(
                match.last <= one.last for one in behind[-1:]
            )
            match = match if inside and (before or behind) else None
        found.append(match)
    return found


def _may_stand(match: Match, share: float) -> bool:
    return len(match.words) > _SURE and match.share >= share and match.agreeing >= 2


def _agree(run: Sequence[Match | None]) -> bool:
    """Whether sentences in a row have enough of their words together; those of which nothing was heard do not count."""
    some = [match for match in run if match and match.share >= _NOTHING]
    return sum(match.agreeing for match in some) >= _TOGETHER * max(1, sum(len(match.words) for match in some))


def speakable(sentence: Sentence) -> bool:
    """Whether a sentence has words that are said for sure: not only brackets, dashes or another script."""
    return any(token.readings[0] for token in sentence.tokens)


def belongs(sentences: Sequence[Sentence], kept: Sequence[Match | None], heard: int) -> bool:
    """Whether the transcript is of this recording, and not of another with some sentences in common."""
    asked = [match for sentence, match in zip(sentences, kept, strict=True) if speakable(sentence)]
    matched = [match for match in asked if match]
    agreeing = sum(match.agreeing for match in matched)
    if len(matched) >= _SENTENCES * max(len(asked), 1) or agreeing >= _HEARD * max(heard, 1):
        return True
    found = [0, *itertools.accumulate(match is not None for match in asked)]
    return any(last - first >= _DENSE for first, last in zip(found, found[_WINDOW:], strict=False))


def reasons(
    sentences: Sequence[Sentence],
    found: Sequence[Match | None],
    kept: Sequence[Match | None],
    heard: Sequence[Heard],
    seconds: float,
) -> list[str]:
    """For each sentence `kept`, or why it is not."""
    given: list[str] = []
    mine = [False] * len(heard)
    for match in kept:
        if match:
            mine[match.first : match.last] = [True] * (match.last - match.first)
    before = _ends([match.last if match else None for match in kept])
    after = _ends([match.first if match else None for match in reversed(kept)])[::-1]
    for place, (sentence, match) in enumerate(zip(sentences, found, strict=True)):
        if kept[place]:
            given.append(KEPT)
        elif not speakable(sentence):
            given.append(NOTHING_TO_SAY)
        elif match and match.taken and any(mine[match.first : match.last]):
            given.append(OVERLAPS)
        elif match and match.share >= _KEEP / 2:
            given.append(UNCERTAIN)
        else:
            given.append(_absent(before[place], after[place], mine, heard, seconds))
    return given


def _ends(places: Sequence[int | None]) -> list[int | None]:
    """For each sentence the heard word at which the nearest kept sentence before it ends."""
    last: int | None = None
    found: list[int | None] = []
    for place in places:
        found.append(last)
        last = place if place is not None else last
    return found


def _absent(before: int | None, after: int | None, mine: list[bool], heard: Sequence[Heard], seconds: float) -> str:
    """Whether there is sound for a sentence between its neighbours that no other sentence has."""
    low = heard[before - 1].end if before else 0.0
    high = heard[after].start if after is not None and after < len(heard) else seconds
    free = [
        word.end - word.start for word, taken in zip(heard[before or 0 : after], mine[before or 0 : after], strict=True)
        if not taken
    ]  # fmt: skip
    return SOMETHING_ELSE if high > low and sum(free) >= _ROOM else NOT_SPOKEN
