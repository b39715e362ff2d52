"""The tables of a comparison: one plain form, shown in a terminal, as Markdown and as a workbook."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openpyxl
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter

from speechmill.artefact import written
from speechmill.compare.cells import FORMATS, Cell, Column, Table, plain, range_of, shown, span
from speechmill.compare.differences import differences
from speechmill.compare.runs import (
    TRAIN_COLUMNS,
    VALID_COLUMNS,
    Run,
    common_level,
    distinct_names,
    number,
    scored_sets,
    settings_that_differ,
    thin,
)
from speechmill.compare.ways import laws_table, ways_table

RATES = {"wer": "WER", "wer_p": "WER-P", "cer": "CER", "cer_p": "CER-P"}
WAYS = "Strategies"
LAWS = "Hours of data: error = a + b × hours^−c"
CURVE_ROWS = 5_000  # per run; a sheet holds a million rows in all


def scores_table(runs: Sequence[Run]) -> Table:
    """One row per scored set and run that was scored on it."""
    columns = [Column("scored set", "text"), Column("run", "text", runs="cells")]
    columns += [Column(title, "rate") for title in RATES.values()]
    columns.insert(3, Column("WER interval", "text", "95 %, bootstrap over calls"))
    columns += [Column("native WER", "rate"), Column("non-native WER", "rate"), Column("utterances", "count")]
    rows: list[list[Cell]] = [
        [
            scored,
            name,
            run.rate(scored, "wer"),
            range_of(run.interval(scored)),
            *(run.rate(scored, key) for key in list(RATES)[1:]),
            run.rate(scored, "wer", native=True),
            run.rate(scored, "wer", native=False),
            run.rate(scored, "utterances"),
        ]
        for scored in scored_sets(runs)
        for name, run in zip(distinct_names(runs), runs, strict=True)
        if scored in run.scores
    ]
    return Table(columns, rows)


def differences_table(runs: Sequence[Run]) -> Table:
    """One row per scored set and run that can be compared, call by call, with the first run scored on it."""
    columns = [
        Column("scored set", "text"),
        Column("run", "text", runs="cells"),
        Column("less", "text", "the run whose WER is subtracted", runs="cells"),
        Column("points", "points", "difference of the WER, in points"),
        Column("interval", "text", "95 %, both runs' results of a call drawn together"),
        Column("p", "text", "of so large a difference, where the runs' results are exchanged within calls by chance"),
        Column("calls", "count"),
    ]
    names = distinct_names(runs)
    rows: list[list[Cell]] = [
        [
            scored,
            names[run],
            names[other],
            found.value,
            span(found.interval.as_list() if found.interval else None),
            None if found.p is None else f"{found.p:.4f}",
            float(found.blocks),
        ]
        for scored, run, other, found in differences(runs)
    ]
    return Table(columns, rows)


def training_table(runs: Sequence[Run], level: float | None = None) -> Table:
    """One row per run: what it was given, what it cost, how far it came.

    `level` is the validation WER whose time is told; None: the lowest that all runs with a validation reached.
    """
    given, level = level, common_level(runs) if level is None else level
    facts: list[tuple[Column, Callable[[Run], Cell]]] = [
        (Column("recipe", "text"), lambda run: run.recipe),
        (Column("state", "text"), lambda run: run.state),
        (Column("best valid. WER", "rate", "lowest WER of a validation during training"), lambda r: r.best_valid_wer),
        (Column("train data (h)", "hours", "hours of training data"), lambda run: run.train_hours),
        (
            Column("audio heard (h)", "hours", "hours of audio trained on, each epoch counted"),
            lambda run: None if run.audio_seconds is None else run.audio_seconds / 3600,
        ),
        (Column("updates", "count", "optimizer steps"), lambda run: run.updates),
        (Column("wall-clock", "duration", "h:mm:ss of training, resumes added up"), lambda run: run.seconds),
        (Column("audio s per s", "ratio", "audio heard per second of wall-clock"), lambda run: run.audio_per_second),
        (Column("padding", "share", "share of padding in the batches"), lambda run: run.padding),
        (Column("data wait", "share", "share of wall-clock spent waiting for data"), lambda run: run.data_wait),
        (Column("skipped", "count", "updates left out: loss or gradient not finite"), lambda run: run.skipped),
        (Column("parameters", "count"), lambda run: run.parameters),
    ]
    if level is not None:
        note = "wall-clock until a validation first found this WER"
        note += ": the lowest that all runs with a validation reached" if given is None else ""
        column = Column(f"time to {100 * level:.2f} %", "duration", note)
        facts.insert(3, (column, lambda run: run.seconds_to_wer(level)))
    rows = [[name, *(value(run) for _, value in facts)] for name, run in zip(distinct_names(runs), runs, strict=True)]
    return Table([Column("run", "text", runs="cells"), *(column for column, _ in facts)], rows)


def settings_table(runs: Sequence[Run]) -> Table:
    """One row per setting that is not equal in all runs, one column per run."""
    columns = [Column("setting", "text"), *(Column(name, "text", runs="heading") for name in distinct_names(runs))]
    rows: list[list[Cell]] = [
        [key, *(None if value is None else plain(value) for value in values)]
        for key, values in settings_that_differ(runs).items()
    ]
    return Table(columns, rows)


def terminal_table(runs: Sequence[Run], level: float | None = None) -> str:
    """All tables, aligned for a terminal; ends with a line feed."""
    return _sections(runs, level, lambda title: title, _aligned)


def markdown_table(runs: Sequence[Run], level: float | None = None) -> str:
    """The same tables as Markdown; ends with a line feed."""
    return _sections(runs, level, lambda title: f"## {title}", _markdown)


def write_xlsx(runs: Sequence[Run], path: Path, level: float | None = None) -> None:
    """Write a workbook: sheet `runs` with one row per run, sheet `curves` with one per training or validation line;
    where there is something to say, `strategies` with one row per way of training and `hours` with one per fit.

    Numbers are numbers (rates with a percentage format, durations as Excel's days); the same runs give the same bytes.
    """
    book = openpyxl.Workbook()
    _fill(book.active, "runs", _runs_sheet(runs, level))
    for title, table in (("strategies", ways_table(runs, level)), ("hours", laws_table(runs))):
        if table.rows:
            _fill(book.create_sheet(), title, table.without_empty_columns())
    _fill(book.create_sheet(), "curves", _curves_sheet(runs))
    with written(path) as partial:
        book.save(partial)
        _without_times(partial)


def _sections(
    runs: Sequence[Run], level: float | None, heading: Callable[[str], str], render: Callable[[Table], str]
) -> str:
    scores, settings = scores_table(runs), settings_table(runs)

    def render_rows(table: Table) -> str:
        return render(table.without_empty_columns()) if table.rows else ""

    parts = [
        (heading("Scores"), render(scores.without_empty_columns()) if scores.rows else "No run is scored yet."),
        (heading("Differences of WER"), render_rows(differences_table(runs))),
        (heading(WAYS), render_rows(ways_table(runs, level))),
        (heading(LAWS), render_rows(laws_table(runs))),
        (heading("Training"), render_rows(training_table(runs, level))),
        (heading("Settings in which the runs differ"), render(settings) if settings.rows else ""),
    ]
    return "\n\n".join(f"{title}\n\n{body}" for title, body in parts if body) + "\n"


def _aligned(table: Table) -> str:
    """Columns side by side; a heading of several words takes two lines, so that narrow numbers stay narrow."""
    heads = [_two_lines(column.title) if column.kind != "text" else ("", column.title) for column in table.columns]
    body = [[shown(cell, c.kind) for cell, c in zip(row, table.columns, strict=True)] for row in table.rows]
    lines = [[upper for upper, _ in heads], [lower for _, lower in heads], *body]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    lines.insert(2, ["-" * width for width in widths])
    left = [column.kind == "text" for column in table.columns]
    text = [
        "  ".join(
            cell.ljust(width) if to_left else cell.rjust(width)
            for cell, width, to_left in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join(line for line in text if line)


def _two_lines(title: str) -> tuple[str, str]:
    first, _, rest = title.partition(" ")
    return (first, rest) if rest else ("", first)


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "|".join(" --- " if column.kind == "text" else " ---: " for column in table.columns) + "|"
    rows = [line([shown(cell, c.kind) for cell, c in zip(row, table.columns, strict=True)]) for row in table.rows]
    return "\n".join([line([column.title for column in table.columns]), rule, *rows])


def _runs_sheet(runs: Sequence[Run], level: float | None) -> Table:
    """The training table with the scores of each set beside it: one row per run is what a spreadsheet sorts by."""
    table = training_table(runs, level)
    columns, rows = list(table.columns), [list(row) for row in table.rows]
    for scored in scored_sets(runs):
        columns += [Column(f"{scored} {title}", "rate") for title in RATES.values()]
        columns += [Column(f"{scored} WER {end}", "rate") for end in ("from", "to")]
        columns += [Column(f"{scored} native WER", "rate"), Column(f"{scored} non-native WER", "rate")]
        for row, run in zip(rows, runs, strict=True):
            row += [run.rate(scored, key) for key in RATES]
            row += run.interval(scored) or (None, None)
            row += [run.rate(scored, "wer", native=True), run.rate(scored, "wer", native=False)]
    return Table(columns, rows)


def _curves_sheet(runs: Sequence[Run]) -> Table:
    kinds = {"update": "count", "skipped": "count", "utterances": "count", "seconds": "ratio", "audio_seconds": "ratio"}
    kinds |= {
        "padding": "share",
        "data_wait": "share",
        "communication": "share",
        "lr": "small",
        "valid_seconds": "ratio",
    }
    kinds |= dict.fromkeys(RATES, "rate")
    names = list(dict.fromkeys((*TRAIN_COLUMNS, *VALID_COLUMNS)))
    columns = [Column("run", "text"), Column("event", "text"), *(Column(n, kinds.get(n, "measure")) for n in names)]
    rows: list[list[Cell]] = []
    for label, run in zip(distinct_names(runs), runs, strict=True):
        for event, curve in (("train", thin(run.train, CURVE_ROWS)), ("valid", run.valid)):
            for index in range(len(curve["update"])):
                values = [number(float(curve[name][index])) if name in curve else None for name in names]
                rows.append([label, event, *values])
    return Table(columns, rows)


def _fill(sheet: Any, title: str, table: Table) -> None:
    sheet.title = title
    for x, column in enumerate(table.columns, 1):
        _put(sheet.cell(1, x), column.title).font = Font(bold=True)
        texts = [len(row[x - 1]) for row in table.rows if isinstance(row[x - 1], str)]  # type: ignore[arg-type]
        sheet.column_dimensions[get_column_letter(x)].width = min(40, max([len(column.title), 9, *texts]) + 2)
        for y, row in enumerate(table.rows, 2):
            value = row[x - 1]
            if value is None:
                continue
            if column.kind == "duration" and not isinstance(value, str):
                value /= 86_400
            _put(sheet.cell(y, x), value).number_format = FORMATS[column.kind]
    sheet.freeze_panes = "B2"
    sheet.auto_filter.ref = sheet.dimensions


def _put(cell: Any, value: str | float) -> Any:
    if isinstance(value, str):
        cell.value = ILLEGAL_CHARACTERS_RE.sub("", value)
        cell.data_type = "s"  # a name that begins with "=" is no formula
    else:
        cell.value = int(value) if value.is_integer() else value
    return cell


def _without_times(path: Path) -> None:
    """Rewrite a workbook without the times of its making, which would make every copy another file."""
    with zipfile.ZipFile(path) as book:
        members = {name: book.read(name) for name in book.namelist()}
    core = "docProps/core.xml"
    members[core] = re.sub(rb">[0-9-]{10}T[0-9:]{8}Z<", b">2000-01-01T00:00:00Z<", members[core])
    with zipfile.ZipFile(path, "w") as book:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            book.writestr(entry, content, zipfile.ZIP_DEFLATED)
