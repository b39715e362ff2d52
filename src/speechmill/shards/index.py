"""The index: where each utterance lies in the shards, as a memory-mapped Arrow file."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.ipc

from speechmill.errors import SpeechmillError, StorageError
from speechmill.shards.plan import NO_SPLIT, read_plan_info
from speechmill.shards.tar import BLOCK, scan

INDEX_NAME = "index.arrow"
FOREIGN_NAME = "foreign.arrow"  # beside the index of TARs that somebody else wrote: their texts
_SIZES = "tar_sizes"
NATIVE_UNKNOWN = -1

# Row order is the order on disk: shard by shard, member by member.
SCHEMA: dict[str, type[pl.DataType]] = {
    "id": pl.String,
    "shard": pl.String,  # file name without ".tar"; an Enum in the file
    "offset": pl.Int64,  # of the audio payload in the TAR, bytes
    "size": pl.Int32,  # of the audio payload, bytes
    "json_offset": pl.Int64,
    "json_size": pl.Int32,
    "samples": pl.Int32,  # at the shards' sample rate
    "characters": pl.Int32,  # of the text as written
    "split": pl.String,  # an Enum in the file, like the next three
    "call": pl.String,
    "speaker": pl.String,
    "session": pl.String,
    "native": pl.Int8,  # 1, 0, or -1 where the corpus does not say
}
_ENUMS = ("shard", "split", "call", "speaker", "session")


@dataclass(frozen=True)
class Index:
    """An opened index. Arrays are views of the mapped file: opening reads no rows."""

    folder: Path
    table: pa.Table
    sample_rate: int
    fingerprint: str  # of the plan: manifest and settings

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process maps the file itself: the rows are not sent.
        return open_index, (self.folder,)

    @cached_property
    def shard_names(self) -> list[str]:
        return self.names("shard")

    @cached_property
    def shard(self) -> npt.NDArray[np.integer]:
        return self.codes("shard")

    @cached_property
    def offset(self) -> npt.NDArray[np.int64]:
        return self.numbers("offset")

    @cached_property
    def size(self) -> npt.NDArray[np.int32]:
        return self.numbers("size")

    @cached_property
    def json_offset(self) -> npt.NDArray[np.int64]:
        return self.numbers("json_offset")

    @cached_property
    def json_size(self) -> npt.NDArray[np.int32]:
        return self.numbers("json_size")

    @cached_property
    def samples(self) -> npt.NDArray[np.int32]:
        return self.numbers("samples")

    def id(self, row: int) -> str:
        return str(self.table.column("id")[row].as_py())

    def rows(self, split: str | None) -> npt.NDArray[np.int64]:
        """The rows of a split (None: all), in disk order."""
        if split is None:
            return np.arange(len(self), dtype=np.int64)
        names = self.names("split")
        if split not in names:
            advice = "; run `speechmill select` on the manifest, and shard what it gives" if names == [NO_SPLIT] else ""
            raise SpeechmillError(
                f"{self.folder}: no split {split!r} here; there is {', '.join(map(repr, names))}{advice}."
            )
        return np.flatnonzero(self.codes("split") == names.index(split)).astype(np.int64)

    def shard_path(self, shard: int) -> Path:
        return self.folder / f"{self.shard_names[shard]}.tar"

    def open_shard(self, shard: int) -> int:
        """The descriptor of a shard, for reading. Raises SpeechmillError where it is gone, StorageError where the file
        system does not give it."""
        path = self.shard_path(shard)
        try:
            return os.open(path, os.O_RDONLY)
        except OSError as error:
            kind = SpeechmillError if error.errno == errno.ENOENT else StorageError
            raise kind(f"{path}: cannot be opened ({error.strerror}).") from error

    def fetch_ahead(self, shards: Sequence[int], lanes: int = 1) -> list[Path]:
        """Have the shards of a window, one of `lanes`, brought near in the background; returns those on a disk."""
        del lanes
        return [self.shard_path(shard) for shard in shards]

    def keep(self, shards: Sequence[int]) -> None:
        """Say that these shards are read now, before others are fetched that might take their room."""

    def column_path(self, name: str) -> Path:
        """Where a column file beside the index lies or is to be written."""
        return self.folder / name

    def file_beside(self, name: str) -> Path | None:
        """A file that was written with the index; None where there is none."""
        path = self.folder / name
        return path if path.is_file() else None

    def numbers(self, column: str) -> npt.NDArray[Any]:
        """A numeric column."""
        values: npt.NDArray[Any] = self.table.column(column).chunk(0).to_numpy()
        return values

    def names(self, column: str) -> list[str]:
        """The different values of a text column (shard, split, call, speaker, session)."""
        values: list[str] = self.table.column(column).chunk(0).dictionary.to_pylist()
        return values

    def codes(self, column: str) -> npt.NDArray[np.integer]:
        """A text column as places in `names`."""
        values: npt.NDArray[np.integer] = self.table.column(column).chunk(0).indices.to_numpy()
        return values


def write_index(table: pl.DataFrame, path: Path, tar_sizes: Mapping[str, int] | None = None) -> None:
    """Write the file of an index; `table` has the columns of SCHEMA, in disk order.

    Args:
        tar_sizes: bytes of each shard, where they do not follow from its last row: in TARs of others.
    """
    enums = {name: pl.Enum(table[name].unique().sort()) for name in _ENUMS}
    table = table.select(pl.col(name).cast(enums.get(name, kind)) for name, kind in SCHEMA.items())
    # Uncompressed and in one chunk, so that columns can be mapped without a copy.
    arrow = table.rechunk().to_arrow().combine_chunks()
    if tar_sizes is not None:
        arrow = arrow.replace_schema_metadata({_SIZES: json.dumps(dict(tar_sizes))})
    with pa.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, arrow.schema) as writer:
        writer.write_table(arrow)


def open_index(folder: Path, shards_there: bool = True) -> Index:
    """Open the index of a shard folder. Raises SpeechmillError where there is none or its shards have changed.

    Args:
        shards_there: whether the shards must lie beside it, as those that a cache fetches do not.
    """
    path = folder / INDEX_NAME
    if not folder.is_dir():
        raise SpeechmillError(f"{folder}: no such folder of shards; make one with `speechmill shard`.")
    if not path.is_file():
        raise SpeechmillError(f"{path}: no index; finish the shards with `speechmill shard`.")
    try:
        table = pyarrow.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise SpeechmillError(f"{path}: not an index ({error}); remove it and run `speechmill shard` again.") from error
    missing = [name for name in SCHEMA if name not in table.column_names]
    if missing:
        raise SpeechmillError(f"{path}: the index has no column {missing[0]!r}; write it again with this version.")
    info = read_plan_info(folder)
    index = Index(folder, table, info.sample_rate, info.fingerprint)
    if shards_there:
        _check_tars(index)
    return index


def _check_tars(index: Index) -> None:
    """One look at each shard. A shorter one is damaged, and its utterances are told when they are read."""
    for number, implied in enumerate(_tar_sizes(index)):
        path = index.shard_path(number)
        try:
            found = path.stat().st_size
        except FileNotFoundError as error:
            raise SpeechmillError(
                f"{path}: this shard of the index is gone; bring it back, or remove the folder and run `speechmill "
                f"shard` again."
            ) from error
        if found > implied:
            for _ in scan(path, folders=True):  # refuses what must not be in a shard
                pass
            raise SpeechmillError(
                f"{path}: has {found - implied} bytes more than its index says, so it was changed since; `speechmill "
                f"shards verify` checks the folder, `repair` (or `index`, for TARs of others) mends it."
            )


def _tar_sizes(index: Index) -> list[int]:
    """How large each shard was when the index was written."""
    known = (index.table.schema.metadata or {}).get(_SIZES.encode())
    if known is not None:
        sizes = json.loads(known)
        return [int(sizes[name]) for name in index.shard_names]
    if (index.folder / FOREIGN_NAME).is_file():
        return [sys.maxsize] * len(index.shard_names)  # an older index of somebody else's TARs does not say
    last = np.append(np.flatnonzero(index.shard[1:] != index.shard[:-1]), len(index) - 1)
    ends = index.json_offset[last] + -(-index.json_size[last].astype(np.int64) // BLOCK) * BLOCK + 2 * BLOCK
    found = np.zeros(len(index.shard_names), np.int64)
    np.maximum.at(found, index.shard[last], ends)
    return [int(size) for size in found]
