"""One HTML page that holds everything: tables, curves, transcripts, settings. It asks the network for nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from speechmill.artefact import write_text
from speechmill.compare.assets import COLOURS, SCRIPT, STYLE
from speechmill.compare.cells import GAP, Cell, Column, Table, plain, shown
from speechmill.compare.examples import Example, Step, examples
from speechmill.compare.runs import Columns, Run, distinct_names, flatten, scored_sets, thin
from speechmill.compare.tables import LAWS, WAYS, differences_table, scores_table, settings_table, training_table
from speechmill.compare.ways import laws_table, ways_table

CURVE_POINTS = 400  # per run and curve: more than a chart has pixels for

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_page(runs: Sequence[Run], path: Path, level: float | None = None) -> None:
    """Write the comparison of `runs` (one is enough) as a single HTML file. The same runs give the same bytes."""
    write_text(path, page(runs, level))


def page(runs: Sequence[Run], level: float | None = None) -> str:
    """The page as text. Whatever comes from a run is escaped."""
    names = distinct_names(runs)
    title = f"{names[0]}: one run" if len(runs) == 1 else f"{len(runs)} runs compared"
    sections = [
        _scores(runs, names),
        _noted("Differences of WER", differences_table(runs), names),
        _noted(WAYS, ways_table(runs, level), names),
        _noted(LAWS, laws_table(runs), names),
        _curves(),
        _noted("Training", training_table(runs, level), names),
        _settings(runs, names),
        *(_examples(runs, names, scored) for scored in scored_sets(runs)),
        _environments(runs, names),
    ]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>Speechmill: {escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1>{_keys(names)}</header>\n"
        + "\n".join(section for section in sections if section)
        + f'\n<script type="application/json" id="curves">{_script_json(curves(runs))}</script>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def curves(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What the charts draw: per run its name, and per event the columns as lists, with null for a gap."""
    return [
        {
            "name": name,
            "train": _lists(thin(run.train, CURVE_POINTS), "loss"),
            "valid": _lists(thin(run.valid, CURVE_POINTS), "wer"),
        }
        for name, run in zip(distinct_names(runs), runs, strict=True)
    ]


def _lists(columns: Columns, measure: str) -> dict[str, list[float | None]]:
    return {
        name: [float(f"{v:.7g}") if v == v else None for v in columns[name].tolist()]
        for name in ("update", "seconds", "audio_seconds", measure)
    }


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element which holds it, whatever a run is called."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _section(title: str, body: str, aside: str = "") -> str:
    return f"<section>\n<h2>{escape(title)}{aside}</h2>\n{body}\n</section>"


def _keys(names: list[str]) -> str:
    return f'<p class="keys">{" ".join(_run(name, names) for name in names)}</p>' if len(names) > 1 else ""


def _run(name: str, names: list[str]) -> str:
    """A run's name with the mark in which its curves are drawn: colour, and dashes once the colours are used up."""
    index = names.index(name)
    dashes = ("", "6 3", "2 3")[index // COLOURS % 3]
    return (
        f'<span class="run"><svg class="mark" viewBox="0 0 18 8" aria-hidden="true"><line x1="0" y1="4" x2="18" y2="4" '
        f'style="stroke:var(--c{index % COLOURS})" stroke-dasharray="{dashes}"/></svg>{escape(name)}</span>'
    )


def _scores(runs: Sequence[Run], names: list[str]) -> str:
    table = scores_table(runs)
    if not table.rows:
        return _section("Scores", '<p class="gap">No run is scored yet.</p>')
    table = table.without_empty_columns()
    groups = [list(rows) for _, rows in groupby(table.rows, key=lambda row: row[0])]
    best = {
        (id(row), i)
        for rows in groups
        for i, column in enumerate(table.columns)
        if column.kind == "rate" and len(rows) > 1
        for row in rows
        if row[i] is not None and row[i] == min(v for r in rows if isinstance(v := r[i], float))
    }
    firsts = {id(rows[0]) for rows in groups}
    note = (
        '<p class="note">WER and CER: text upper-cased, punctuation stripped. WER-P and CER-P: text as written.'
        + (" Bold: the lowest of a scored set." if best else "")
        + "</p>"
    )
    return _section("Scores", _table(table, names, best, firsts) + note)


def _noted(title: str, table: Table, names: list[str]) -> str:
    """A section with a table and what its headings mean; nothing where the table is empty."""
    if not table.rows:
        return ""
    table = table.without_empty_columns()
    notes = [f"<b>{escape(column.title)}</b>: {escape(column.note)}" for column in table.columns if column.note]
    return _section(title, _table(table, names) + (f'<p class="note">{"; ".join(notes)}.</p>' if notes else ""))


def _curves() -> str:
    axes = (("seconds", "wall-clock"), ("update", "updates"), ("audio_seconds", "audio heard"))
    buttons = "".join(
        f'<button type="button" data-axis="{axis}" aria-pressed="{str(axis == "seconds").lower()}">{label}</button>'
        for axis, label in axes
    )
    choice = f'<span class="axes" role="group" aria-label="horizontal axis">over {buttons}</span>'
    body = (
        '<div class="charts"><figure id="chart-wer"></figure><figure id="chart-loss"></figure></div>'
        "<noscript><p>The curves are drawn by a script in this page, which is switched off here.</p></noscript>"
    )
    return _section("Learning curves", body, choice)


def _settings(runs: Sequence[Run], names: list[str]) -> str:
    if len(runs) < 2:
        return ""
    table = settings_table(runs)
    if not table.rows:
        return _section("Settings", '<p class="gap">All runs have the same settings.</p>')
    return _section("Settings in which the runs differ", _table(table, names))


def _table(
    table: Table,
    names: list[str],
    best: Set[tuple[int, int]] = frozenset(),
    firsts: Set[int] = frozenset(),
) -> str:
    """A table; cells in `best`, (id of row, column), are bold; a row whose id is in `firsts` opens a group."""
    head = "".join(_heading(column, names) for column in table.columns)
    body = "".join(
        f"<tr{' class=first' if id(row) in firsts else ''}>"
        + "".join(_cell(row[i], c, names, (id(row), i) in best) for i, c in enumerate(table.columns))
        + "</tr>\n"
        for row in table.rows
    )
    kind = "values" if all(column.kind == "text" for column in table.columns) else "numbers"
    rows = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>"
    return f'<div class="wide"><table class="{kind}">\n{rows}</table></div>'


def _heading(column: Column, names: list[str]) -> str:
    text = _run(column.title, names) if column.runs == "heading" else escape(column.title)
    note = f' title="{escape(column.note)}"' if column.note else ""
    return f'<th scope="col" class="{column.kind}"{note}>{text}</th>'


def _cell(cell: Cell, column: Column, names: list[str], best: bool) -> str:
    if column.runs == "cells" and isinstance(cell, str):
        return f'<th scope="row">{_run(cell, names)}</th>'
    kind = "gap" if cell is None else "best" if best else ""
    text = escape(shown(cell, column.kind))
    return f'<td class="{column.kind} {kind}">{text}</td>' if kind else f'<td class="{column.kind}">{text}</td>'


def _examples(runs: Sequence[Run], names: list[str], scored: str) -> str:
    found = examples(runs, scored)
    if not found:
        return ""
    blocks = [
        f"<h3>{'Typical utterances' if kind == 'typical' else 'Worst utterances'}</h3>\n"
        + "\n".join(_example(example, names) for example in group)
        for kind, group in groupby(found, key=lambda example: example.kind)
    ]
    legend = (
        '<p class="note"><del>left out</del> <span class="swap"><del>said</del><ins>written instead</ins></span> '
        "<ins>put in</ins>. Typical: at the quartiles of the error rate.</p>"
    )
    return _section(f"Transcripts: {scored}", legend + "\n".join(blocks))


def _example(example: Example, names: list[str]) -> str:
    lines = "".join(
        f"<dt>{_run(names[i], names)}<small>errors: {t.errors:.0f} in {t.words:.0f} words</small></dt>"
        f"<dd>{aligned(t.alignment) or escape(t.hypothesis) or GAP}</dd>"
        for i, t in example.transcripts.items()
    )
    return (
        f'<dl class="example"><dt>reference<small>{escape(example.id)}</small></dt>'
        f"<dd>{escape(example.reference)}</dd>{lines}</dl>"
    )


def aligned(steps: Sequence[Step]) -> str:
    """An alignment as HTML: words left out struck through, words put in underlined, both for a substitution."""
    marks = {
        "=": "{hyp}",
        "D": "<del>{ref}</del>",
        "I": "<ins>{hyp}</ins>",
        "S": '<span class="swap"><del>{ref}</del><ins>{hyp}</ins></span>',
    }
    return " ".join(marks[op].format(ref=escape(ref), hyp=escape(hyp)) for op, ref, hyp in steps)


def _environments(runs: Sequence[Run], names: list[str]) -> str:
    flat = [flatten(run.environment) for run in runs]
    keys = list(dict.fromkeys(key for environment in flat for key in environment))
    if not keys:
        return ""
    rows: list[list[Cell]] = [
        [key, *(plain(environment[key]) if key in environment else None for environment in flat)] for key in keys
    ]
    rows.append(["folder", *(str(run.path) for run in runs)])
    table = Table([Column("", "text"), *(Column(name, "text", runs="heading") for name in names)], rows)
    return _section("Environment", _table(table, names))
