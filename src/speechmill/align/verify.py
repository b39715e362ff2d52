"""Sentences that were not understood, found by their sound.

Of a voice that the model hears badly, recognised words tell little; but of forced alignments over one stretch of sound,
that of the words which were said there fits better than those of other sentences of the same call. So each sentence
that is missing in a gap is laid between the pauses of that gap, where it fits best, and stands if it fits better there
than sentences that are known to be elsewhere.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from speechmill.align.base import Aligner, Heard, Sentence
from speechmill.align.match import Match
from speechmill.align.sound import Levels, pauses
from speechmill.align.spoken import first_reading
from speechmill.audio import RATE, Pcm

_WORDS, _FEW = 3, 4  # a shorter sentence fits in too many places; one under `_FEW` must fit as well as one out of order
_CLEAR = 0.6  # share of its words heard: a sentence that tells how fast its speaker speaks
_LENGTHS = (0.65, 1.5)  # of the seconds that it should take: those of a stretch in which a sentence is looked for
_MOST = 8  # stretches in which a sentence is looked for
_SHORT, _LONGEST = 0.8, 60.0  # seconds of sound without a sentence that is looked through
_NEAR = 2  # sentences beyond those around it in time that may lie in it: neighbours may be in the wrong order
_FAR = 40  # sentences of the transcript that may be missing in it
_RIVALS = 2  # sentences that are elsewhere and as long, and may not fit as well
# Of the scores of a frame, by which it fits better than any of these: in its place in the transcript, or out of order.
_MARGIN, _MARGIN_ASTRAY = 6.5, 16.0
_MOST_SOUND = 6.0  # times the recording: so much sound is scored, and then what is missing stays so
_SQUEEZED = 0.4  # of the time that a word takes at its speaker's pace
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
    texts = [first_reading(list(sentence.tokens)) for sentence in sentences]
    elsewhere = [text for text, match in zip(texts, kept, strict=True) if match and text]
    search = _Search(aligner, samples, _paces(sentences, heard, kept), elsewhere)
    marks = pauses(levels)
    found: dict[int, Placed] = {}
    free = list(_free(sentences, heard, kept, len(samples) / RATE))
    for out_of_order in (False, True):
        for start, end, order, near in free:
            inside = slice(*np.searchsorted(marks, (start, end)))
            cuts = [start, *marks[inside].tolist(), end]
            for place in near:
                if kept[place] or place in found or (place in order) == out_of_order or len(texts[place]) < _WORDS:
                    continue
                fits = search.best(texts[place], sentences[place].speaker, cuts)
                strict = out_of_order or len(texts[place]) < _FEW
                if fits and fits[0] >= (_MARGIN_ASTRAY if strict else _MARGIN):
                    found[place] = Placed(sentences[place].place, fits[0], tuple(fits[1]))
    return _apart(list(found.values()))


def _free(
    sentences: Sequence[Sentence], heard: Sequence[Heard], kept: Sequence[Match | None], seconds: float
) -> Iterator[tuple[float, float, range, range]]:
    """Stretches of time that no kept sentence has, with the sentences between those around them in the transcript, and
    those near them.
    """
    spans = sorted(
        (heard[match.first].start, heard[match.last - 1].end, place) for place, match in enumerate(kept) if match
    )
    spans = [(0.0, 0.0, -1), *spans, (seconds, seconds, len(sentences))]
    for (_, start, one), (end, _, other) in itertools.pairwise(spans):
        if _SHORT <= end - start <= _LONGEST:
            low, high = min(one, other), max(one, other)
            if high - low <= _FAR:
                near = range(max(0, low - _NEAR), min(len(sentences), high + _NEAR + 1))
                yield start, end, range(low, high), near


class _Search:
    """Looks for one sentence after another. `pace`: see `_paces`; `elsewhere`: the sentences that were understood."""

    def __init__(
        self, aligner: Aligner, samples: Pcm, pace: dict[str, float], elsewhere: Sequence[Sequence[str]]
    ) -> None:
        self.aligner, self.samples, self.pace, self.elsewhere = aligner, samples, pace, elsewhere
        self.lengths = np.array([_letters(text) for text in elsewhere], np.int64)
        self.left = round(_MOST_SOUND * len(samples))

    def best(self, words: Sequence[str], speaker: str, cuts: Sequence[float]) -> tuple[float, list[Heard]] | None:
        """By how much the words fit better than their rivals where they fit best, and their times there; None where
        that cannot be told.
        """
        pace = self.pace.get(speaker, self.pace[""])
        stretches = _stretches(cuts, pace * _letters(words))
        own = self._scored(words, speaker, stretches)
        own = [one for one in own if _has_room(one[1], pace)] or own
        if not own:
            return None
        score, heard = max(own, key=lambda one: one[0])
        there = [one for one in stretches if _shared(one, (heard[0].start, heard[-1].end)) > 0.5]
        others = [one for rival in self._rivals(words) for one, _ in self._scored(rival, speaker, there)]
        return (score - max(others), heard) if others else None

    def _rivals(self, words: Sequence[str]) -> list[list[str]]:
        """As many letters said elsewhere: of the sentences that are nearly as long, and what follows them."""
        wanted = _letters(words)
        found = []
        for first in np.argsort(np.abs(self.lengths - wanted), kind="stable")[:_RIVALS].tolist():
            rival: list[str] = []
            following = itertools.chain(range(first, len(self.elsewhere)), range(first))
            for word in itertools.chain.from_iterable(self.elsewhere[place] for place in following):
                if rival and _letters([*rival, word]) > wanted:
                    break
                rival.append(word)
            found.append(rival)
        return found

    def _scored(
        self, words: Sequence[str], speaker: str, stretches: Sequence[tuple[float, float]]
    ) -> list[tuple[float, list[Heard]]]:
        found = []
        for start, end in stretches:
            low = max(0.0, start - _EDGE)
            part = self.samples[round(low * RATE) : round((end + _EDGE) * RATE)]
            if self.left >= len(part) and (scored := self.aligner.score(part, words, speaker)):
                self.left -= len(part)
                found.append((scored[0], [Heard(word, first + low, last + low) for word, first, last in scored[1]]))
        return found


def _has_room(words: Sequence[Heard], pace: float) -> bool:
    """Whether neither the first word nor the last is squeezed: then the stretch ends at a pause inside the sentence."""
    return all(word.end - word.start >= _SQUEEZED * pace * _letters([word.word]) for word in (words[0], words[-1]))


def _shared(one: tuple[float, float], other: tuple[float, float]) -> float:
    """What two stretches share, of the shorter."""
    return (min(one[1], other[1]) - max(one[0], other[0])) / max(0.01, min(one[1] - one[0], other[1] - other[0]))


def _stretches(cuts: Sequence[float], wanted: float) -> list[tuple[float, float]]:
    """From each cut, to the two others that leave it most nearly as long as wanted; the likeliest lengths first."""
    found = []
    for number, start in enumerate(cuts):
        ends = [end for end in cuts[number + 1 :] if _LENGTHS[0] * wanted <= end - start <= _LENGTHS[1] * wanted]
        found += [(start, end) for end in sorted(ends, key=lambda end: abs(math.log((end - start) / wanted)))[:2]]
    return sorted(found, key=lambda one: abs(math.log((one[1] - one[0]) / wanted)))[:_MOST]


def _apart(candidates: Sequence[Placed]) -> list[Placed]:
    """Those that share no sound but at their edges; of two that do, the one that fits better."""
    found: list[Placed] = []
    for one in sorted(candidates, key=lambda one: -one.margin):
        if all(one.end <= other.start + 2 * _EDGE or other.end <= one.start + 2 * _EDGE for other in found):
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
