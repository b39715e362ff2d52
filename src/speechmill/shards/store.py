"""Where shards are: a folder that is read in place, or a folder or URL that is read through a cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from speechmill.errors import SpeechmillError
from speechmill.settings import DataSettings
from speechmill.shards.cache import ShardCache
from speechmill.shards.index import INDEX_NAME, Index, open_index
from speechmill.shards.plan import PLAN_NAME
from speechmill.shards.remote import is_url

FOREIGN_NAME = "foreign.arrow"  # beside the index of TARs that somebody else wrote: their texts


@dataclass(frozen=True)
class CachedIndex(Index):
    """The index of shards that come through a cache: its folder is the cache's."""

    cache: ShardCache

    def __reduce__(self) -> tuple[Any, ...]:
        return open_shards, (self.cache.source, str(self.cache.root), self.cache.limit / 1e9)

    def shard_bytes(self, shards: Sequence[int]) -> int:
        """About how many bytes some shards have: to the end of their last member."""
        ends = np.zeros(len(self.shard_names), np.int64)
        np.maximum.at(ends, self.shard, self.json_offset + self.json_size)
        chosen: npt.NDArray[np.int64] = ends[list(shards)]
        return int(chosen.sum())


def open_shards(place: str | Path, cache: str = "", cache_gb: float = 0.0) -> Index:
    """Open the index of a folder of shards, by path or URL.

    Args:
        cache: a folder on a local disk to which whole shards are fetched; without one, a path is read in place.
        cache_gb: how many gigabytes of shards it holds at most.
    Raises SpeechmillError where there are no shards, and for a URL without a cache.
    """
    place = str(place)
    if not cache:
        if is_url(place):
            raise SpeechmillError(f"{place}: a URL needs a cache; set data.cache to a folder on a local disk.")
        return open_index(Path(place))
    if not is_url(place) and not Path(place).is_dir():
        raise SpeechmillError(f"{place}: no such folder of shards; make one with `speechmill shard`.")
    shards = ShardCache(place, Path(cache), round(cache_gb * 1e9))
    for name in (PLAN_NAME, INDEX_NAME, *({FOREIGN_NAME} & shards.sums.keys())):
        shards.fetch(name)
    index = open_index(shards.folder, shards_there=False)
    return CachedIndex(**{field.name: getattr(index, field.name) for field in fields(index)}, cache=shards)


def open_data(data: DataSettings) -> Index:
    """The shards of a recipe."""
    return open_shards(data.shards, data.cache, data.cache_gb)


def absolute_place(place: str) -> str:
    """A path as it is seen from everywhere; a URL is that already."""
    return place if is_url(place) else str(Path(place).resolve())


def open_shard(index: Index, shard: int) -> int:
    """The descriptor of a shard, for reading. Raises SpeechmillError where it cannot be had."""
    if isinstance(index, CachedIndex):
        return index.cache.open(f"{index.shard_names[shard]}.tar")
    path = index.shard_path(shard)
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise SpeechmillError(f"{path}: cannot be opened ({error.strerror}).") from error


def close_evicted(files: dict[int, int]) -> None:
    """Close the descriptors (by shard) of shards that left the cache: until then their space is not free."""
    for shard, descriptor in list(files.items()):
        if os.fstat(descriptor).st_nlink == 0:
            os.close(files.pop(shard))


def fetch_ahead(index: Index, shards: Sequence[int]) -> bool:
    """Fetch shards that will be read soon into the cache, in the background; False where there is no cache."""
    if not isinstance(index, CachedIndex):
        return False
    if shards:
        needed = 2 * index.shard_bytes(shards)
        if needed > index.cache.limit:
            raise SpeechmillError(
                f"{index.cache.root}: {index.cache.limit / 1e9:.3f} GB cannot hold two windows of {len(shards)} shards "
                f"({needed / 1e9:.3f} GB): each would be fetched again and again; raise data.cache_gb or lower "
                f"schedule.window_shards."
            )
        index.cache.fetch_ahead([f"{index.shard_names[shard]}.tar" for shard in shards])
    return True


def column_path(index: Index, name: str) -> Path:
    """Where a column file beside the index lies or is to be written; one that the source has is fetched."""
    return index.cache.fetch_extra(name) if isinstance(index, CachedIndex) else index.folder / name
