"""Runs beside each other: tables, curves and a page. Reads run folders only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from speechmill.artefact import locked, write_text
from speechmill.compare.page import write_page
from speechmill.compare.runs import Run, read_run, settings_that_differ
from speechmill.compare.tables import markdown_table, terminal_table, write_xlsx
from speechmill.errors import SpeechmillError

__all__ = [
    "FILES",
    "Comparison",
    "Run",
    "compare",
    "markdown_table",
    "read_run",
    "settings_that_differ",
    "terminal_table",
    "write_page",
    "write_xlsx",
]


FILES = ("compare.html", "compare.md", "compare.xlsx")


@dataclass(frozen=True)
class Comparison:
    """The runs that were read, the tables as text, and the files that were written."""

    runs: list[Run]
    text: str
    written: list[Path]


def compare(runs: list[Path], out: Path | None, level: float | None = None) -> Comparison:
    """Read run folders and put them beside each other.

    `out` is a folder for compare.html, compare.md and compare.xlsx, or one file whose suffix (.html, .md, .xlsx) says
    which of them to write; None writes nothing. `level` is the validation WER (a fraction) whose time is told; None:
    the lowest that all runs reached. A folder named twice counts once. Raises SpeechmillError when there is nothing to
    compare, a folder is no run, or a file of one is broken.
    """
    folders = list({path.resolve(): path for path in runs}.values())
    if not folders:
        raise SpeechmillError("compare: no run was named; give one run folder or more.")
    read = [read_run(path) for path in folders]
    files = _files(out) if out is not None else []
    for file in files:
        with locked(file):
            if file.suffix == ".html":
                write_page(read, file, level)
            elif file.suffix == ".xlsx":
                write_xlsx(read, file, level)
            else:
                write_text(file, markdown_table(read, level))
    return Comparison(read, terminal_table(read, level), files)


def _files(out: Path) -> list[Path]:
    if out.suffix in (".html", ".md", ".xlsx") and not out.is_dir():
        return [out]
    if out.is_file() or (out.suffix[1:].isalpha() and not out.is_dir()):  # report.pdf, and not report-1.2
        what = "is a file" if out.is_file() else f"{out.suffix} is not written"
        raise SpeechmillError(f"{out}: {what}; give a folder, or a file that ends in .html, .md or .xlsx.")
    return [out / name for name in FILES]
