"""Alignment with a reference that has alternatives: exact over all paths, no beam.

A reference is a sequence of words and choices; of a choice, one way is taken (`2020`, or `twenty twenty`, or nothing).
The alignment is the one with the fewest errors over all paths. Ties follow the rule of `score.align`, from the last
words backwards; where a choice ends, each step of the rule is tried on its ways in their order (words as written, then
the candidates as they are listed), and a way without words is taken after equal words, before a deletion. Without
choices this is `align`, edit for edit.

The distances to all lengths of the hypothesis are held as bits (`score.columns`). The ways of a choice start from one
column, are swept alone, and are merged to the smallest value in each row. They differ from the column that they started
from by no more than their length, so that the differences fit into a few bit planes (a signed number for each row, its
bits spread over as many integers): to compare and to choose are then a few operations on whole columns.

Only a band of rows is computed. The words as written need some number of errors, the best path no more: a place in both
texts that is further apart, by the lengths of what lies before and behind it, is on no best path. All paths within that
number of errors are inside the band, what is next to it is never taken for less than it is, so the result is the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from speechmill.score.columns import Column, Window, first_column, moved, places_of, step, sweep
from speechmill.score.distance import distance
from speechmill.score.edit import Edit, Operation

TABLE_BYTES = 96 * 2**20
"""Bits of so many columns are held at once; longer texts are swept forwards once, then again, block by block."""
_SHORT = 200  # words of a hypothesis for which a band saves nothing
_RUN = 256  # words at most that share a window

Way = tuple[str, ...]
Planes = tuple[int, ...]
"""Bit `j` of plane `k` is bit `k` of a number (two's complement) that belongs to row `low + j`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A place of the reference that several ways through explain, in order; the first is as written.

    `label` is the class of the entity that is there, empty where it is none.
    """

    ways: tuple[Way, ...]
    label: str = ""

    def __post_init__(self) -> None:
        if not self.ways:
            raise ValueError("a choice needs a way; as written is one")


class Span(NamedTuple):
    """The edits `first` to `last` (exclusive) that a choice took, insertions at its ends not included."""

    choice: Choice
    first: int
    last: int


def align_lattice(
    reference: Sequence[str | Choice], hypothesis: Sequence[str], table_bytes: int = TABLE_BYTES
) -> tuple[list[Edit], list[Span]]:
    """Return the alignment with the fewest errors over all paths, and what each choice took of it, in reading order.

    Two texts of 15,000 words with 20 % of errors and 1,000 choices take about 0.2 s; `table_bytes` bounds the memory.
    """
    places = places_of(hypothesis)
    parts = list(_parts(reference))
    windows = _windows(parts, len(hypothesis), _bound(reference, hypothesis))
    blocks = _blocks(parts, windows, table_bytes)
    begin = windows[0] if windows else Window(0, len(hypothesis))
    starts = [(first_column(begin), begin)]
    for first, last in blocks[:-1]:
        start = starts[-1]
        for place in range(first, last):
            start = _forward(parts[place], places, windows[place], *start).end
        starts.append(start)
    tracing = _Tracing(hypothesis)
    for first, last in reversed(blocks):
        start = starts.pop()
        done: list[_Run | _Merge] = []
        for place in range(first, last):
            done.append(_forward(parts[place], places, windows[place], *start))
            start = done[-1].end
        while done:
            tracing.back(done.pop())
    return tracing.ended()


class _Run(NamedTuple):
    """Words in a row, swept: for each, the rises along the hypothesis and those from the column before."""

    words: Sequence[str]
    table: Sequence[tuple[int, int]]
    end: tuple[Column, Window]


class _Merge(NamedTuple):
    """A choice, swept: the tables of its ways, and the rows (from the window's lowest on) in which each is best."""

    choice: Choice
    tables: list[list[tuple[int, int]]]
    best: list[int]
    end: tuple[Column, Window]


def _parts(reference: Sequence[str | Choice]) -> Iterator[list[str] | Choice]:
    """Yield the choices, and what is between them as lists of words."""
    words: list[str] = []
    for item in reference:
        if isinstance(item, str) and len(words) < _RUN:
            words.append(item)
            continue
        if words:
            yield words
        if isinstance(item, str):
            words = [item]
        else:
            words = []
            yield item
    if words:
        yield words


def _bound(reference: Sequence[str | Choice], hypothesis: Sequence[str]) -> int:
    """Return a number of errors that the best path does not exceed: that of the words as written."""
    written = [word for item in reference for word in ((item,) if isinstance(item, str) else item.ways[0])]
    if len(hypothesis) < _SHORT:
        return len(written) + len(hypothesis)
    return distance(written, hypothesis)


def _windows(parts: Sequence[list[str] | Choice], size: int, errors: int) -> list[Window]:
    """Return for each part the rows that paths of at most so many errors can be in, at its ends and between them."""
    lengths = [
        (len(part), len(part)) if isinstance(part, list) else (min(map(len, part.ways)), max(map(len, part.ways)))
        for part in parts
    ]
    shortest = list(itertools.accumulate((least for least, _ in lengths), initial=0))
    longest = list(itertools.accumulate((most for _, most in lengths), initial=0))
    ends = []
    for short, long in zip(shortest, longest, strict=True):
        # So many hypothesis words fewer than the shortest path to here (more than the longest), and the rest pays too.
        fewer = min(errors, (errors - (size - short - (longest[-1] - long))) // 2)
        more = min(errors, (errors - (shortest[-1] - short + long - size)) // 2)
        # A row more below, so that no best path is in the lowest row of a window, unless that is the first of all.
        ends.append(Window(min(size, max(0, short - fewer - 1)), max(0, min(size, long + more))))
    return [Window(one.low, other.high) for one, other in itertools.pairwise(ends)]


def _blocks(parts: Sequence[list[str] | Choice], windows: Sequence[Window], table_bytes: int) -> list[tuple[int, int]]:
    """Divide the parts, first and behind last, so that the tables of each block take about `table_bytes`."""
    cuts, held = [0], 0
    for place, (part, window) in enumerate(zip(parts, windows, strict=True)):
        columns = 2 * len(part) if isinstance(part, list) else sum(2 * len(way) + 1 for way in part.ways)
        cost = columns * ((window.high - window.low) // 7 + 32)
        if held and held + cost > table_bytes:
            cuts.append(place)
            held = 0
        held += cost
    return list(itertools.pairwise([*cuts, len(parts)]))


def _forward(
    part: list[str] | Choice, places: dict[str, int], window: Window, column: Column, before: Window
) -> _Run | _Merge:
    start = moved(column, before, window)
    if isinstance(part, Choice):
        return _merge(part, places, window, start)
    table, end = sweep(places, part, window, start)
    return _Run(part, table, (end, window))


class _State(NamedTuple):
    """Where a way stands: its column, the difference to the column it started from, its tables so far."""

    column: Column
    difference: Planes
    table: list[tuple[int, int]]


def _merge(choice: Choice, places: dict[str, int], window: Window, start: Column) -> _Merge:
    """Sweep each way from `start` (what two ways begin with, once) and take the best at each place."""
    full = (1 << (window.high - window.low)) - 1
    planes = max(2, (2 * max(map(len, choice.ways)) + 1).bit_length())
    states: dict[Way, _State] = {(): _State(start, (0,) * planes, [])}
    for way in choice.ways:
        for length in range(len(way)):
            if way[: length + 1] not in states:
                before = states[way[:length]]
                equal = (places.get(way[length], 0) >> window.low) & full
                column, rises, falls = step(equal, before.column, full)
                # In the lowest row, each word of the way is one more deletion.
                difference = _added(before.difference, (rises << 1) | 1, falls << 1)
                states[way[: length + 1]] = _State(column, difference, [*before.table, (column.rises, rises)])
    smallest = states[choice.ways[0]].difference
    for way in choice.ways[1:]:
        smallest = _smaller(smallest, states[way].difference, (full << 1) | 1)
    best = [_equal(smallest, states[way].difference, (full << 1) | 1) for way in choice.ways]
    return _Merge(choice, [states[way].table for way in choice.ways], best, (_sum(start, smallest, full), window))


def _added(number: Planes, rises: int, falls: int) -> Planes:
    """Add one where `rises` has a bit, subtract one where `falls` has."""
    found = []
    addend, carry = rises | falls, 0
    for plane in number:
        found.append(plane ^ addend ^ carry)
        carry = (plane & (addend | carry)) | (addend & carry)
        addend = falls
    return tuple(found)


def _smaller(one: Planes, other: Planes, full: int) -> Planes:
    """Return the smaller number at each place."""
    less, undecided = 0, full  # where `other` is less
    sign = len(one) - 1
    for place in range(sign, -1, -1):
        unequal = undecided & (one[place] ^ other[place])
        less |= unequal & (other[place] if place == sign else one[place])  # a sign bit makes a number less
        undecided ^= unequal
    return tuple(mine ^ ((mine ^ theirs) & less) for mine, theirs in zip(one, other, strict=True))


def _equal(one: Planes, other: Planes, full: int) -> int:
    unequal = 0
    for mine, theirs in zip(one, other, strict=True):
        unequal |= mine ^ theirs
    return full & ~unequal


def _sum(start: Column, difference: Planes, full: int) -> Column:
    """Return the column that differs from `start` by these numbers.

    Its own steps along the hypothesis are -1, 0 or 1: the last two bits of the sum tell which.
    """
    low, high = difference[0], difference[1]
    a, b, c = start.rises | start.falls, low >> 1, low & full  # the step of `start`, the number here, that before
    odd = a ^ b ^ c
    carry = (a & (b | c)) | (b & c)
    negative = (start.falls ^ (high >> 1) ^ ((high ^ low) & full) ^ carry) & full
    return Column(odd & ~negative, odd & negative)


class _Tracing:
    """Walks backwards from the end of both texts, collecting edits."""

    def __init__(self, hypothesis: Sequence[str]) -> None:
        self.hypothesis = hypothesis
        self.place = len(hypothesis)
        self.edits: list[Edit] = []
        self.spans: list[tuple[Choice, int, int]] = []

    def back(self, part: _Run | _Merge) -> None:
        low = part.end[1].low
        if isinstance(part, _Run):
            self._words(part.words, part.table, low)
            return
        way, operation = self._last_step(part, low)
        while way is None:
            self._take("I", None)
            way, operation = self._last_step(part, low)
        first, words = len(self.edits), part.choice.ways[way]
        if words:
            self._take(operation, words[-1])
            self._words(words[:-1], part.tables[way][:-1], low)
        self.spans.append((part.choice, first, len(self.edits)))

    def ended(self) -> tuple[list[Edit], list[Span]]:
        while self.place:
            self._take("I", None)
        total = len(self.edits)
        spans = [Span(choice, total - last, total - first) for choice, first, last in reversed(self.spans)]
        return self.edits[::-1], spans

    def _last_step(self, part: _Merge, low: int) -> tuple[int | None, Operation]:
        """Return the way that the end of a choice is left by, backwards, and the step; no way where one inserts."""
        ways, tables, row = part.choice.ways, part.tables, self.place - low
        best = [way for way, rows in enumerate(part.best) if rows >> row & 1]
        if self.place:
            heard = self.hypothesis[self.place - 1]
            for way in best:
                if ways[way] and ways[way][-1] == heard:
                    return way, "="
        for way in best:
            if not ways[way]:
                return way, "="
        for way in best:
            if not row or tables[way][-1][1] >> (row - 1) & 1:
                return way, "D"
        if part.end[0].rises >> (row - 1) & 1:
            return None, "I"
        return best[0], "S"

    def _words(self, words: Sequence[str], table: Sequence[tuple[int, int]], low: int) -> None:
        hypothesis, place, edits = self.hypothesis, self.place, self.edits
        for word, (rises, rises_from_before) in zip(reversed(words), reversed(table), strict=True):
            while True:
                heard, bit = hypothesis[place - 1] if place else None, place - low - 1
                if heard is None or (word != heard and rises_from_before >> bit & 1):
                    edits.append(Edit("D", word, None))
                    break
                place -= 1
                if word != heard and rises >> bit & 1:
                    edits.append(Edit("I", None, heard))
                    continue
                edits.append(Edit("=" if word == heard else "S", word, heard))
                break
        self.place = place

    def _take(self, operation: Operation, word: str | None) -> None:
        heard = None
        if operation != "D":
            self.place -= 1
            heard = self.hypothesis[self.place]
        self.edits.append(Edit(operation, word, heard))
