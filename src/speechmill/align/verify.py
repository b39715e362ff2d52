"""Sentences that were not understood, found by their sound.

Of a voice that the model hears badly, recognised words tell little; but of forced alignments over one stretch of sound,
that of the words which were said there fits better than those of other sentences of the same call. So each sentence
that is missing in a gap is laid between the pauses of that gap, where it fits best, and stands if it fits better there
than sentences that are known to be elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speechmill.align.again import gaps
from speechmill.align.base import Aligner, Heard, Sentence
from speechmill.align.match import Match
from speechmill.align.sound import Levels, pauses
from speechmill.align.spoken import first_reading
from speechmill.audio import RATE, Pcm

_WORDS = 4  # a shorter sentence fits in too many places
_CLEAR = 0.6  # share of its words heard: a sentence that tells how fast its speaker speaks
_LENGTHS = (0.65, 1.5)  # of the seconds that it should take: those of a stretch in which a sentence is looked for
_MOST = 24  # stretches in which a sentence is looked for
_LONGEST = 60.0  # seconds of a gap that is looked through
_RIVALS = 3  # sentences that are elsewhere and as long, and may not fit as well
_MARGIN = 5.0  # of the scores of a frame, by which it fits better than any of these
_EDGE = 0.05  # seconds of sound taken along on each side


@dataclass(frozen=True)
class Placed:
    """Where sentence number `place` was found, by `margin` better than others; its words with their times."""

    place: int
    margin: float
    words: tuple[Heard, ...]

    @property
    def start(self) -> float:
        return self.words[0].start

    @property
    def end(self) -> float:
        return self.words[-1].end

    @property
    def confidence(self) -> float:
        """Between 0.5 and 0.9: sound that fits says less than words that were heard."""
        return 0.5 + 0.4 * (1.0 - math.exp(-(self.margin - _MARGIN) / 10.0))


def find_by_sound(
    aligner: Aligner,
    samples: Pcm,
    sentences: Sequence[Sentence],
    heard: Sequence[Heard],
    kept: Sequence[Match | None],
    levels: Levels,
) -> list[Placed]:
    """The sentences between kept ones that were not understood, and are there by their sound; none overlap."""
    texts = {sentence.place: first_reading(list(sentence.tokens)) for sentence in sentences}
    pace = _paces(sentences, heard, kept)
    marks = pauses(levels)
    elsewhere = [sentence for sentence, match in zip(sentences, kept, strict=True) if match]
    found: list[Placed] = []
    for gap in gaps(sentences, heard, kept, len(samples) / RATE):
        if gap.end - gap.start > _LONGEST:
            continue
        cuts = [gap.start, *(float(mark) for mark in marks if gap.start < mark < gap.end), gap.end]
        candidates = [
            placed
            for sentence in gap.expected
            if len(texts[sentence.place]) >= _WORDS
            and (placed := _best(aligner, samples, sentence, texts, cuts, pace, elsewhere))
        ]
        found += _apart(candidates)
    return found


def _best(
    aligner: Aligner, samples: Pcm, sentence: Sentence, texts: dict[int, list[str]], cuts: Sequence[float],
    pace: dict[str, float], elsewhere: Sequence[Sentence],
) -> Placed | None:  # fmt: skip
    words = texts[sentence.place]
    wanted = pace.get(sentence.speaker, pace[""]) * _letters(words)
    tried = []
    for start, end in _stretches(cuts, wanted):
        if scored := _score(aligner, samples, words, sentence.speaker, start, end):
            tried.append((*scored, start, end))
    if not tried:
        return None
    score, heard, start, end = max(tried, key=lambda one: one[0])
    likeness = sorted(elsewhere, key=lambda one: abs(_letters(texts[one.place]) - _letters(words)))
    rivals = [
        rival[0]
        for one in likeness[:_RIVALS]
        if (rival := _score(aligner, samples, texts[one.place], sentence.speaker, start, end))
    ]
    margin = score - max(rivals, default=math.inf)
    return Placed(sentence.place, margin, tuple(heard)) if margin >= _MARGIN else None


def _stretches(cuts: Sequence[float], wanted: float) -> list[tuple[float, float]]:
    """From each cut, to the two others that leave it most nearly as long as wanted; the likeliest lengths first."""
    found = []
    for number, start in enumerate(cuts):
        ends = [end for end in cuts[number + 1 :] if _LENGTHS[0] * wanted <= end - start <= _LENGTHS[1] * wanted]
        found += [(start, end) for end in sorted(ends, key=lambda end: abs(math.log((end - start) / wanted)))[:2]]
    return sorted(found, key=lambda one: abs(math.log((one[1] - one[0]) / wanted)))[:_MOST]


def _score(
    aligner: Aligner, samples: Pcm, words: Sequence[str], speaker: str, start: float, end: float
) -> tuple[float, list[Heard]] | None:
    low = max(0.0, start - _EDGE)
    scored = aligner.score(samples[round(low * RATE) : round((end + _EDGE) * RATE)], words, speaker)
    if scored is None:
        return None
    return scored[0], [Heard(word, first + low, last + low) for word, first, last in scored[1]]


def _apart(candidates: Sequence[Placed]) -> list[Placed]:
    """Those that share no sound; of two that do, the one that fits better."""
    found: list[Placed] = []
    for one in sorted(candidates, key=lambda one: -one.margin):
        if all(one.end <= other.start or other.end <= one.start for other in found):
            found.append(one)
    return sorted(found, key=lambda one: one.start)


def _paces(sentences: Sequence[Sentence], heard: Sequence[Heard], kept: Sequence[Match | None]) -> dict[str, float]:
    """Seconds a letter takes, of each speaker and (under "") of all."""
    each: dict[str, list[float]] = {"": []}
    for sentence, match in zip(sentences, kept, strict=True):
        if match and match.share >= _CLEAR:
            seconds = heard[match.last - 1].end - heard[match.first].start
            letters = sum(len(word) + 1 for word, _, _ in match.words)
            each.setdefault(sentence.speaker, []).append(seconds / letters)
            each[""].append(seconds / letters)
    return {speaker: float(np.median(of_them)) if of_them else 0.065 for speaker, of_them in each.items()}


def _letters(words: Sequence[str]) -> int:
    return sum(len(word) + 1 for word in words)
