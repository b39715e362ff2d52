"""The plain form of a table: headings with kinds of cells, rows; and how a cell of each kind looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Cell = str | float | None
GAP = "–"

# How a cell of each kind looks in a workbook.
FORMATS = {
    "text": "General",
    "rate": "0.00%",
    "share": "0.0%",
    "count": "#,##0",
    "hours": "#,##0.00",
    "duration": "[h]:mm:ss",
    "ratio": "#,##0.0",
    "exponent": "0.00",
    "measure": "0.0000",
    "small": "0.00E+00",
}


@dataclass(frozen=True)
class Column:
    """A heading, the kind of its cells (a key of FORMATS) and what it means, where the heading does not say it.

    `runs` says where names of runs stand, since a run may be named as any column is, "run" before all.
    """

    title: str
    kind: str
    note: str = ""
    runs: Literal["", "heading", "cells"] = ""


@dataclass(frozen=True)
class Table:
    """Rates and shares are fractions, hours are hours, durations are seconds; None is a gap."""

    columns: list[Column]
    rows: list[list[Cell]]

    def without_empty_columns(self) -> Table:
        keep = [i for i in range(len(self.columns)) if any(row[i] is not None for row in self.rows)]
        return Table([self.columns[i] for i in keep], [[row[i] for i in keep] for row in self.rows])


def shown(cell: Cell, kind: str) -> str:
    """A cell as text: 0.1234 as a rate is "12.34 %", 3725 s as a duration "1:02:05"."""
    if cell is None:
        return GAP
    if isinstance(cell, str):
        return " ".join(cell.split())
    match kind:
        case "rate":
            return f"{100 * cell:.2f} %"
        case "share":
            return f"{100 * cell:.1f} %"
        case "points":
            return f"{100 * cell:+.2f}".replace("-", "−")
        case "count":
            return f"{cell:,.0f}"
        case "hours":
            return f"{cell:,.2f}" if cell < 100 else f"{cell:,.0f}"
        case "duration":
            whole = round(cell)
            return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
        case "exponent":
            return f"{cell:.2f}"
        case _:
            return f"{cell:,.1f}"


def plain(value: Any) -> str:
    """A setting as a recipe would have it: true, null, 0.001, [1, 2]."""
    if isinstance(value, bool) or value is None:
        return str(value).lower().replace("none", "null")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(plain(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def span(interval: list[float] | None) -> str | None:
    return " to ".join(shown(end, "points") for end in interval) if interval else None


def range_of(interval: tuple[float, float] | None) -> str | None:
    return f"{100 * interval[0]:.2f}–{100 * interval[1]:.2f} %" if interval else None
