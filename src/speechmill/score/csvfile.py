"""Scores as one tidy CSV file: the whole set, its groups, the kinds of errors, recordings and utterances."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from speechmill.artefact import written
from speechmill.score.result import UtteranceScore

COLUMNS = (
    "level", "column", "name", "wer", "wer_low", "wer_high", "wer_p", "cer", "cer_p", "ser", "utterances", "words",
    "errors", "insertions", "deletions", "substitutions", "p", "recording", "reference", "hypothesis", "normalization",
)  # fmt: skip
LONGEST = 32_767
"""Characters that a cell of the usual spreadsheets holds; a longer text is left out, not cut."""


def write_csv(path: Path, summary: Mapping[str, Any], items: Sequence[UtteranceScore]) -> None:
    """Write a row for the set, for each group and kind, and for each recording and utterance; whole or not at all.

    `level` says what a row is: `set` (it names the normalisation), `comparison` (the second system; `wer` is the
    difference, its interval beside it, `p` its p-value), `group` (`column` is its attribute), `gap` (of `name`: `wer`
    is the difference), `kind` (errors of WER-P: its rate is under `wer_p`), `entity`, `recording` (of several
    utterances) or `utterance`, with a column more for each attribute that groups were made by. Rates are fractions; an
    empty cell is undefined.
    """
    columns = [*COLUMNS, *(name for name in summary["by"] if name not in COLUMNS)]
    with written(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(_rows(summary, items))


def _rows(summary: Mapping[str, Any], items: Sequence[UtteranceScore]) -> Iterator[dict[str, Any]]:
    yield {"level": "set", **_rates(summary)}
    if compared := summary.get("comparison"):
        yield {"level": "comparison", "name": compared["hypothesis"], **_difference(compared), "p": compared["p"]}
    for column, groups in summary["by"].items():
        for name, rates in groups.items():
            yield {"level": "group", "column": column, "name": name, **_rates(rates)}
        if gap := summary["gaps"].get(column):
            yield {"level": "gap", "column": column, "name": " less ".join(gap["of"]), **_difference(gap)}
    for kind, part in summary["kinds"].items():
        yield {"level": "kind", "name": kind, **part, "wer_p": part["rate"]}
    for label, part in (summary.get("entities") or {}).items():
        yield {"level": "entity", "name": label, **_rates(part), "utterances": part["entities"]}
    if any(item.recording not in ("", item.id) for item in items):
        for name, rates in summary.get("by_recording", {}).items():
            yield {"level": "recording", "name": name, "recording": name, **_rates(rates)}
    for item in items:
        texts = {"reference": item.reference, "hypothesis": item.hypothesis}
        yield {
            **{column: item.attributes.get(column, "") for column in summary["by"]},
            "level": "utterance",
            "name": item.id,
            "recording": item.recording,
            **_rates(item.rates.as_dict()),
            **{side: text for side, text in texts.items() if len(text) <= LONGEST},
        }


def _difference(found: Mapping[str, Any]) -> dict[str, Any]:
    interval = found["interval"] or ("", "")
    return {"wer": found["difference"], "wer_low": interval[0], "wer_high": interval[1]}


def _rates(rates: Mapping[str, Any]) -> dict[str, Any]:
    interval = rates.get("interval") or ("", "")
    found = {key: rates[key] for key in COLUMNS if key in rates and not isinstance(rates[key], Mapping)}
    return {**found, "wer_low": interval[0], "wer_high": interval[1]}
