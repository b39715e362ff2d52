"""Columns of the table of distances, held as bits of Python integers.

Myers, "A fast bit-vector algorithm for approximate string matching based on dynamic programming", J. ACM 46, 1999, in
Hyyrö's form for two whole sequences (2003). A column belongs to a place in the reference, its rows to the first words
of the hypothesis: neighbouring rows differ by -1, 0 or 1, and so do neighbouring columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Steps = tuple[int, int, int]
"""Of a column: bit `i` tells whether row `low + i + 1` is reached at the least cost by an insertion (from the row
before), by a deletion (from the column before), by a pair of words, equal or not (from the row before in the column
before)."""


class Window(NamedTuple):
    """The rows from `low` to `high` (both inclusive) of a column; what is outside is on no best alignment."""

    low: int
    high: int


class Column(NamedTuple):
    """Bit `i`: the distance rises (falls) by one from row `low + i` to the next."""

    rises: int
    falls: int


def first_column(window: Window) -> Column:
    """Before the first reference word, each hypothesis word is one more insertion."""
    return Column((1 << (window.high - window.low)) - 1, 0)


def moved(column: Column, before: Window, after: Window) -> Column:
    """Return a column in a later window. What it gains is taken to rise by one a row: an insertion each, at most."""
    shift, kept = after.low - before.low, before.high - after.low
    gained = ((1 << (after.high - before.high)) - 1) << kept
    return Column((column.rises >> shift) | gained, column.falls >> shift)


def places_of(tokens: Sequence[str]) -> dict[str, int]:
    """Return for each token the set of its places, bit `i` for place `i`."""
    places: dict[str, list[int]] = {}
    for place, token in enumerate(tokens):
        places.setdefault(token, []).append(place)
    return {token: _bits(found) for token, found in places.items()}


def _bits(places: Sequence[int]) -> int:
    if len(places) < 8:
        return sum(1 << place for place in places)
    found = bytearray(places[-1] // 8 + 1)
    for place in places:
        found[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(found, "little")


def step(equal: int, before: Column, full: int) -> tuple[Column, Steps, int]:
    """Advance over one reference word that equals the hypothesis in the rows `equal`; `full` has a bit for each row.

    Returns its column, the steps that lead there, and the rows to which the distance falls by one from the column
    before (to those of a deletion it rises by one). The lowest row of the window is taken to rise by one: a deletion,
    at most.
    """
    rises, falls = before
    # The sum carries a diagonal without cost down the rows on which the column before rises.
    free = (((equal & rises) + rises) ^ rises) | equal | falls
    rises_right = falls | (full & ~(free | rises))
    falls_right = rises & free
    shifted = (rises_right << 1) | 1
    column = Column(full & ((falls_right << 1) | ~(free | shifted)), full & shifted & free)
    return column, (column.rises, rises_right, equal | ~free), falls_right & full


def sweep(places: Mapping[str, int], words: Iterable[str], window: Window, start: Column) -> tuple[list[Steps], Column]:
    """Advance over reference words from the column `start`; `places` are those of the hypothesis.

    Returns the steps of each word's column, and the last column.
    """
    low, full = window.low, (1 << (window.high - window.low)) - 1
    rises, falls = start
    table: list[Steps] = []
    for word in words:  # as `step`, without a call for each
        equal = (places.get(word, 0) >> low) & full
        free = (((equal & rises) + rises) ^ rises) | equal | falls
        rises_right = falls | (full & ~(free | rises))
        shifted = (rises_right << 1) | 1
        rises = full & (((rises & free) << 1) | ~(free | shifted))
        falls = full & shifted & free
        table.append((rises, rises_right, equal | ~free))
    return table, Column(rises, falls)
