"""NeMo manifests: JSON lines, one utterance each.

    {"audio_filepath": "wavs/a.wav", "duration": 3.15, "text": "good morning"}
    {"audio_filepath": "calls/b.mp3", "offset": 12.5, "duration": 4.0, "text": "thank you", "speaker": "jane"}

Paths are relative to the manifest. `offset` (0 where it is missing) and `duration` are seconds. speaker, call, session,
native and id, which `export-manifest` writes, are taken where they are there; other keys are carried along.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from speechmill.corpora.base import Opened
from speechmill.corpora.plain import truth
from speechmill.corpora.rows import carried, is_seconds, items_table, opened_rows, placed, with_audio
from speechmill.corpora.tables import BAD_TIME, column, marked, read_json_lines

NEED = ("audio_filepath", "text")
_KNOWN = (
    *NEED, "offset", "duration", "speaker", "call", "session", "native", "id", "timed", "samplerate",
    "row", "reason", "detail",
)  # fmt: skip


def open_nemo(source: Path) -> Opened:
    """Raises SpeechmillError where the manifest cannot be read, or no line has audio or text."""
    table = read_json_lines(source, NEED, "audio_filepath")
    extra, warnings = carried(table, _KNOWN)
    for name in ("offset", "duration"):
        wrong = column(table, name).is_not_null() & ~is_seconds(column(table, name, pl.Float64))
        table = marked(table, BAD_TIME, pl.format(f"{name}: {{}}: seconds were expected", column(table, name)), wrong)
    table = with_audio(table, "audio_filepath")
    audio = pl.col("audio_filepath")
    start = column(table, "offset", pl.Float64).fill_null(0.0)
    call = pl.coalesce(column(table, "call"), audio.str.replace(r"\.[A-Za-z0-9]+$", "").str.strip_prefix("./"))
    items = table.select(
        "row",
        "reason",
        "detail",
        pl.coalesce(column(table, "id"), pl.format("{}_{}", call, "row")).alias("id"),
        placed(audio, source.parent).alias("recording"),
        start.alias("start"),
        (start + column(table, "duration", pl.Float64)).round(9).alias("end"),
        pl.col("text").cast(pl.String),
        column(table, "speaker").alias("speaker"),
        call.alias("call"),
        column(table, "session").alias("session"),
        truth(column(table, "native")).alias("native"),
        truth(column(table, "timed")).not_().fill_null(False).alias("untimed"),
    )
    return opened_rows([source], source, items_table(items.hstack(extra)), warnings)
