"""Alignment of a reference with a hypothesis: the fewest insertions, deletions and substitutions.

Several alignments often share the fewest errors; they differ in which words they pair, and so in the split into kinds.
One rule picks ours. From the last words backwards, at each step the first of these that still leads to the fewest
errors is taken:

1. equal words are paired;
2. the reference word is a deletion;
3. the hypothesis word is an insertion;
4. the two words are a substitution.

So an alignment is a pure function of the two texts, whatever their length; it mostly takes a hit and a gap where two
substitutions would cost the same. `align_slowly` states the rule over the plain table of distances. `align` gives the
same alignment from that table's differences, held as bits of Python integers (Myers, "A fast bit-vector algorithm for
approximate string matching based on dynamic programming", J. ACM 46, 1999; Hyyrö's form for two whole sequences, 2003).
rapidfuzz aligns faster still, but its ties follow no one rule: beyond a size it divides the texts and ties anew. It
gives the totals of long sequences (`distance`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from speechmill.score.counts import Counts

Operation = Literal["=", "S", "I", "D"]


class Edit(NamedTuple):
    """One step: `=` equal, `S` substituted, `I` inserted (no reference token), `D` deleted (no hypothesis token).

    A tuple, so that JSON writes it as `[op, reference, hypothesis]`.
    """

    op: Operation
    reference: str | None
    hypothesis: str | None


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Edit]:
    """Align two token sequences (lists of words; a str is a sequence of characters) with the fewest errors.

    Ties follow the rule at this module's head. Two 15,000-word texts take about 0.1 s, and time grows with the
    square of the length. The tables take about 128 MB at most: longer texts are swept twice instead.
    """
    return _edits(_operations(reference, hypothesis), reference, hypothesis)


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> Counts:
    """Count the errors by kind, those of `align`, without building the alignment."""
    return _count(_operations(reference, hypothesis), len(reference))


def tally(alignment: Iterable[Edit]) -> Counts:
    """Count the errors of an alignment by kind."""
    operations = [edit.op for edit in alignment]
    return _count(operations, len(operations) - operations.count("I"))


def distance(reference: Sequence[str], hypothesis: Sequence[str], guess: int | None = None) -> int:
    """Return the fewest errors alone: what `count_errors` would total, and the fastest way to it.

    A `guess` that is a little too high makes it faster still, of texts as long as a call by three to four times.
    """
    from rapidfuzz.distance import Levenshtein

    if isinstance(reference, str) and isinstance(hypothesis, str):
        return Levenshtein.distance(reference, hypothesis, score_hint=guess)
    ids: dict[str, int] = {}  # rapidfuzz would compare hashes of strings; of small integers they are exact
    left = [ids.setdefault(token, len(ids)) for token in reference]
    right = [ids.setdefault(token, len(ids)) for token in hypothesis]
    return Levenshtein.distance(left, right, score_hint=guess)


def align_slowly(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Edit]:
    """The readable form of `align`, by which it is tested: quadratic in time and in memory."""
    rows, columns = len(reference), len(hypothesis)
    table = [[row + column for column in range(columns + 1)] for row in range(rows + 1)]
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            unequal = reference[row - 1] != hypothesis[column - 1]
            table[row][column] = min(
                table[row - 1][column - 1] + unequal, table[row - 1][column] + 1, table[row][column - 1] + 1
            )
    backwards: list[Operation] = []
    row, column = rows, columns
    while row or column:
        here = table[row][column]
        if row and column and reference[row - 1] == hypothesis[column - 1]:
            op: Operation = "="
        elif row and table[row - 1][column] == here - 1:
            op = "D"
        elif column and table[row][column - 1] == here - 1:
            op = "I"
        else:
            op = "S"
        backwards.append(op)
        row -= op != "I"
        column -= op != "D"
    return _edits(backwards[::-1], reference, hypothesis)


def _edits(operations: Iterable[Operation], reference: Sequence[str], hypothesis: Sequence[str]) -> list[Edit]:
    left, right = iter(reference), iter(hypothesis)
    return [Edit(op, None if op == "I" else next(left), None if op == "D" else next(right)) for op in operations]


def _count(operations: Sequence[Operation], words: int) -> Counts:
    kinds = Counter(operations)
    return Counts(words, insertions=kinds["I"], deletions=kinds["D"], substitutions=kinds["S"])


TABLE_BYTES = 128 * 2**20
"""Bits of so many columns are held at once; longer texts are swept forwards once, then again, block by block."""


def _operations(reference: Sequence[str], hypothesis: Sequence[str], table_bytes: int = TABLE_BYTES) -> list[Operation]:
    """Return the operations of the alignment in reading order."""
    rows, columns = len(reference), len(hypothesis)
    block = max(1, table_bytes // (rows // 3 + 1))  # a column is two integers of `rows` bits, 30 in each 4 bytes
    positions = places_of(reference)
    starts = [Column(rises=(1 << rows) - 1, falls=0)]  # without hypothesis, each reference token is one more deletion
    for first in range(0, columns - block, block):
        starts.append(sweep(positions, hypothesis[first : first + block], rows, starts[-1])[1])

    backwards: list[Operation] = []
    row, column = rows, columns
    while row and column:
        start = starts.pop()
        first = len(starts) * block
        table, _ = sweep(positions, hypothesis[first:column], rows, start)
        while row and column > first:
            rises_down, rises_right = table[column - first - 1]
            if reference[row - 1] == hypothesis[column - 1]:
                op: Operation = "="
            elif rises_down >> (row - 1) & 1:
                op = "D"
            elif rises_right >> (row - 1) & 1:
                op = "I"
            else:
                op = "S"
            backwards.append(op)
            row -= op != "I"
            column -= op != "D"
        del table  # before the next block is built, or two are held
    backwards += ["D"] * row
    backwards += ["I"] * column
    return backwards[::-1]


class Column(NamedTuple):
    """Bit `i`: the distance rises (falls) by one from row `i` to row `i + 1`, row `i` being `i` reference tokens."""

    rises: int
    falls: int


def places_of(reference: Sequence[str]) -> dict[str, int]:
    """Return for each token the set of its places in the reference, bit `i` for place `i`."""
    places: dict[str, list[int]] = {}
    for place, token in enumerate(reference):
        places.setdefault(token, []).append(place)
    return {token: sum(1 << place for place in found) for token, found in places.items()}


def sweep(
    positions: Mapping[str, int], hypothesis: Sequence[str], rows: int, start: Column
) -> tuple[list[tuple[int, int]], Column]:
    """Advance from the column `start` over hypothesis tokens.

    Returns for each token's column the rows to which the distance rises by one from the row above, and those to which
    it rises from the column before, as bits (bit `i` for row `i + 1`); and the last column.
    """
    full = (1 << rows) - 1
    table: list[tuple[int, int]] = []
    for token in hypothesis:
        start, rises_right, _ = step(positions.get(token, 0), start, full)
        table.append((start.rises, rises_right))
    return table, start


def step(equal: int, before: Column, full: int) -> tuple[Column, int, int]:
    """Advance over one token that equals the rows `equal`; `full` has a bit for each row.

    Returns its column, and the rows to which the distance rises and falls by one from the column before.
    """
    rises, falls = before
    # The sum carries a diagonal without cost down the rows on which the column before rises.
    free = (((equal & rises) + rises) ^ rises) | equal
    rises_right = falls | (full & ~(free | rises))
    falls_right = rises & free
    shifted = (rises_right << 1) | 1  # above the first row, each token is one more insertion
    blocked = equal | falls
    column = Column(full & ((falls_right << 1) | ~(blocked | shifted)), full & shifted & blocked)
    return column, rises_right, falls_right & full
