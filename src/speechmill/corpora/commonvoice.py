"""Common Voice: sentences read by volunteers, an MP3 for each.

    clips/common_voice_en_1.mp3
    test.tsv        client_id  path  sentence  up_votes  down_votes  age  gender  accents  variant  locale  segment
                    1f00c3..   common_voice_en_1.mp3  The sun rose.  2  0  twenties  female  ..  ..  en  ..

Tab-separated, no quoting. `source` is one table, or the folder of a language: then its train, dev and test tables (or
validated, where there are none of these) with the table's name as `subset`. The speaker is the client_id, and also the
call: a speaker's clips are not split. Accents are what people call their own, not whether they are native: unknown.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from speechmill.corpora.base import Opened
from speechmill.corpora.rows import items_table, opened_rows, with_audio
from speechmill.corpora.tables import column, read_delimited
from speechmill.errors import SpeechmillError

_TABLES = ("train", "dev", "test")
_CARRIED = ("age", "gender", "locale", "variant")
_SPEAKER = 32  # characters of the client_id, of 128: enough to tell all apart


def open_commonvoice(source: Path) -> Opened:
    """Find the tables. Raises SpeechmillError where there are none, or one lacks a column."""
    tables = _tables(source)
    items = pl.concat([_read(table) for table in tables])
    return opened_rows(tables, source, items_table(items))


def _tables(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    found = [source / f"{name}.tsv" for name in _TABLES if (source / f"{name}.tsv").is_file()]
    if not found and (source / "validated.tsv").is_file():
        found = [source / "validated.tsv"]
    if not found:
        raise SpeechmillError(f"{source}: no train.tsv, dev.tsv, test.tsv or validated.tsv in it.")
    return found


def _read(table: Path) -> pl.DataFrame:
    found = with_audio(read_delimited(table, "\t", ("client_id", "path", "sentence"), quoted=False), "path")
    path = pl.col("path")
    clip = pl.when(path.str.contains(r"\.[A-Za-z0-9]+$")).then(path).otherwise(path + ".mp3")
    accents = pl.coalesce(column(found, "accents"), column(found, "accent"))
    return found.select(
        "row",
        "reason",
        "detail",
        clip.str.replace(r"\.[A-Za-z0-9]+$", "").alias("id"),
        (pl.lit(f"{table.parent / 'clips'}/") + clip).alias("recording"),
        pl.col("sentence").alias("text"),
        pl.col("client_id").str.head(_SPEAKER).alias("speaker"),
        pl.col("client_id").str.head(_SPEAKER).alias("call"),
        pl.lit(table.stem).alias("subset"),
        accents.alias("accents"),
        *(column(found, name).alias(name) for name in _CARRIED),
    )
