"""The plan on disk: every row with its shard and its group, so that workers and repairs read the part they need."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet

from speechmill.artefact import sha256, written
from speechmill.errors import SpeechmillError

PLANNED_NAME = "plan.parquet"
SOURCE = "recording_fingerprint"
_ROW_GROUP = 1 << 15  # rows: a group of shards is a few thousand, and only its row groups are read
_END = 1 << 16  # bytes of the start and of the end of a recording that name it
_THREADS = 8  # the work is waiting for a file system


def write_planned(plan: Iterable[pl.DataFrame], out: Path) -> None:
    """Write the rows of a plan (`plan_shards`, in pieces where it is large), with what the recordings look like now."""
    known: dict[str, str | None] = {}
    with written(out / PLANNED_NAME) as partial, contextlib.ExitStack() as stack:
        writer = None
        for piece in plan:
            table = _with_fingerprints(piece, known).to_arrow(compat_level=pl.CompatLevel.oldest())
            if writer is None:
                writer = stack.enter_context(pyarrow.parquet.ParquetWriter(partial, table.schema, compression="zstd"))
            writer.write_table(table, row_group_size=_ROW_GROUP)


def _with_fingerprints(plan: pl.DataFrame, known: dict[str, str | None]) -> pl.DataFrame:
    paths = [path for path in plan["recording"].unique(maintain_order=True) if path not in known]
    with ThreadPoolExecutor(_THREADS) as pool:
        known.update(zip(paths, pool.map(source_fingerprint, paths), strict=True))
    named = pl.DataFrame(
        {"recording": list(known), SOURCE: list(known.values())}, {"recording": pl.String, SOURCE: pl.String}
    )
    return plan.join(named, on="recording", how="left", maintain_order="left")


def scan_planned(out: Path) -> pl.LazyFrame:
    path = out / PLANNED_NAME
    if not path.is_file():
        raise SpeechmillError(f"{path}: no plan; run `speechmill shard` with the manifest of these shards to write it.")
    return pl.scan_parquet(path)


def _collected(out: Path, frame: pl.LazyFrame) -> pl.DataFrame:
    try:
        return frame.collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise damaged_plan(out / PLANNED_NAME, error) from error


def planned_shards(out: Path) -> pl.DataFrame:
    """`group, shard, seconds, utterances`: a row for each shard, in order."""
    length = (pl.col("end") - pl.col("start")).clip(lower_bound=0.0)
    shards = (
        scan_planned(out).group_by("group", "shard").agg(length.sum().alias("seconds"), pl.len().alias("utterances"))
    )
    return _collected(out, shards).sort("shard")


def planned_group(out: Path, group: int, shards: Sequence[str]) -> pl.DataFrame:
    """The rows of some shards of a group, in the order in which they are written."""
    return _collected(out, scan_planned(out).filter(pl.col("group") == group, pl.col("shard").is_in(shards)))


def planned_times(out: Path) -> pl.DataFrame:
    """`id, recording, start, end` of every row."""
    return _collected(out, scan_planned(out).select("id", "recording", "start", "end"))


def source_seconds(planned: pl.DataFrame) -> pl.DataFrame:
    """`recording, source_seconds`: what the plan asks of each recording."""
    length = (pl.col("end") - pl.col("start")).clip(lower_bound=0.0)
    return planned.group_by("recording").agg(length.sum().alias("source_seconds"))


def planned_texts(path: Path, rows: int) -> Iterator[pl.DataFrame]:
    """`id, text` of a plan file, about so many rows at a time. Raises SpeechmillError where it is damaged."""
    try:
        with pyarrow.parquet.ParquetFile(path) as plan:
            for batch in plan.iter_batches(rows, columns=["id", "text"]):
                yield pl.DataFrame(pl.from_arrow(batch))
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise damaged_plan(path, error) from error


def damaged_plan(path: Path, error: BaseException) -> SpeechmillError:
    return SpeechmillError(
        f"{path}: cannot be read ({str(error).splitlines()[0]}); run `speechmill shard` with the manifest of these "
        f"shards, which writes the plan again and nothing else."
    )


def source_fingerprint(path: str | Path) -> str | None:
    """Sixteen hex digits of a recording's size, start and end; None where it cannot be read.

    Of its bytes and not of its clock: a copy of the corpus is the same corpus.
    """
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            start = stream.read(_END)
            stream.seek(max(0, size - _END))
            return sha256(str(size).encode() + start + stream.read(_END))[:16]
    except OSError:
        return None


def source_fault(path: Path, planned: str | None) -> tuple[str, str] | None:
    """Why a recording is not the one that was planned with: (reason, detail), None where it is."""
    if not path.is_file():
        return "missing-recording", f"{path}: no such recording"
    if planned is not None and source_fingerprint(path) != planned:
        return "changed-recording", f"{path}: is another file than when the shards were planned"
    return None
