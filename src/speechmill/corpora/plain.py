"""Plain tables, for every corpus that has no importer of its own: CSV (or TSV) and JSON lines.

    audio,text,start,end,speaker          {"audio": "calls/a.mp3", "text": "Good morning.", "start": 0.4, "end": 3.15}
    calls/a.mp3,"Good morning, all.",0.4,3.15,jane
    calls/b.wav,"A whole recording's transcript.",,,

`audio` and `text` must be there; start and end are seconds, and without them a row is the whole file: one utterance
where it is short enough, else a recording to be aligned later (as it is, whatever its length, where `timed` is false).
Paths are relative to the table. `call` (else: the audio's path), `session`, `native` (true or false) and `id` are taken
where they are there, other columns carried along. A table may be divided by tabs, `;` or `|` too, as its header is;
with `;`, which Excel writes where the comma is the decimal point, seconds may have that comma. In JSON, `audio` may be
an object with a `path` (Hugging Face's form).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from speechmill.corpora.base import Opened
from speechmill.corpora.rows import carried, is_seconds, items_table, opened_rows, placed, with_audio
from speechmill.corpora.tables import BAD_TIME, column, find_separator, marked, read_delimited, read_json_lines

NEED = ("audio", "text")
_KNOWN = (*NEED, "start", "end", "speaker", "call", "session", "native", "id", "timed", "row", "reason", "detail")
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


def open_csv(source: Path) -> Opened:
    """Raises SpeechmillError where the table cannot be read or lacks a column."""
    separator = find_separator(source, "\t,;|" if source.suffix.lower() == ".tsv" else ",\t;|", NEED)
    table = read_delimited(source, separator, NEED, quoted=True)
    if separator == ";":
        seconds = [name for name in ("start", "end") if name in table.columns]
        table = table.with_columns(pl.col(seconds).str.replace(",", ".", literal=True))
    return _opened(source, table)


def open_jsonl(source: Path) -> Opened:
    """Raises SpeechmillError where the file cannot be read or no line has one of the keys."""
    return _opened(source, read_json_lines(source, NEED, "audio"))


def _opened(source: Path, table: pl.DataFrame) -> Opened:
    extra, warnings = carried(table, _KNOWN)
    for name in ("start", "end"):
        wrong = column(table, name).is_not_null() & ~is_seconds(column(table, name, pl.Float64))
        table = marked(table, BAD_TIME, pl.format(f"{name}: {{}}: seconds were expected", column(table, name)), wrong)
    table = with_audio(table, "audio")
    audio = pl.col("audio")
    call = pl.coalesce(column(table, "call"), audio.str.replace(r"\.[A-Za-z0-9]+$", "").str.strip_prefix("./"))
    items = table.select(
        "row",
        "reason",
        "detail",
        pl.coalesce(column(table, "id"), pl.format("{}_{}", call, "row")).alias("id"),
        placed(audio, source.parent).alias("recording"),
        column(table, "start", pl.Float64).alias("start"),
        column(table, "end", pl.Float64).alias("end"),
        pl.col("text").cast(pl.String),
        column(table, "speaker").alias("speaker"),
        call.alias("call"),
        column(table, "session").alias("session"),
        truth(column(table, "native")).alias("native"),
        truth(column(table, "timed")).not_().fill_null(False).alias("untimed"),
    )
    return opened_rows([source], source, items_table(items.hstack(extra)), warnings)


def truth(text: pl.Expr) -> pl.Expr:
    """true, 1, yes; false, 0, no; null for anything else."""
    lower = text.str.to_lowercase()
    return pl.when(lower.is_in(_TRUE)).then(True).when(lower.is_in(_FALSE)).then(False)
