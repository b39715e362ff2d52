"""The contract of an importer: a corpus in its own format -> manifest rows, and an account of every dropped row."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from speechmill.errors import SpeechmillError
from speechmill.manifest import SCHEMA

# What an importer did not keep. `row` is the line in the transcript (1 is the header), null where the whole call fell.
DROPS: dict[str, pl.DataType] = {
    "call": pl.String(),
    "row": pl.Int64(),
    "reason": pl.String(),
    "detail": pl.String(),
    "seconds": pl.Float64(),  # null where not known
    "recording": pl.String(),  # its path; null: that of the call
}

_NAMED = 10  # calls that could not be read

# How long each recording is; null where it could not be read.
RECORDINGS: dict[str, pl.DataType] = {"call": pl.String(), "recording": pl.String(), "seconds": pl.Float64()}


@dataclass(frozen=True)
class Limits:
    """Which utterances an importer keeps. Wide on purpose: `select` narrows them for training.

    Under 0.2 s there is no word; past 120 s a row is nearly always a lost time stamp, and costs memory everywhere.
    With `ignore_times` every row with a text is kept, in the transcript's order, whatever its times say; those that the
    manifest has then share the recording evenly (`timed` false): `align` finds the true ones.
    """

    min_seconds: float = 0.2
    max_seconds: float = 120.0
    ignore_times: bool = False


@dataclass(frozen=True)
class CallResult:
    """One call: its rows (a manifest table without `split`), its drops, the length of its recording."""

    call: str
    rows: pl.DataFrame
    drops: pl.DataFrame
    seconds: float | None  # of the recording; null where it was not reached
    failure: str | None = None  # why the whole call was dropped


@dataclass(frozen=True)
class ImportResult:
    """What an importer returns.

    Every row of every transcript is in `table` or in `drops`, except the closing ones.
    """

    table: pl.DataFrame  # manifest rows, ordered by call and start
    drops: pl.DataFrame  # DROPS
    calls_read: int
    calls_left_out: int  # by --include and --exclude
    seconds: float  # sound in the recordings that were read
    recordings: pl.DataFrame  # RECORDINGS, of every call that was read or should have been
    failures: list[str] = field(default_factory=list)  # one line for each call that could not be read
    warnings: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Dropped rows (or calls) by reason, most frequent first."""
        counted = self.drops.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
        return dict(counted.iter_rows())


@dataclass(frozen=True)
class Opened:
    """A corpus that was found: the files that decide what its import gives, and the import."""

    files: list[Path]  # transcripts, metadata, recordings
    read: Callable[[set[str] | None, set[str] | None, Limits], ImportResult]  # include, exclude (calls), limits


def checked(result: ImportResult, source: Path) -> ImportResult:
    """`result`; raises SpeechmillError where it has no row."""
    if result.table.is_empty():
        reasons = ", ".join(f"{reason} {count}" for reason, count in result.counts.items())
        raise SpeechmillError(f"{source}: no utterance is left; dropped: {reasons or 'none'}.")
    return result


def not_read(failures: Sequence[str]) -> list[str]:
    """Lines for a reader about the calls that could not be read, the first of them by name."""
    lines = [f"not read: {failure}" for failure in failures[:_NAMED]]
    return lines + ([f"not read: {len(failures) - _NAMED} calls more"] if len(failures) > _NAMED else [])


def unknown_calls(name: str, wanted: set[str] | None, calls: Iterable[str]) -> list[str]:
    """A warning about calls of include or exclude that the corpus does not have."""
    unknown = sorted((wanted or set()) - set(calls))
    if not unknown:
        return []
    return [f"{name}: {len(unknown)} of {len(wanted or ())} calls are not in the corpus: {', '.join(unknown[:5])}"]


def empty_rows(extra: dict[str, pl.DataType]) -> pl.DataFrame:
    return pl.DataFrame(schema=SCHEMA | extra)


def drops_table(drops: Iterable[tuple[str, int | None, str, str, float | None]]) -> pl.DataFrame:
    """DROPS, of calls with one recording each: (call, row, reason, detail, seconds)."""
    schema = {name: kind for name, kind in DROPS.items() if name != "recording"}
    return pl.DataFrame(list(drops), schema=schema, orient="row").with_columns(recording=pl.lit(None, pl.String))


LONGEST_ID = 95  # characters: what a shard takes


def identifier(text: str) -> str:
    """Letters, digits, "-" and "_": what may name a member of a shard. Anything else becomes "-"."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", text)


def with_unique_ids(table: pl.DataFrame) -> pl.DataFrame:
    """Number the repeats of an id ("a", "a-2", "a-3"), so that each id names one row."""
    while table["id"].is_duplicated().any():
        nth = pl.int_range(pl.len()).over("id") + 1
        table = table.with_columns(
            pl.when(nth > 1).then(pl.format("{}-{}", "id", nth)).otherwise(pl.col("id")).alias("id")
        )
    return table


def files_under(folder: Path) -> list[Path]:
    """All files in a folder and its folders, sorted; links are followed, a folder is visited once."""
    found: list[Path] = []
    visited: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        visited.add(os.path.realpath(place))
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(place, name)) not in visited]
        found += [Path(place, name) for name in names]
    return sorted(found)


def find_recording(folder: Path, stem: str = "recording") -> Path | None:
    """The call's audio: WAV before MP3 before FLAC."""
    for suffix in (".wav", ".mp3", ".flac"):
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    return None
