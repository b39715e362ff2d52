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
    "errors", "insertions", "deletions", "substitutions", "recording", "reference", "hypothesis", "normalization",
)  # fmt: skip
LONGEST = 32_767
"""Characters that a cell of the usual spreadsheets holds; a longer text is left out, not cut."""


def write_csv(path: Path, summary: Mapping[str, Any], items: Sequence[UtteranceScore]) -> None:
    """Write a row for the set, for each group and kind, and for each recording and utterance; whole or not at all.

    `level` says what a row is: `set` (it names the normalisation), `group` (`column` is its attribute), `kind` (errors
    of WER-P: its rate is under `wer_p`), `recording` (where they hold several utterances) or `utterance`. Rates are
    fractions; an empty cell is undefined.
    """
    with written(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(_rows(summary, items))


def _rows(summary: Mapping[str, Any], items: Sequence[UtteranceScore]) -> Iterator[dict[str, Any]]:
    yield {"level": "set", **_rates(summary)}
    for column, groups in summary["by"].items():
        for name, rates in groups.items():
            yield {"level": "group", "column": column, "name": name, **_rates(rates)}
    for kind, part in summary["kinds"].items():
        yield {"level": "kind", "name": kind, **part, "wer_p": part["rate"]}
    if any(item.recording not in ("", item.id) for item in items):
        for name, rates in summary.get("by_recording", {}).items():
            yield {"level": "recording", "name": name, "recording": name, **_rates(rates)}
    for item in items:
        texts = {"reference": item.reference, "hypothesis": item.hypothesis}
        yield {
            "level": "utterance",
            "name": item.id,
            "recording": item.recording,
            **_rates(item.rates.as_dict()),
            **{side: text for side, text in texts.items() if len(text) <= LONGEST},
        }


def _rates(rates: Mapping[str, Any]) -> dict[str, Any]:
    interval = rates.get("interval") or ("", "")
    found = {key: rates[key] for key in COLUMNS if key in rates and not isinstance(rates[key], Mapping)}
    return {**found, "wer_low": interval[0], "wer_high": interval[1]}
