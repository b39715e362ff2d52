"""Which heard words are which sentence's: islands of agreement first, then each sentence by itself near them.

A transcript may lack what was said, hold what was not, and have neighbours in the wrong order. One alignment of all
words (`score.align`) finds the islands: runs of words that agree. Each sentence is then fitted by itself, with all its
readings, into what was heard between the islands around it and a little beyond; of two sentences that want the same
words, the one that agrees better has them, and the other looks again.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from speechmill.align.base import Sentence
from speechmill.score.align import align

Ids = npt.NDArray[np.int64]
_SUBSTITUTED, _DELETED, _INSERTED = 0.4, 0.5, 0.75  # costs; a word that agrees gives 1
_BEYOND = 150  # heard words beyond the islands where a sentence out of order is looked for
_WIDEST = 3000  # heard words looked through for one sentence
_AWAY, _FAR = 0.5, 0.01  # costs of beginning or ending beyond the islands, and of each heard word between
_LEAST = 0.15  # share of a sentence's words; of one with fewer, nothing can be said
_ENOUGH = 0.3  # share of a sentence's words that tells where it would be
_RUN = 4  # words in a row that make an island


@dataclass(frozen=True)
class Match:
    """Where a sentence was found: from the first heard word that agrees to the one after the last (`first`, `last`).

    `words` are the chosen readings' words with their token and the heard word that agrees, -1 where none does.
    """

    first: int
    last: int
    words: tuple[tuple[str, int, int], ...]  # word, token, heard word or -1
    score: float
    taken: bool = False  # another sentence that agrees better has these heard words, and no others agree with this one

    @property
    def agreeing(self) -> int:
        return sum(heard >= 0 for _, _, heard in self.words)

    def extras(self) -> list[int]:
        """For each word, how many were heard between it and the next one heard that the sentence does not have."""
        found = [0] * len(self.words)
        agree = [number for number, (_, _, index) in enumerate(self.words) if index >= 0]
        for number, following in itertools.pairwise(agree):
            between = self.words[following][2] - self.words[number][2] - 1
            found[number] = max(0, between - (following - number - 1))
        return found

    @property
    def share(self) -> float:
        """Share of the sentence's words that were heard."""
        return self.agreeing / len(self.words) if self.words else 0.0


def match(sentences: Sequence[Sentence], heard: Sequence[str]) -> list[Match | None]:
    """The place of each sentence among the heard words, None where it has none at all.

    The places do not overlap, but for those of sentences that lost theirs to another (`Match.taken`).
    """
    numbers: dict[str, int] = {}
    ids = np.array([numbers.setdefault(word, len(numbers)) for word in heard], np.int64)
    windows = _windows(sentences, heard)
    found: list[Match | None] = [None] * len(sentences)
    owner = np.full(len(heard), -1, np.int64)
    queue: list[tuple[float, int, Match]] = []
    wanted: dict[int, Match] = {}  # by those that had to look again

    def look(place: int) -> None:
        if not _could_be(sentences[place], numbers):
            return
        candidate = _fit(sentences[place], ids, numbers, windows[place], owner)
        if candidate:
            heapq.heappush(queue, (-candidate.score, place, candidate))

    for place in range(len(sentences)):
        look(place)
    while queue:
        _, place, candidate = heapq.heappop(queue)
        if (owner[candidate.first : candidate.last] >= 0).any():
            wanted.setdefault(place, candidate)
            look(place)
        else:
            found[place] = candidate
            owner[candidate.first : candidate.last] = place
    for place, lost in wanted.items():
        left = found[place]
        if lost.share >= _ENOUGH and (left is None or left.share < _ENOUGH):
            found[place] = replace(lost, taken=True)
    return found


def _could_be(sentence: Sentence, numbers: dict[str, int]) -> bool:
    """Whether enough of a sentence's words were heard anywhere that its place is worth looking for."""
    words = [word for token in sentence.tokens for word in token.readings[0]]
    others = any(word in numbers for token in sentence.tokens for reading in token.readings[1:] for word in reading)
    known = sum(word in numbers for word in words)
    return others or (known > 0 and known >= _LEAST * len(words))


def _windows(sentences: Sequence[Sentence], heard: Sequence[str]) -> list[tuple[int, int]]:
    """For each sentence the heard words between the islands around it."""
    words = [word for sentence in sentences for token in sentence.tokens for word in token.readings[0]]
    starts = np.cumsum([0, *(sum(len(t.readings[0]) for t in s.tokens) for s in sentences)])
    anchors = islands(words, heard)
    ours, theirs = (np.array([pair[side] for pair in anchors], np.int64) for side in (0, 1))
    windows = []
    for first, last in itertools.pairwise(starts):
        before = int(np.searchsorted(ours, first))  # anchors before the sentence's first word
        after = int(np.searchsorted(ours, last))
        low = int(theirs[before - 1]) + 1 if before else 0
        high = int(theirs[after]) if after < len(theirs) else len(heard)
        windows.append((low, high))
    return windows


def islands(words: Sequence[str], heard: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (place in `words`, place in `heard`) that agree in runs of at least four, in both orders."""
    pairs: list[tuple[int, int]] = []
    ours = theirs = 0
    for edit in align(words, heard):
        if edit.op == "=":
            pairs.append((ours, theirs))
        ours += edit.op != "I"
        theirs += edit.op != "D"
    kept: list[tuple[int, int]] = []
    run: list[tuple[int, int]] = []
    for pair in [*pairs, (-9, -9)]:
        if run and (pair[0] != run[-1][0] + 1 or pair[1] != run[-1][1] + 1):
            kept += run if len(run) >= _RUN else []
            run = []
        run.append(pair)
    return kept


def _fit(sentence: Sentence, ids: Ids, numbers: dict[str, int], window: tuple[int, int], owner: Ids) -> Match | None:
    """The best place of a sentence in the heard words around its window; None where no word of it was heard there."""
    low, high = max(0, window[0] - _BEYOND), min(len(ids), window[1] + _BEYOND)
    if high - low > _WIDEST:  # nothing is known of where it is: look where any word of it was heard most densely
        low, high = _densest(sentence, ids, numbers, low, high)
    part = ids[low:high]
    # More than all its words can give and save: across what another sentence has, no place is ever the best, and who
    # looks again never comes back with a place that is taken.
    most = sum(max(map(len, token.readings)) for token in sentence.tokens)
    taken = 1.0 + (1.0 + _DELETED) * most
    costs = np.where(owner[low:high] >= 0, taken, _INSERTED)
    gone = np.concatenate([[0.0], np.cumsum(costs)])  # cost of passing the heard words before each place
    places = np.arange(low, high + 1)
    away = np.maximum(np.maximum(window[0] - places, places - window[1]), 0)
    grid = _Grid(part, gone, owner[low:high] >= 0, taken)
    outside: npt.NDArray[np.float64] = -_AWAY * (away > 0) - _FAR * away
    rows = [outside]
    inner: list[list[list[npt.NDArray[np.float64]]]] = []
    for token in sentence.tokens:
        options = []
        for reading in token.readings:
            options.append(grid.rows(rows[-1], [numbers.get(word, -1) for word in reading]))
        ends = [option[-1] for option in options]
        inner.append(options)
        rows.append(ends[0] if len(ends) == 1 else np.max(ends, axis=0))
    return _trace(sentence, grid, rows[-1] + outside, inner, numbers, low)


def _densest(sentence: Sentence, ids: Ids, numbers: dict[str, int], low: int, high: int) -> tuple[int, int]:
    wanted = [numbers[w] for token in sentence.tokens for w in token.readings[0] if w in numbers]
    hits = np.cumsum(np.isin(ids[low:high], wanted))
    width = min(_BEYOND, high - low)
    count: Ids = hits[width:] - hits[:-width]
    best = low + int(np.argmax(count))
    return max(low, best - _WIDEST // 2), min(high, best + width + _WIDEST // 2)


class _Grid:
    """Semi-global alignment against one stretch of heard words, a row of scores per word of a reading."""

    def __init__(self, part: Ids, gone: npt.NDArray[np.float64], taken: npt.NDArray[np.bool_], cost: float) -> None:
        self.part, self.gone, self.taken, self.cost = part, gone, taken, cost

    def rows(self, start: npt.NDArray[np.float64], reading: Sequence[int]) -> list[npt.NDArray[np.float64]]:
        """Best scores after each word of a reading, `[heard + 1]` each; the first row is `start`."""
        found = [start]
        for word in reading:
            found.append(self._pass(np.maximum(self._across(found[-1], word), self._down(found[-1]))))
        return found

    def gain(self, word: int) -> npt.NDArray[np.float64]:
        gains: npt.NDArray[np.float64] = np.where(
            self.taken, -self.cost, np.where(self.part == word, 1.0, -_SUBSTITUTED)
        )
        return gains

    def _across(self, row: npt.NDArray[np.float64], word: int) -> npt.NDArray[np.float64]:
        return np.concatenate([[-np.inf], row[:-1] + self.gain(word)])

    @staticmethod
    def _down(row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return row - _DELETED

    def _pass(self, row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        passed: npt.NDArray[np.float64] = np.maximum.accumulate(row + self.gone) - self.gone
        return passed


def _trace(
    sentence: Sentence,
    grid: _Grid,
    ends: npt.NDArray[np.float64],
    inner: list[list[list[npt.NDArray[np.float64]]]],
    numbers: dict[str, int],
    low: int,
) -> Match | None:
    """Walk back from the best end: which reading of each token, which heard word for each word."""
    column = int(np.argmax(ends))
    score = float(ends[column])
    backwards: list[tuple[str, int, int]] = []
    claimed: list[int] = []
    for place in range(len(sentence.tokens) - 1, -1, -1):
        options = inner[place]
        best = max(range(len(options)), key=lambda number: float(options[number][-1][column]))
        reading = sentence.tokens[place].readings[best]
        for word_place in range(len(reading), 0, -1):
            word = reading[word_place - 1]
            above, here = options[best][word_place - 1], options[best][word_place]
            while True:
                across = above[column - 1] + grid.gain(numbers.get(word, -1))[column - 1] if column else -np.inf
                if abs(here[column] - across) < 1e-9:
                    column -= 1
                    agrees = grid.part[column] == numbers.get(word, -1)
                    backwards.append((word, place, low + column if agrees else -1))
                    if agrees:
                        claimed.append(low + column)
                    break
                if abs(here[column] - (above[column] - _DELETED)) < 1e-9:
                    backwards.append((word, place, -1))
                    break
                column -= 1
    if not claimed:
        return None
    return Match(min(claimed), max(claimed) + 1, tuple(backwards[::-1]), score)
