"""Which ways, and which rows, are on a best path at all.

Walked backwards from the end of both texts, the steps with the fewest errors lead through a few rows of each column:
what is decided between best paths is decided there, on small numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from speechmill.score.choice import Fork
from speechmill.score.columns import Steps, Window
from speechmill.score.sweeping import Part, Run, Sweep


def narrowed(wide: Sweep) -> tuple[list[Part], list[Window]]:
    """Return the parts with those ways only that are on a path with the fewest errors, and the rows of such paths."""
    top = wide.windows[-1]
    rows, low = 1 << (top.high - top.low), top.low
    parts: list[Part] = []
    ends = [_ends(rows, low)]
    for part in wide.backwards():
        rows, low = rows << (low - part.end.window.low), part.end.window.low
        if isinstance(part, Run):
            parts.append(list(part.words))
            rows = _before(rows, part.table)
        else:
            rows = _fallen(rows, part.inserted)
            there = [rows & best for best in part.best]
            parts.append(
                Fork(part.fork.choice, [way for way, found in zip(part.fork.ways, there, strict=True) if found])
            )
            rows = 0
            for found, table in zip(there, part.tables, strict=True):
                rows |= _before(found, table) if found else 0
        ends.append(_ends(rows, low))
    ends.reverse()
    # A row more below, as everywhere, so that no best path is in the lowest row of a window, unless that is the first.
    windows = [Window(max(0, one.low - 1), other.high) for one, other in itertools.pairwise(ends)]
    return parts[::-1], windows


def _ends(rows: int, low: int) -> Window:
    """The lowest and the highest of the rows."""
    return Window(low + (rows & -rows).bit_length() - 1, low + rows.bit_length() - 1)


def _before(rows: int, table: Sequence[Steps]) -> int:
    """Return the rows, in the column before a table's first, that lead to `rows` in its last."""
    for inserted, deleted, paired in reversed(table):
        rows = _fallen(rows, inserted)
        rows = (rows & ((deleted << 1) | 1)) | ((rows >> 1) & paired)
    return rows


def _fallen(rows: int, inserted: int) -> int:
    """Add the rows that insertions come from, however many in a row: of 1, 2, 4, ... at once."""
    if not (rows >> 1) & inserted & ~rows:
        return rows
    chains, length = inserted & ((1 << rows.bit_length()) - 1), 1
    while chains:
        rows |= (rows >> length) & chains
        chains &= chains >> length
        length *= 2
    return rows
