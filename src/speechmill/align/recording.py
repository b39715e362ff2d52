"""One recording with its transcript: listen, match, fit, judge. What comes out is plain values, times in seconds."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from speechmill.align import judge
from speechmill.align.again import ROUNDS, listen_again
from speechmill.align.base import Aligner, Heard, Sentence
from speechmill.align.match import Match, match
from speechmill.align.outer import lay_outer_words
from speechmill.align.place import Word, fit_words, rewrite, trusted
from speechmill.align.sound import SECONDS, Levels, edges, levels, long_pauses, part
from speechmill.align.verify import Placed, find_by_sound
from speechmill.audio import RATE, Pcm

_AROUND = 0.15  # seconds that the edges of a sentence which was found by its sound may move outwards


@dataclass(frozen=True)
class TimedToken:
    """A written token; times are null where it is not said. `heard` is false where something else was understood;
    `extra` words were heard in or after it, up to the next one heard, beyond those that are written there."""

    written: str
    start: float | None
    end: float | None
    heard: bool
    extra: int = 0
    by_sound: bool = False  # of a sentence that was found by its sound, as a whole
    instead: str | None = None  # at the head of an open place (`opened`) what is said there; None elsewhere


@dataclass(frozen=True)
class Outcome:
    """What became of one sentence. No times where nothing of it was found, no tokens where it was not kept."""

    place: int
    reason: str  # judge.KEPT, or why it was not
    confidence: float
    start: float | None = None
    end: float | None = None
    tokens: tuple[TimedToken, ...] = ()

    @property
    def kept(self) -> bool:
        return self.reason == judge.KEPT


@dataclass(frozen=True)
class Aligned:
    """A recording's sentences, and where speech was that is no sentence's (pairs of seconds)."""

    seconds: float
    outcomes: tuple[Outcome, ...]
    others: tuple[tuple[float, float], ...]  # heard words of no kept sentence


def align_recording(aligner: Aligner, samples: Pcm, sentences: Sequence[Sentence]) -> Aligned:
    """Align int16 `[samples]` (16 kHz, mono) with its transcript."""
    seconds = len(samples) / RATE
    aligner.prepare(sentences)
    heard = [word for piece in aligner.listen(samples) for word in piece]
    found = match(sentences, [word.word for word in heard])
    kept = judge.keep(found)
    # Voices that are heard badly are understood in the second listening. So if any sentence was found, whose transcript
    # it is is judged after that.
    for number in range(ROUNDS if any(kept) else 0):
        if number and not judge.belongs(sentences, kept, len(heard)):
            break
        again = listen_again(aligner, samples, sentences, heard, kept)
        if again is None:
            break
        found_again = match(sentences, [word.word for word in again])
        kept_again = judge.keep(found_again, kept)
        more, as_much = _found(kept_again), _found(kept)
        if more <= as_much:
            break  # what was heard before stands
        heard, found, kept = again, found_again, kept_again
        if more[0] == as_much[0]:
            break
    if not judge.belongs(sentences, kept, len(heard)):
        reason = judge.OTHER if heard else judge.NOT_SPOKEN
        none = tuple(Outcome(sentence.place, _no(sentence, reason), 0.0) for sentence in sentences)
        return Aligned(seconds, none, _others(heard, []))
    kept = trusted(heard, kept)
    found = [certain or candidate for certain, candidate in zip(kept, found, strict=True)]
    given = judge.reasons(sentences, found, kept, heard, seconds)
    found_levels = levels(samples)
    placed = find_by_sound(aligner, samples, sentences, heard, kept, found_levels)
    words = fit_words(aligner, samples, rewrite(heard, kept, seconds))
    taken = [(one.start, one.end) for one in placed]
    words = _parted(lay_outer_words(aligner, samples, sentences, words, taken, found_levels), found_levels)
    outcomes = _outcomes(sentences, found, given, words, found_levels)
    outcomes = tuple(
        replace(outcome, start=heard[candidate.first].start, end=heard[candidate.last - 1].end)
        if candidate and outcome.reason == judge.UNCERTAIN
        else outcome
        for outcome, candidate in zip(outcomes, found, strict=True)
    )
    outcomes, spans = _with_placed(sentences, outcomes, placed, found_levels)
    return Aligned(seconds, outcomes, tuple(one for one in _others(heard, kept) if not _within(one, spans)))


def _with_placed(
    sentences: Sequence[Sentence], outcomes: Sequence[Outcome], placed: Sequence[Placed], found_levels: Levels
) -> tuple[tuple[Outcome, ...], list[tuple[float, float]]]:
    """Outcomes with those of sentences that were found by their sound, and the seconds of these, in order.

    Their words, which were not understood, are all marked. What lies in the sound of a kept sentence is left.
    """
    taken = sorted((one.start or 0.0, one.end or 0.0) for one in outcomes if one.kept)
    made: dict[int, Outcome] = {}
    spans: list[tuple[float, float]] = []
    for one in sorted(placed, key=lambda one: one.start):
        after = bisect.bisect(taken, ((one.start + one.end) / 2, math.inf))
        low = max(taken[after - 1][1] if after else 0.0, spans[-1][1] if spans else 0.0)
        high = taken[after][0] if after < len(taken) else len(found_levels) * SECONDS
        if low - one.start > _AROUND or one.end - high > _AROUND:
            continue
        around = (max(low, one.start - _AROUND), min(high, one.end + _AROUND))
        start, end = edges(found_levels, max(one.start, low), min(one.end, high), *around)
        sentence = sentences[one.place]
        numbers = [number for number, token in enumerate(sentence.tokens) for _ in token.readings[0]]
        words = [
            Word(word, one.place, number, False, min(max(first, start), end), min(max(last, start), end), True)
            for (word, first, last, _), number in zip(one.words, numbers, strict=True)
        ]
        tokens = tuple(replace(token, by_sound=True) for token in _tokens(sentence, words))
        made[one.place] = Outcome(one.place, judge.KEPT, one.confidence, start, end, tokens)
        spans.append((start, end))
    return tuple(made.get(one.place, one) for one in outcomes), spans


def _within(stretch: tuple[float, float], spans: Sequence[tuple[float, float]]) -> bool:
    """Whether the middle of a stretch lies in one of the spans, which are in order."""
    middle = sum(stretch) / 2
    before = bisect.bisect(spans, (middle, math.inf))
    return before > 0 and middle <= spans[before - 1][1]


def _found(kept: Sequence[Match | None]) -> tuple[int, int]:
    """Sentences, and words of them that were heard."""
    return sum(map(bool, kept)), sum(match.agreeing for match in kept if match)


def _no(sentence: Sentence, reason: str) -> str:
    return reason if judge.speakable(sentence) else judge.NOTHING_TO_SAY


def _others(heard: Sequence[Heard], kept: Sequence[Match | None]) -> tuple[tuple[float, float], ...]:
    taken = [False] * len(heard)
    for found in kept:
        if found:
            taken[found.first : found.last] = [True] * (found.last - found.first)
    return tuple((word.start, word.end) for word, gone in zip(heard, taken, strict=True) if not gone)


def _outcomes(
    sentences: Sequence[Sentence],
    found: Sequence[Match | None],
    given: Sequence[str],
    words: Sequence[Word],
    found_levels: Levels,
) -> tuple[Outcome, ...]:
    groups: dict[int, list[int]] = {}
    for place, word in enumerate(words):
        if word.sentence >= 0:
            groups.setdefault(word.sentence, []).append(place)
    outcomes: list[Outcome] = []
    for number, (sentence, reason) in enumerate(zip(sentences, given, strict=True)):
        candidate = found[number]
        sure = judge.confidence(candidate) if candidate else 0.0
        if reason != judge.KEPT or number not in groups:
            outcomes.append(Outcome(sentence.place, reason, sure))
            continue
        mine = groups[number]
        first, last = words[mine[0]], words[mine[-1]]
        earliest = words[mine[0] - 1].end if mine[0] else 0.0
        latest = words[mine[-1] + 1].start if mine[-1] + 1 < len(words) else len(found_levels) * SECONDS
        start, end = edges(found_levels, first.start, last.end, earliest, latest)
        tokens = _tokens(sentence, [words[place] for place in mine])
        outcomes.append(Outcome(sentence.place, reason, sure, start, end, tokens))
    return tuple(outcomes)


def _parted(words: Sequence[Word], found_levels: Levels) -> list[Word]:
    """The words, the last of each sentence and the one after it on their sides of the pause between them."""
    parted = list(words)
    long = long_pauses(found_levels)
    for place in range(len(words) - 1):
        before, after = parted[place], parted[place + 1]
        if before.sentence != after.sentence:
            end, start = part(long, (before.start, before.end), (after.start, after.end))
            parted[place], parted[place + 1] = replace(before, end=end), replace(after, start=start)
    return parted


def _tokens(sentence: Sentence, words: Sequence[Word]) -> tuple[TimedToken, ...]:
    timed: list[TimedToken] = []
    place = 0
    for number, token in enumerate(sentence.tokens):
        first = place
        while place < len(words) and words[place].token == number:
            place += 1
        mine = words[first:place]
        if not mine:
            timed.append(TimedToken(token.written, None, None, True))
        else:
            agree = all(word.agrees for word in mine)
            extra = sum(word.extra for word in mine)
            timed.append(TimedToken(token.written, mine[0].start, mine[-1].end, agree, extra))
    return tuple(timed)
