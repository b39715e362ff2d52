"""The parts of a reference, words in a row and choices, swept over the rows of the hypothesis.

The ways of a choice start from one column, are swept alone, and are merged to the smallest value in each row. They
differ from the column that they started from by no more than their length, so that the differences fit into a few bit
planes (`score.planes`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from speechmill.score.choice import Fork, Way
from speechmill.score.columns import Column, Steps, Window, first_column, moved, step, sweep
from speechmill.score.lengths import Entrance, Lengths, along, joined, moved_lengths, stepped
from speechmill.score.planes import Planes, added, equal_rows, smaller, summed

Part = list[str] | Fork


class Front(NamedTuple):
    """How far a sweep is: its last column, the rows of it, and their lengths, where words are counted."""

    column: Column
    window: Window
    lengths: Lengths | None


class Run(NamedTuple):
    """Words in a row, swept: the steps of each column."""

    words: Sequence[str]
    table: Sequence[Steps]
    end: Front


class Merge(NamedTuple):
    """A choice, swept: the steps of its ways, the rows (from the window's lowest on) in which each is best, and those
    behind which an insertion follows."""

    fork: Fork
    tables: Sequence[Sequence[Steps]]
    best: Sequence[int]
    inserted: int
    end: Front


class Sweep(NamedTuple):
    """What is swept: the parts, the rows of each, the places of the hypothesis's words; of columns, as many are held at
    once as fit into about `table_bytes`; `most_words` decides between paths with equally few errors."""

    parts: Sequence[Part]
    windows: Sequence[Window]
    places: Mapping[str, int]
    table_bytes: int
    most_words: bool

    def backwards(self) -> Iterator[Run | Merge]:
        """Yield the parts, swept, from the last to the first; more than fits is swept forwards once, then again, block
        by block."""
        blocks = self._blocks()
        begin = self.windows[0]
        fronts = [Front(first_column(begin), begin, () if self.most_words else None)]
        for first, last in blocks[:-1]:
            front = fronts[-1]
            for place in range(first, last):
                front = self._forward(place, front).end
            fronts.append(front)
        for first, last in reversed(blocks):
            front = fronts.pop()
            done: list[Run | Merge] = []
            for place in range(first, last):
                done.append(self._forward(place, front))
                front = done[-1].end
            while done:
                yield done.pop()

    def _blocks(self) -> list[tuple[int, int]]:
        """Divide the parts, first and behind last, so that the tables of each block take about `table_bytes`."""
        cuts, held = [0], 0
        for place, (part, window) in enumerate(zip(self.parts, self.windows, strict=True)):
            columns = 3 * len(part) if isinstance(part, list) else sum(3 * len(way) + 1 for way in part.ways)
            cost = columns * ((window.high - window.low) // 7 + 32)
            if held and held + cost > self.table_bytes:
                cuts.append(place)
                held = 0
            held += cost
        return list(itertools.pairwise([*cuts, len(self.parts)]))

    def _forward(self, place: int, front: Front) -> Run | Merge:
        part, window = self.parts[place], self.windows[place]
        start = moved(front.column, front.window, window)
        lengths = None if front.lengths is None else moved_lengths(front.lengths, front.window, window)
        if isinstance(part, Fork):
            return _merge(part, self.places, Front(start, window, lengths))
        table, end = sweep(self.places, part, window, start)
        if lengths:
            table, lengths = along(table, lengths, (2 << (window.high - window.low)) - 1)
        return Run(part, table, Front(end, window, lengths))


class _State(NamedTuple):
    """Where a way stands: its column, the difference to the column it started from, its steps so far, its lengths."""

    column: Column
    difference: Planes
    table: list[Steps]
    lengths: Lengths | None


def _merge(fork: Fork, places: Mapping[str, int], front: Front) -> Merge:
    """Sweep each way from `front` (what two ways begin with, once) and take the best at each place."""
    start, window, lengths = front
    full = (1 << (window.high - window.low)) - 1
    rows = (full << 1) | 1
    states = _states(fork.ways, places, front)
    smallest = states[fork.ways[0]].difference
    for way in fork.ways[1:]:
        smallest = smaller(smallest, states[way].difference, rows)
    best = [equal_rows(smallest, states[way].difference, rows) for way in fork.ways]
    column = summed(start, smallest, full)
    inserted = column.rises
    if lengths is not None and (lengths or len({len(way) for way in fork.ways}) > 1):
        entrances = [
            Entrance(len(way), there, states[way].lengths or ()) for way, there in zip(fork.ways, best, strict=True)
        ]
        best, inserted, lengths = joined(entrances, inserted, rows)
    return Merge(fork, [states[way].table for way in fork.ways], best, inserted, Front(column, window, lengths))


def _states(ways: Sequence[Way], places: Mapping[str, int], front: Front) -> dict[Way, _State]:
    start, window, lengths = front
    full = (1 << (window.high - window.low)) - 1
    planes = max(2, (2 * max(map(len, ways)) + 1).bit_length())
    states: dict[Way, _State] = {(): _State(start, (0,) * planes, [], lengths)}
    for way in ways:
        for length in range(len(way)):
            if way[: length + 1] not in states:
                before = states[way[:length]]
                equal = (places.get(way[length], 0) >> window.low) & full
                column, steps, falls = step(equal, before.column, full)
                # In the lowest row, each word of the way is one more deletion.
                difference = added(before.difference, (steps[1] << 1) | 1, falls << 1)
                lengths = before.lengths
                if lengths:
                    steps, lengths = stepped(steps, lengths, (full << 1) | 1)
                states[way[: length + 1]] = _State(column, difference, [*before.table, steps], lengths)
    return states
