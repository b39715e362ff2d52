"""The readable form of `score.lattice`, by which it is tested: quadratic in time and in memory."""

from __future__ import annotations

from collections.abc import Sequence

from speechmill.score.choice import Choice, Way
from speechmill.score.edit import Edit, Operation

Column = list[int]
"""Of a place in the reference: the least cost to each row, where an error costs `error` and a reference word -1."""


def align_lattice_slowly(reference: Sequence[str | Choice], hypothesis: Sequence[str]) -> list[Edit]:
    """Return the alignment with the fewest errors, of those the one with the most reference words, of those the first
    by the rule of `score.align`."""
    choices = [Choice(((item,),)) if isinstance(item, str) else item for item in reference]
    error = 1 + sum(max(map(len, choice.ways)) for choice in choices)  # no number of words outweighs one
    column = [error * row for row in range(len(hypothesis) + 1)]
    swept: list[list[list[Column]]] = []  # of each choice, of each way: the column before it, and one for each word
    for choice in choices:
        swept.append([_table(column, way, hypothesis, error) for way in choice.ways])
        column = _smallest(swept[-1])
    row = len(hypothesis)
    backwards: list[Edit] = []
    for choice, tables in zip(reversed(choices), reversed(swept), strict=True):
        while (way := _way_left(choice.ways, tables, row, hypothesis, error)) is None:
            row -= 1
            backwards.append(Edit("I", None, hypothesis[row]))
        words, table = choice.ways[way], tables[way]
        place = len(words)
        while place:
            steps = _steps(words[place - 1], table[place - 1], table[place], row, hypothesis, error)
            # Behind the last word, insertions belong to no way: they were taken above.
            op = next(op for op in steps if op != "I" or place < len(words))
            backwards.append(
                Edit(op, None if op == "I" else words[place - 1], None if op == "D" else hypothesis[row - 1])
            )
            place -= op != "I"
            row -= op != "D"
    return [Edit("I", None, word) for word in hypothesis[:row]] + backwards[::-1]


def _table(column: Column, way: Way, hypothesis: Sequence[str], error: int) -> list[Column]:
    table = [column]
    for word in way:
        before = table[-1]
        here = [before[0] + error - 1]
        for row, heard in enumerate(hypothesis, start=1):
            pair = before[row - 1] + (error if word != heard else 0) - 1
            here.append(min(pair, before[row] + error - 1, here[row - 1] + error))
        table.append(here)
    return table


def _smallest(tables: Sequence[Sequence[Column]]) -> Column:
    return [min(costs) for costs in zip(*(table[-1] for table in tables), strict=True)]


def _steps(word: str, before: Column, here: Column, row: int, hypothesis: Sequence[str], error: int) -> list[Operation]:
    """Return the steps with the least cost to a row of a word's column, in the rule's order."""
    found: list[Operation] = []
    equal = row > 0 and word == hypothesis[row - 1]
    if equal and here[row] == before[row - 1] - 1:
        found.append("=")
    if here[row] == before[row] + error - 1:
        found.append("D")
    if row and here[row] == here[row - 1] + error:
        found.append("I")
    if row and not equal and here[row] == before[row - 1] + error - 1:
        found.append("S")
    return found


def _way_left(
    ways: Sequence[Way], tables: Sequence[Sequence[Column]], row: int, hypothesis: Sequence[str], error: int
) -> int | None:
    """Return the way that the end of a choice is left by, None where a hypothesis word is inserted behind it."""
    merged = _smallest(tables)
    best = [way for way, table in enumerate(tables) if table[-1][row] == merged[row]]
    steps = {
        way: _steps(ways[way][-1], tables[way][-2], tables[way][-1], row, hypothesis, error)
        for way in best
        if ways[way]
    }
    by_step = {op: [way for way, found in steps.items() if op in found] for op in ("=", "D", "S")}
    without_words = [way for way in best if not ways[way]]
    first = [*by_step["="], *without_words, *by_step["D"]]
    if first:
        return first[0]
    if row and merged[row] == merged[row - 1] + error:
        return None
    return by_step["S"][0]
