"""Which of the alignments with the fewest errors have the most reference words.

Between choices all paths gain the same words, so that rows differ only by the ways that were taken before: the rows of
a column are divided into levels by the words of their best path, of which there are few (many only in long stretches
where hardly a word agrees). Steps that do not bring a row its most words are struck out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from speechmill.score.columns import Steps, Window

Levels = Mapping[int, int]
"""Words (from some number on) -> the rows that can have so many and no more; each row of the window is in one level."""


class Entrance(NamedTuple):
    """A way at its end: its words, the rows in which it has the fewest errors, its levels."""

    words: int
    best: int
    levels: Levels


def one_level(window: Window) -> Levels:
    return {0: (2 << (window.high - window.low)) - 1}


def moved_levels(levels: Levels, before: Window, after: Window) -> Levels:
    """Return the levels in a later window; the rows that it gains are insertions behind the highest."""
    shift, kept = after.low - before.low, before.high - after.low
    gained = ((2 << (after.high - before.high)) - 2) << kept
    found = {words: rows >> shift | (gained if rows >> shift >> kept else 0) for words, rows in levels.items()}
    return {words: rows for words, rows in found.items() if rows}


def along(table: Sequence[Steps], levels: Levels, rows: int) -> tuple[list[Steps], Levels]:
    """Take the columns of words in a row, each with all `rows`; return the steps that stay, and the last levels."""
    found = []
    for steps in table:
        if len(levels) > 1:
            steps, levels = stepped(steps, levels, rows)
        found.append(steps)
    return found, levels


def stepped(steps: Steps, levels: Levels, rows: int) -> tuple[Steps, Levels]:
    """Take the column of one word; return the steps that stay, and its levels."""
    inserted, deleted, paired = steps
    kept_inserted = kept_deleted = kept_paired = 0
    found: dict[int, int] = {}
    for words in sorted(levels, reverse=True):
        before = levels[words]
        by_deletion, by_pair = before & ((deleted << 1) | 1), (before & paired) << 1
        own = rows & _risen(by_deletion | by_pair, inserted)
        if own:
            found[words] = own
            rows ^= own
            kept_inserted |= own & (own >> 1) & inserted
            kept_deleted |= (own & by_deletion) >> 1
            kept_paired |= (own & by_pair) >> 1
    return (kept_inserted, kept_deleted, kept_paired), found


def joined(ways: Sequence[Entrance], inserted: int, rows: int) -> tuple[list[int], int, Levels]:
    """Join the ways of a choice; return the rows in which each stays, the insertions behind it, and the levels."""
    offered: dict[int, int] = {}
    for way in ways:
        for words, there in way.levels.items():
            offered[words + way.words] = offered.get(words + way.words, 0) | (there & way.best)
    found: dict[int, int] = {}
    kept = 0
    for words in sorted(offered, reverse=True):
        own = rows & _risen(offered[words], inserted)
        if own:
            found[words] = own
            rows ^= own
            kept |= own & (own >> 1) & inserted
    best = [
        sum(there & way.best & found.get(words + way.words, 0) for words, there in way.levels.items()) for way in ways
    ]
    return best, kept, found


def _risen(rows: int, inserted: int) -> int:
    """Add the rows that insertions lead to; the sum carries them upwards, as in Myers's step."""
    return rows | (((rows & inserted) + inserted) ^ inserted)
