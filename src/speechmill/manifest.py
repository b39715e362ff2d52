"""The manifest: a Parquet table with one row per utterance. Schema, reading and writing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from speechmill.artefact import read_text, written
from speechmill.errors import SpeechmillError

# What every manifest has. An importer may add columns (ceo, company, country, ...); they are carried along.
SCHEMA: dict[str, pl.DataType] = {
    "id": pl.String(),  # unique in the manifest; letters, digits, "-" and "_": it names the members of a shard
    "recording": pl.String(),  # absolute path of the audio file
    "start": pl.Float64(),  # seconds
    "end": pl.Float64(),  # seconds
    "text": pl.String(),  # as written in the transcript
    "speaker": pl.String(),
    "call": pl.String(),
    "session": pl.String(),  # "presentation", "q-and-a" or ""
    "native": pl.Boolean(),  # null where the corpus does not say
    "split": pl.String(),  # "" until select; then "train", "valid" or "test"
}
SPLITS = ("train", "valid", "test")
_SLICE = 1 << 18  # rows in memory at a time where a manifest is read in slices
# A column that an importer may add: false where a row has no times of its own, and is there to be aligned: a whole
# recording with its whole transcript, or a sentence of one.
TIMED = "timed"
KNOWN_TEXT = "known_text"  # an aligned utterance's text, wildcards in the place of what is not known (align.known)
WRITTEN_TEXT = "written_text"  # what is written, in rows whose text was made KNOWN_TEXT by select
QUIET = ("quiet_before", "quiet_after")  # seconds of silence around an aligned utterance that no other one has


def write_manifest(table: pl.DataFrame, path: Path) -> None:
    """Write a manifest whole or not at all. Raises SpeechmillError where `table` is not a manifest."""
    check_columns(table.schema, path)
    columns = [*SCHEMA, *(name for name in table.columns if name not in SCHEMA)]
    with written(path) as partial:
        table.select(columns).write_parquet(partial, compression="zstd", statistics=True)


@contextlib.contextmanager
def written_rows(path: Path) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Yield a function that adds rows to a Parquet file, whole or not at all; for tables too large to hold.

    The bytes depend on the rows and on how they are divided into calls, and on nothing else. The first call, which may
    be without rows, settles the columns.
    """
    with written(path) as partial, contextlib.ExitStack() as stack:
        writer: pq.ParquetWriter | None = None

        def write(rows: pl.DataFrame) -> None:
            nonlocal writer
            table: pa.Table = rows.to_arrow()
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(partial, table.schema, compression="zstd"))
            if rows.height:
                writer.write_table(table)

        yield write
        stack.close()


def slices(rows: pl.LazyFrame, count: int) -> Iterator[tuple[slice, pl.DataFrame]]:
    """The rows of a table in order, a few hundred thousand at a time, each with its place in the table."""
    for start in range(0, count, _SLICE):
        part = slice(start, min(count, start + _SLICE))
        yield part, rows.slice(part.start, part.stop - part.start).collect()


def read_manifest(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Read a manifest, or some columns of it. Raises SpeechmillError naming the file and what is wrong with it."""
    return scan_manifest(path).select(columns or pl.all()).collect()


def scan_manifest(path: Path) -> pl.LazyFrame:
    """Open a manifest without reading its rows."""
    if not path.is_file():
        raise SpeechmillError(f"{path}: no such manifest; make one with `speechmill import` or `speechmill select`.")
    try:
        frame = pl.scan_parquet(path)
        schema = frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SpeechmillError(f"{path}: not a manifest, a Parquet file was expected ({error}).") from error
    check_columns(schema, path)
    return frame


def check_columns(schema: pl.Schema, path: Path) -> None:
    """Raise SpeechmillError where a manifest lacks a column or holds another type in it."""
    for name, kind in SCHEMA.items():
        if name not in schema:
            raise SpeechmillError(f"{path}: the column {name!r} is missing; a manifest has {', '.join(SCHEMA)}.")
        if schema[name] != kind and schema[name] != pl.Null():
            raise SpeechmillError(f"{path}: the column {name!r} is {schema[name]}, expected {kind}.")


def is_untimed(columns: Sequence[str]) -> pl.Expr:
    """Which rows have no times of their own: nothing can be cut for them before `align`."""
    return ~pl.col(TIMED).fill_null(True) if TIMED in columns else pl.lit(False)


def check_named(table: pl.DataFrame, path: Path) -> None:
    """Raise SpeechmillError where a row of the manifest `path` points at no recording."""
    if nameless := table["recording"].null_count():
        raise SpeechmillError(
            f"{path}: {nameless} of its {table.height} rows name no recording; import the corpus again."
        )


def check_recordings(table: pl.DataFrame, path: Path) -> None:
    """Raise SpeechmillError where audio that the manifest `path` points at is not there, or a row points at none."""
    check_named(table, path)
    names = table["recording"].unique(maintain_order=True).to_list()
    gone = [name for name in names if not Path(name).is_file()]
    if gone:
        raise SpeechmillError(
            f"{path}: {len(gone)} of its {len(names)} recordings are not there any more, {gone[0]} the first; bring "
            f"them back, or import the corpus again from where it is now."
        )


def read_ids(path: Path) -> list[str]:
    """Ids of calls from a text file, one a line; blank lines and those that begin with # are passed over."""
    lines = (line.strip() for line in read_text(path).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def as_written(table: pl.LazyFrame) -> pl.LazyFrame:
    """Rows with what is written as their text, where an earlier selection has put wildcards there."""
    if WRITTEN_TEXT not in table.collect_schema().names():
        return table
    return table.with_columns(text=pl.coalesce(WRITTEN_TEXT, "text")).drop(WRITTEN_TEXT)
