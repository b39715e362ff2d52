"""Which of the alignments with the fewest errors have the most reference words.

Of the paths with the fewest errors that end in a row, the longest counts: so many reference words. Between choices all
paths gain the same words, so that rows differ only by the ways that were taken before: a few bit planes hold by how
many words. Steps that do not bring a row its most words are struck out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from speechmill.score.columns import Steps, Window
from speechmill.score.planes import Planes

Lengths = Planes
"""Bit `j` of plane `k` is bit `k` of the reference words of the longest path to row `low + j`, less a number that is
the same for all rows; no plane where all are equal."""


class Entrance(NamedTuple):
    """A way at its end: its words, the rows in which it has the fewest errors, the lengths before its own words."""

    words: int
    best: int
    lengths: Lengths


def moved_lengths(lengths: Lengths, before: Window, after: Window) -> Lengths:
    """Return the lengths in a later window; the rows that it gains are insertions behind the highest."""
    shift, kept = after.low - before.low, before.high - after.low
    gained = ((2 << (after.high - before.high)) - 2) << kept
    return tuple(plane >> shift | (gained if plane >> shift >> kept else 0) for plane in lengths)


def along(table: Sequence[Steps], lengths: Lengths, rows: int) -> tuple[list[Steps], Lengths]:
    """Take the columns of words in a row, each with all `rows`; return the steps that stay, and the last lengths."""
    found = []
    for steps in table:
        if lengths:
            steps, lengths = stepped(steps, lengths, rows)
            if all(plane in (0, rows) for plane in lengths):
                lengths = ()
        found.append(steps)
    return found, lengths


def stepped(steps: Steps, lengths: Lengths, rows: int) -> tuple[Steps, Lengths]:
    """Take the column of one word; return the steps that stay, and its lengths."""
    inserted, deleted, paired = steps
    by_deletion, by_pair = ((deleted << 1) | 1) & rows, (paired << 1) & rows
    equal, pairs_longer = by_deletion & by_pair, 0
    for plane in reversed(lengths):
        unequal = equal & (plane ^ (plane << 1))
        pairs_longer |= unequal & (plane << 1)
        equal ^= unequal
    by_deletion &= ~pairs_longer
    by_pair &= ~by_deletion | equal
    entered = [(plane & by_deletion) | ((plane << 1) & by_pair) for plane in lengths]
    found, longest, inserted = _risen(by_deletion | by_pair, entered, inserted)
    return (inserted, (by_deletion & longest) >> 1, (by_pair & longest) >> 1), _trimmed(found)


def joined(ways: Sequence[Entrance], inserted: int, rows: int) -> tuple[list[int], int, Lengths]:
    """Join the ways of a choice; return the rows in which each stays, the insertions behind it, and the lengths."""
    fewest, most = min(way.words for way in ways), max(way.words for way in ways)
    planes = ((1 << max(len(way.lengths) for way in ways)) - 1 + most - fewest).bit_length()
    lengths = [_plus(way.lengths, way.words - fewest, planes, rows) for way in ways]
    entered = [0] * planes
    somewhere = 0
    for way, mine in zip(ways, lengths, strict=True):
        undecided, longer = way.best & somewhere, way.best & ~somewhere
        for one, other in zip(reversed(entered), reversed(mine), strict=True):
            unequal = undecided & (one ^ other)
            longer |= unequal & other
            undecided ^= unequal
        entered = [one ^ ((one ^ other) & longer) for one, other in zip(entered, mine, strict=True)]
        somewhere |= way.best
    found, _, inserted = _risen(somewhere, entered, inserted)
    best = []
    for way, mine in zip(ways, lengths, strict=True):
        shorter = 0
        for one, other in zip(found, mine, strict=True):
            shorter |= one ^ other
        best.append(way.best & ~shorter)
    return best, inserted, _trimmed(_less_smallest(found, rows))


def _risen(sources: int, lengths: Sequence[int], inserted: int) -> tuple[list[int], int, int]:
    """Let insertions carry the lengths of the rows `sources` upwards; the longest stays in each row.

    Returns the lengths, the sources that are the longest in their own rows, and the insertions that bring a row its
    longest. From the highest bit down: the rows that a source with the bit can reach have it, and among them those
    without it no longer count. No insertion is left from a row without it to a row with it: so each stretch of
    insertions is two, each of which goes on by itself.
    """
    found = [0] * len(lengths)
    for place in range(len(lengths) - 1, -1, -1):
        plane = lengths[place]
        # The sum carries the rows upwards, as in Myers's step.
        ones = sources & plane
        ones |= ((ones & inserted) + inserted) ^ inserted
        found[place] = ones
        sources &= plane | ~ones
        inserted &= ~(ones >> 1) | ones
    # What is left of the insertions leads from a row to an equal one, that has sources of its own or has none.
    return found, sources, inserted


def _plus(lengths: Lengths, words: int, planes: int, rows: int) -> list[int]:
    """Add the same number to each length."""
    found = []
    carry = 0
    for place in range(planes):
        plane, addend = lengths[place] if place < len(lengths) else 0, rows if words >> place & 1 else 0
        found.append(plane ^ addend ^ carry)
        carry = (plane & (addend | carry)) | (addend & carry)
    return found


def _less_smallest(lengths: Sequence[int], rows: int) -> list[int]:
    """Subtract the smallest of the lengths from each."""
    smallest, there = 0, rows
    for place in range(len(lengths) - 1, -1, -1):
        if zeros := there & ~lengths[place]:
            there = zeros
        else:
            smallest |= 1 << place
    return _plus(tuple(lengths), (1 << len(lengths)) - smallest, len(lengths), rows) if smallest else list(lengths)


def _trimmed(lengths: Sequence[int]) -> Lengths:
    """Leave out the highest planes as long as they are empty."""
    planes = len(lengths)
    while planes and not lengths[planes - 1]:
        planes -= 1
    return tuple(lengths[:planes])
