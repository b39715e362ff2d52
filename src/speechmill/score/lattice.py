"""Alignment with a reference that has alternatives: exact over all paths, no beam.

A reference is a sequence of words and choices; of a choice, one way is taken (`2020`, or `twenty twenty`, or nothing).
The alignment is the one with the fewest errors over all paths. Ties follow the rule of `score.align`, from the last
words backwards; where a choice ends, each step of the rule is tried on its ways in their order (words as written, then
the candidates as they are listed), and a way without words is taken after equal words, before a deletion. Without
choices this is `align`, edit for edit.

The distances to all lengths of the hypothesis are held as the bits of two integers, as in `score.align`, only with the
texts' roles swapped: a column belongs to a place in the reference. The ways of a choice start from one column, are
swept alone, and are merged to the smallest value at each place. They differ from the column that they started from by
no more than their length, so that the differences fit into a few bit planes (a signed number at each place, its bits
spread over as many integers): to compare and to choose are then a few operations on whole columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from speechmill.score.align import TABLE_BYTES, Column, Edit, Operation, places_of, step, sweep

Way = tuple[str, ...]
Planes = tuple[int, ...]
"""Bit `j` of plane `k` is bit `k` of a number (two's complement) that belongs to the first `j` hypothesis words."""


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

    Two texts of 15,000 words with 800 choices take about 0.3 s; `table_bytes` bounds the memory, about.
    """
    places = places_of(hypothesis)
    blocks = _blocks(reference, len(hypothesis), table_bytes)
    starts = [Column(rises=(1 << len(hypothesis)) - 1, falls=0)]
    for block in blocks[:-1]:
        start = starts[-1]
        for part in _parts(block):
            start = _forward(part, places, len(hypothesis), start).column
        starts.append(start)
    tracing = _Tracing(hypothesis)
    while blocks:
        start = starts.pop()
        done: list[_Run | _Merge] = []
        for part in _parts(blocks.pop()):
            done.append(_forward(part, places, len(hypothesis), start))
            start = done[-1].column
        while done:
            tracing.back(done.pop())
    return tracing.ended()


class _Run(NamedTuple):
    """Words in a row, swept: for each, the rises along the hypothesis and those from the column before."""

    words: Sequence[str]
    table: Sequence[tuple[int, int]]
    column: Column


class _Merge(NamedTuple):
    """A choice, swept: its ways, the places (bits, from none of the hypothesis on) at which each is best."""

    choice: Choice
    tables: list[list[tuple[int, int]]]
    best: list[int]
    column: Column


def _blocks(reference: Sequence[str | Choice], columns: int, table_bytes: int) -> list[Sequence[str | Choice]]:
    """Divide the reference so that the tables of each part take about `table_bytes`."""
    column_bytes = columns // 7 + 32
    blocks: list[Sequence[str | Choice]] = []
    first, held = 0, 0
    for place, item in enumerate(reference):
        cost = column_bytes * (2 if isinstance(item, str) else sum(2 * len(way) + 1 for way in item.ways))
        if held and held + cost > table_bytes:
            blocks.append(reference[first:place])
            first, held = place, 0
        held += cost
    return [*blocks, reference[first:]]


def _parts(reference: Iterable[str | Choice]) -> Iterator[list[str] | Choice]:
    """Yield the choices, and what is between them as lists of words."""
    words: list[str] = []
    for item in reference:
        if isinstance(item, str):
            words.append(item)
            continue
        if words:
            yield words
            words = []
        yield item
    if words:
        yield words


def _forward(part: list[str] | Choice, places: dict[str, int], size: int, start: Column) -> _Run | _Merge:
    if isinstance(part, Choice):
        return _merge(part, places, size, start)
    table, column = sweep(places, part, size, start)
    return _Run(part, table, column)


class _State(NamedTuple):
    """Where a way stands: its column, the difference to the column it started from, its tables so far."""

    column: Column
    difference: Planes
    table: list[tuple[int, int]]


def _merge(choice: Choice, places: dict[str, int], size: int, start: Column) -> _Merge:
    """Sweep each way from `start` (what two ways begin with, once) and take the best at each place."""
    full = (1 << size) - 1
    planes = max(2, (2 * max(map(len, choice.ways)) + 1).bit_length())
    states: dict[Way, _State] = {(): _State(start, (0,) * planes, [])}
    for way in choice.ways:
        for length in range(len(way)):
            if way[: length + 1] not in states:
                before = states[way[:length]]
                column, rises, falls = step(places.get(way[length], 0), before.column, full)
                # Without hypothesis, each word of the way is one more deletion.
                difference = _added(before.difference, (rises << 1) | 1, falls << 1)
                states[way[: length + 1]] = _State(column, difference, [*before.table, (column.rises, rises)])
    smallest = states[choice.ways[0]].difference
    for way in choice.ways[1:]:
        smallest = _smaller(smallest, states[way].difference, (full << 1) | 1)
    best = [_equal(smallest, states[way].difference, (full << 1) | 1) for way in choice.ways]
    return _Merge(choice, [states[way].table for way in choice.ways], best, _moved(start, smallest, full))


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


def _moved(start: Column, difference: Planes, full: int) -> Column:
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
        if isinstance(part, _Run):
            self._words(part.words, part.table)
            return
        way, operation = self._last_step(part)
        while way is None:
            self._take("I", None)
            way, operation = self._last_step(part)
        first, words = len(self.edits), part.choice.ways[way]
        if words:
            self._take(operation, words[-1])
            self._words(words[:-1], part.tables[way][:-1])
        self.spans.append((part.choice, first, len(self.edits)))

    def ended(self) -> tuple[list[Edit], list[Span]]:
        while self.place:
            self._take("I", None)
        total = len(self.edits)
        spans = [Span(choice, total - last, total - first) for choice, first, last in reversed(self.spans)]
        return self.edits[::-1], spans

    def _last_step(self, part: _Merge) -> tuple[int | None, Operation]:
        """Return the way that the end of a choice is left by, backwards, and the step; no way where one inserts."""
        ways, tables = part.choice.ways, part.tables
        best = [way for way, places in enumerate(part.best) if places >> self.place & 1]
        if self.place:
            heard = self.hypothesis[self.place - 1]
            for way in best:
                if ways[way] and ways[way][-1] == heard:
                    return way, "="
        for way in best:
            if not ways[way]:
                return way, "="
        for way in best:
            if not self.place or tables[way][-1][1] >> (self.place - 1) & 1:
                return way, "D"
        if part.column.rises >> (self.place - 1) & 1:
            return None, "I"
        return best[0], "S"

    def _words(self, words: Sequence[str], table: Sequence[tuple[int, int]]) -> None:
        for word, (rises, rises_from_before) in zip(reversed(words), reversed(table), strict=True):
            while True:
                place = self.place
                if place and word == self.hypothesis[place - 1]:
                    operation: Operation = "="
                elif not place or rises_from_before >> (place - 1) & 1:
                    operation = "D"
                elif rises >> (place - 1) & 1:
                    self._take("I", None)
                    continue
                else:
                    operation = "S"
                self._take(operation, word)
                break

    def _take(self, operation: Operation, word: str | None) -> None:
        heard = None
        if operation != "D":
            self.place -= 1
            heard = self.hypothesis[self.place]
        self.edits.append(Edit(operation, word, heard))
