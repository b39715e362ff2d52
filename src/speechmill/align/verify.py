"""Sentences that were not understood, found by their sound.

Of a voice that the model hears badly, recognised words tell little; but of forced alignments over one stretch of sound,
that of the words which were said there fits better than those of other sentences of the same call. So each sentence
that is missing in a gap is laid between the pauses of that gap, where it fits best, and stands if it fits better there
than sentences that are known to be elsewhere.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from speechmill.align.base import Aligner, Heard, Sentence, Stretch
from speechmill.align.match import Match
from speechmill.align.pace import letters
from speechmill.align.place import LONGEST
from speechmill.align.sound import Levels, pauses
from speechmill.align.spoken import first_reading
from speechmill.audio import RATE, Pcm

_WORDS, _FEW = 3, 4  # a shorter sentence fits in too many places; one under `_FEW` must fit as well as one out of order
_CLEAR = 0.6  # share of its words heard: a sentence that tells how fast its speaker speaks
_LENGTHS = (0.65, 1.5)  # of the seconds that it should take: those of a stretch in which a sentence is looked for
_MOST = 8  # stretches that are tried until one leaves its outer words room
_SAME = 0.5  # share of the shorter of two stretches that lies in the other: rivals fit the same sound
_SHORT = 0.8  # seconds of sound without a sentence, from which on it is looked through
_NEAR = 2  # sentences beyond those around it in time that may lie in it: neighbours may be in the wrong order
_FAR = 40  # sentences of the transcript that may be missing in it
_RIVALS = 6  # sentences that are elsewhere and as long, and may not fit as well
# Log likelihood of a frame, by which it fits better than any of these: in its place in the transcript, or out of order.
_MARGIN, _MARGIN_ASTRAY = 0.7, 1.7
_SQUEEZED = (0.6, 0.7)  # of the time that a word takes at its speaker's pace, and that two to `_OUTER` together take
_OUTER = 4
WORSE = 1.0  # log likelihood of a frame by which another stretch, which leaves room, may fit worse than the best
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
        """Between 0.7 and 0.9: sound that fits says less than words that were heard."""
        return 0.9 - 0.2 * math.exp(_MARGIN - self.margin)


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
    rivals, paces = _Rivals(elsewhere), _paces(sentences, heard, kept)
    marks = pauses(levels)
    candidates: dict[int, list[tuple[bool, float, Placed]]] = {}
    for start, end, order, near in _free(sentences, heard, kept, len(samples) / RATE):
        low, high = max(0.0, start - _EDGE), min(end + _EDGE, len(samples) / RATE)
        inside = slice(*np.searchsorted(marks, (start, end)))
        cuts = [0.0, *(marks[inside] - low).tolist(), high - low]
        missing = [place for place in near if not kept[place] and len(texts[place]) >= _WORDS]
        for place in sorted(missing, key=lambda place: sentences[place].speaker):  # a stretch is of one voice
            words, speaker = texts[place], sentences[place].speaker
            if not (stretch := aligner.stretch(samples, low, high, speaker)):
                continue
            fits = _best(stretch, words, rivals.of(words), cuts, paces.get(speaker, paces[""]))
            strict = place not in order or len(words) < _FEW
            if fits and fits[0] >= (_MARGIN_ASTRAY if strict else _MARGIN):
                there = tuple(Heard(one.word, one.start + low, one.end + low) for one in fits[1])
                one = Placed(sentences[place].place, fits[0], there)
                candidates.setdefault(place, []).append((place in order, fits[0], one))
    # In its place rather than out of order, whatever fits better.
    return _apart([max(some, key=lambda one: one[:2])[2] for some in candidates.values()])


def _free(
    sentences: Sequence[Sentence], heard: Sequence[Heard], kept: Sequence[Match | None], seconds: float
) -> Iterator[tuple[float, float, range, range]]:
    """Stretches of time that no kept sentence has, with the sentences between those around them in the transcript, and
    those near them.
    """
    spans = sorted(
        (heard[match.first].start, heard[match.last - 1].end, place) for place, match in enumerate(kept) if match
    )
    orderly = _orderly([(place, match.agreeing) for _, _, place in spans if (match := kept[place])])
    spans = [(0.0, 0.0, -1), *spans, (seconds, seconds, len(sentences))]
    for number, ((_, start, _), (end, _, _)) in enumerate(itertools.pairwise(spans)):
        if _SHORT <= end - start <= LONGEST:
            # A sentence that stands out of order may have moved, or have been found in a wrong place.
            low = next((place for _, _, place in reversed(spans[1 : number + 1]) if place in orderly), -1)
            high = next((place for _, _, place in spans[number + 1 : -1] if place in orderly), len(sentences))
            if high - low <= _FAR:
                near = range(max(0, low - _NEAR), min(len(sentences), high + _NEAR + 1))
                yield start, end, range(low, high), near


def _orderly(places: Sequence[tuple[int, int]]) -> set[int]:
    """Of places with their weights (over 0), those that follow each other in ascending order and weigh most."""
    ends: list[tuple[int, int, int]] = []  # of runs, the heavier the later: place, weight of the run, number
    before: list[int] = []
    for number, (place, weight) in enumerate(places):
        after = bisect.bisect_left(ends, (place, 0, 0))
        before.append(ends[after - 1][2] if after else -1)
        total = weight + (ends[after - 1][1] if after else 0)
        dominated = after
        while dominated < len(ends) and ends[dominated][1] <= total:
            dominated += 1
        ends[after:dominated] = [(place, total, number)]
    found: set[int] = set()
    at = ends[-1][2] if ends else -1
    while at >= 0:
        found.add(places[at][0])
        at = before[at]
    return found


def _best(
    stretch: Stretch, words: Sequence[str], rivals: Sequence[Sequence[str]], cuts: Sequence[float], pace: float
) -> tuple[float, list[Heard]] | None:
    """By how much the words fit better than their rivals where they fit best, and their times there; None where that
    cannot be told.
    """
    wanted = pace * letters(words)
    at = np.asarray(cuts)
    lengths = at[None, :] - at[:, None]
    long = (lengths >= _LENGTHS[0] * wanted) & (lengths <= _LENGTHS[1] * wanted)
    if not rivals or not long.any():
        return None
    useful = long.any(axis=0) | long.any(axis=1)
    at, lengths, long = at[useful], lengths[useful][:, useful], long[useful][:, useful]
    fits = stretch.fits([words, *rivals], at.tolist(), float(lengths[long].max()))
    fits[:, ~long] = -np.inf
    best: tuple[float, list[Heard]] | None = None
    for place in np.argsort(-fits[0], axis=None)[:_MOST].tolist():
        first, last = divmod(place, len(at))
        if not np.isfinite(fits[0, first, last]) or (best and fits[0, first, last] < best[0] - WORSE):
            break
        there = stretch.times(words, float(at[first]), float(at[last]))
        if there and (best is None or has_room(there, pace)):
            best = float(fits[0, first, last]), there
            if has_room(there, pace):
                break
    if best is None:
        return None
    start, end = best[1][0].start, best[1][-1].end
    shared = np.minimum(at[None, :], end) - np.maximum(at[:, None], start)
    same = shared > _SAME * np.minimum(np.maximum(lengths, 0.01), end - start)
    others = fits[1:][:, same]
    against = float(others.max()) if others.size else -np.inf
    return (best[0] - against, best[1]) if math.isfinite(against) else None


class _Rivals:
    """Texts as long as a sentence that are said elsewhere. `elsewhere`: the sentences that were understood."""

    def __init__(self, elsewhere: Sequence[Sequence[str]]) -> None:
        self._elsewhere = elsewhere
        self._lengths = np.array([letters(text) for text in elsewhere], np.int64)

    def of(self, words: Sequence[str]) -> list[list[str]]:
        """As many letters said elsewhere: of the sentences that are nearly as long, and what follows them."""
        wanted = letters(words)
        found = []
        for first in np.argsort(np.abs(self._lengths - wanted), kind="stable")[:_RIVALS].tolist():
            rival: list[str] = []
            following = itertools.chain(range(first, len(self._elsewhere)), range(first))
            for word in itertools.chain.from_iterable(self._elsewhere[place] for place in following):
                if rival and letters([*rival, word]) > wanted:
                    break
                rival.append(word)
            found.append(rival)
        return found


def has_room(words: Sequence[Heard], pace: float) -> bool:
    """Whether neither the first words nor the last are squeezed: else the stretch ends at a pause inside of it."""
    return edge_has_room(words, pace) and edge_has_room(words[::-1], pace)


def edge_has_room(words: Sequence[Heard], pace: float) -> bool:
    """The same of one edge; `words` are in the order from there inwards."""
    for number in range(1, min(_OUTER, len(words)) + 1):
        seconds = max(words[0].end, words[number - 1].end) - min(words[0].start, words[number - 1].start)
        if seconds < _SQUEEZED[number > 1] * pace * letters([word.word for word in words[:number]]):
            return False
    return True


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
            a_letter = seconds / letters([word for word, _, _ in match.words])
            each.setdefault(sentence.speaker, []).append(a_letter)
            each[""].append(a_letter)
    return {speaker: float(np.median(of_them)) if of_them else 0.065 for speaker, of_them in each.items()}
