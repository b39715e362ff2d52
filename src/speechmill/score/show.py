"""Scores and alignments as text for a terminal or a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from speechmill.score.align import Edit

_UNDEFINED = "-"
_RATES = ("wer", "wer_p", "cer", "cer_p", "ser")
_COUNTS = ("utterances", "words", "insertions", "deletions", "substitutions")
_HEAD = ("", "WER %", "WER-P %", "CER %", "CER-P %", "SER %", "utterances", "words", "ins", "del", "sub")


def scores_table(scores: Mapping[str, Any]) -> str:
    """Return the rates of a `scores.json` in percent, over all and by group, one line each, the normalisation below.

    A rate that is undefined (no reference words) is shown as `-`. Where one of them has an interval of its WER, there
    is a column for it.
    """
    named = [("all", scores)]
    for attribute, groups in scores["by"].items():
        named += [(f"{attribute}: {value}", rates) for value, rates in groups.items()]
    lines = [_HEAD, *(_cells(name, rates) for name, rates in named)]
    if any(rates.get("interval") for _, rates in named):
        column = ["interval", *(_interval(rates.get("interval")) for _, rates in named)]
        lines = [(*cells[:2], found, *cells[2:]) for cells, found in zip(lines, column, strict=True)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [_line(cells, widths) for cells in lines]
    return "\n".join([table[0], "-" * len(table[0]), *table[1:], f"WER and CER: {scores['normalization']}"])


def show_alignment(alignment: Iterable[Edit]) -> str:
    """Return two lines, REF and HYP, each pair of tokens one above the other; asterisks where a side has none."""
    left, right = ["REF:"], ["HYP:"]
    for edit in alignment:
        width = max(len(edit.reference or ""), len(edit.hypothesis or ""))
        left.append(_gap(width) if edit.reference is None else edit.reference.ljust(width))
        right.append(_gap(width) if edit.hypothesis is None else edit.hypothesis.ljust(width))
    return f"{' '.join(left).rstrip()}\n{' '.join(right).rstrip()}"


def _interval(interval: Sequence[float] | None) -> str:
    return f"{100 * interval[0]:.2f} - {100 * interval[1]:.2f}" if interval else _UNDEFINED


def _gap(width: int) -> str:
    return "*" * width


def _cells(name: str, rates: Mapping[str, Any]) -> tuple[str, ...]:
    percents = [_UNDEFINED if rates[key] is None else f"{100 * rates[key]:.2f}" for key in _RATES]
    return (name, *percents, *(f"{rates[key]:,}" for key in _COUNTS))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers = (
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([name, *numbers])
