"""Whether runs differ: their WER on the same utterances, call by call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from speechmill.compare.runs import Run, number, scored_sets
from speechmill.metrics import json_lines
from speechmill.score.intervals import Difference, Sums, difference

Heard = Mapping[str, tuple[str, str, int, int]]
"""Id -> (block, reference, errors, words); the block is the call, unless another column was asked for."""


def differences(runs: Sequence[Run]) -> list[tuple[str, int, int, Difference]]:
    """Compare each run with the first that was scored on the same set.

    Returns:
        For each scored set and later run: the set, the positions of the run and of the one that it is compared with,
        and WER of the run less that of the other, over the utterances that both were scored on with the same
        reference. Runs whose scores do not tell the blocks (scored before they were noted) are left out.
    """
    found = []
    for scored in scored_sets(runs):
        heard = {place: read for place, run in enumerate(runs) if (read := _read(run.utterances_file(scored)))}
        places = list(heard)
        for place in places[1:]:
            one, other = _matched(heard[place], heard[places[0]])
            if one:
                found.append((scored, place, places[0], difference(one, other)))
    return found


def _read(path: Path) -> Heard:
    if not path.exists():
        return {}
    return {
        str(line["id"]): (
            str(line.get("block", line.get("call"))),  # lines of before had the block as their call
            str(line.get("reference")),
            int(number(line.get("errors")) or 0),
            int(number(line.get("words")) or 0),
        )
        for _, line in json_lines(path)
        if ("block" in line or "call" in line) and "id" in line
    }


def _matched(one: Heard, other: Heard) -> tuple[list[Sums], list[Sums]]:
    """Errors and words by call, of the utterances that both have; calls by name."""
    sums: dict[str, list[int]] = {}
    for identifier, (call, reference, errors, words) in one.items():
        if identifier in other and other[identifier][1] == reference:
            found = sums.setdefault(call, [0, 0, 0, 0])
            for place, value in enumerate((errors, words, *other[identifier][2:])):
                found[place] += value
    ordered = [sums[call] for call in sorted(sums)]
    return [Sums(row[0], row[1]) for row in ordered], [Sums(row[2], row[3]) for row in ordered]
