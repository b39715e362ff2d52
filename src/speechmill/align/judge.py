"""Which sentences are kept, with what confidence, and why the others are not."""

from __future__ import annotations

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
UNREADABLE = "unreadable-recording"

_KEEP = 0.35  # share of the words heard from which a sentence is kept
_KEEP_EXPECTED = 0.4  # the same in a second listening
_SURE = 3  # words: a shorter sentence must be heard whole
_LEAST = 0.1  # share of sentences and of heard words: a transcript that matches less belongs to another recording
_ROOM = 0.7  # seconds of sound between neighbours in which something else may have been said


def confidence(match: Match, sentence: Sentence) -> float:
    """How sure it is that a sentence was said there, 0 to 1.

    A logistic of the share of its words that were heard, and of how many they are: two words out of two agree by chance
    more easily than twenty out of twenty. The curve is fitted in `benchmarks/align.py` (docs/align.md has the table).
    """
    del sentence
    words = max(len(match.words), 1)
    return 1.0 / (1.0 + math.exp(-(10.0 * (match.share - 0.35) + 1.2 * math.log(words / 4.0))))


def keep(found: Sequence[Match | None], before: Sequence[Match | None] | None = None) -> list[Match | None]:
    """The matches that are good enough to stand.

    `before` are those of the first listening: what the second adds must agree better, as it was told what to expect.
    """
    least = [_KEEP if before is None or before[place] else _KEEP_EXPECTED for place in range(len(found))]
    return [match if match and _stands(match, share) else None for match, share in zip(found, least, strict=True)]


def _stands(match: Match, share: float) -> bool:
    if len(match.words) <= _SURE:
        return match.agreeing == len(match.words) and match.last - match.first == len(match.words)
    return match.share >= share and match.agreeing >= 2


def speakable(sentence: Sentence) -> bool:
    """Whether a sentence has words that are said for sure: not only brackets, dashes or another script."""
    return any(token.readings[0] for token in sentence.tokens)


def belongs(sentences: Sequence[Sentence], kept: Sequence[Match | None], heard: int) -> bool:
    """Whether the transcript is of this recording: a tenth of its sentences, or of what was heard, agrees."""
    expected = sum(speakable(sentence) for sentence in sentences)
    matched = sum(match is not None for match in kept)
    words = sum(match.agreeing for match in kept if match)
    return matched >= _LEAST * max(expected, 1) or words >= _LEAST * max(heard, 1)


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
        elif match and match.share >= _KEEP / 2:
            overlapping = any(mine[match.first : match.last])
            given.append(OVERLAPS if overlapping else UNCERTAIN)
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
