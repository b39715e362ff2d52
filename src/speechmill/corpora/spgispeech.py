"""SPGISpeech: slices of earnings calls, the text as written (case, punctuation, figures).

    val.csv             wav_filename|wav_filesize|transcript
                        37cb2c2a/5.wav|227884|So revenue grew by 12%, in line with what we said.
    val/37cb2c2a/5.wav  16 kHz, one utterance of 5 to 15 s

`source` is the folder that holds the tables, one of the folders of audio (`val`, with `val.csv` beside it), or a table.
A call is the folder that a slice lies in. Speakers and who is native are not published: unknown.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from speechmill.corpora.base import Opened
from speechmill.corpora.rows import items_table, opened_rows, with_audio
from speechmill.corpora.tables import column, read_delimited
from speechmill.errors import SpeechmillError

COLUMNS = ("wav_filename", "wav_filesize", "transcript")


def open_spgispeech(source: Path) -> Opened:
    """Find the tables. Raises SpeechmillError where there are none, or one lacks a column."""
    tables = _tables(source)
    parts = [_read(table) for table in tables]
    items = pl.concat(parts)
    return opened_rows(tables, source, items_table(items.drop("size")), _wrong_sizes(items))


def _tables(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    beside = source.parent / f"{source.name}.csv"
    tables = sorted(source.glob("*.csv")) or ([beside] if beside.is_file() else [])
    if not tables:
        raise SpeechmillError(
            f"{source}: no table wav_filename|wav_filesize|transcript in it, and no {beside.name} beside it."
        )
    return tables


def _read(table: Path) -> pl.DataFrame:
    found = with_audio(read_delimited(table, "|", COLUMNS, quoted=False), "wav_filename")
    name = pl.col("wav_filename")
    folder = table.parent / table.stem if (table.parent / table.stem).is_dir() else table.parent
    inside = pl.when(name.str.contains("/")).then(name.str.split("/").list.get(-2, null_on_oob=True))
    return found.select(
        "row",
        "reason",
        "detail",
        name.str.replace(r"\.[A-Za-z0-9]+$", "").str.replace_all("/", "_").alias("id"),
        (pl.lit(f"{folder}/") + name).alias("recording"),
        pl.col("transcript").alias("text"),
        pl.coalesce(inside, pl.when(name.is_not_null()).then(pl.lit(table.stem))).alias("call"),
        pl.lit(table.stem).alias("subset"),
        column(found, "wav_filesize", pl.Int64).alias("size"),
    )


def _wrong_sizes(items: pl.DataFrame) -> list[str]:
    stated = items.filter(pl.col("size").is_not_null() & pl.col("recording").is_not_null())

    def size(name: str) -> int | None:
        try:
            return Path(name).stat().st_size
        except OSError:
            return None  # gone: the import says so of the row

    with ThreadPoolExecutor(8) as pool:
        found = pl.Series(list(pool.map(size, stated["recording"])), dtype=pl.Int64)
    other = stated.filter((found != stated["size"]).fill_null(False))
    if other.is_empty():
        return []
    return [
        f"wav_filesize: {len(other)} files have another size than the table says, {other['recording'][0]} the first"
    ]
