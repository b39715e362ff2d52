"""Alignment of a reference with a hypothesis: the fewest insertions, deletions and substitutions.

Several alignments often share the fewest errors; they differ in which words they pair, and so in the split into kinds.
One rule picks ours. From the last words backwards, at each step the first of these that still leads to the fewest
errors is taken:

1. equal words are paired;
2. the reference word is a deletion;
3. the hypothesis word is an insertion;
4. the two words are a substitution.

So an alignment is a pure function of the two texts, whatever their length; it mostly takes a hit and a gap where two
substitutions would cost the same. `align_slowly` states the rule over the plain table of distances; `align` gives the
same alignment by `score.lattice`, as a reference without alternatives. rapidfuzz aligns faster still, but its ties
follow no one rule: beyond a size it divides the texts and ties anew. It gives the totals of long sequences
(`score.distance`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from speechmill.score.counts import Counts
from speechmill.score.distance import distance
from speechmill.score.edit import Edit, Operation, tally
from speechmill.score.lattice import align_lattice

__all__ = ["Edit", "Operation", "align", "align_slowly", "count_errors", "distance", "tally"]


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Edit]:
    """Align two token sequences (lists of words; a str is a sequence of characters) with the fewest errors.

    Ties follow the rule at this module's head. Two 15,000-word texts with 20 % of errors take about 0.07 s; time grows
    with the length times the errors.
    """
    return align_lattice(reference, hypothesis)[0]


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> Counts:
    """Count the errors by kind, those of `align`."""
    return tally(align(reference, hypothesis))


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
