"""Where shards are: a folder that is read in place, or a folder or URL that is read through a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from speechmill.errors import SpeechmillError, StorageError
from speechmill.shards.cache import ShardCache
from speechmill.shards.index import FOREIGN_NAME, INDEX_NAME, Index, open_index
from speechmill.shards.plan import PLAN_NAME
from speechmill.shards.remote import is_url


@dataclass(frozen=True)
class CachedIndex(Index):
    """The index of shards that come through a cache: its folder is the cache's."""

    cache: ShardCache

    def __reduce__(self) -> tuple[Any, ...]:
        return open_shards, (self.cache.source, str(self.cache.root), self.cache.limit / 1e9)

    def open_shard(self, shard: int) -> int:
        return self.cache.open(f"{self.shard_names[shard]}.tar")

    def fetch_ahead(self, shards: Sequence[int], lanes: int = 1) -> list[Path]:
        check_room(self.cache, len(shards), self.shard_bytes(shards), lanes)
        if shards:
            self.cache.fetch_ahead([f"{self.shard_names[shard]}.tar" for shard in shards])
        return []

    def keep(self, shards: Sequence[int]) -> None:
        self.cache.keep([f"{self.shard_names[shard]}.tar" for shard in shards])

    def column_path(self, name: str) -> Path:
        return self.cache.fetch_extra(name)

    def file_beside(self, name: str) -> Path | None:
        return self.cache.fetch(name) if name in self.cache.sums else None

    def shard_bytes(self, shards: Sequence[int]) -> int:
        """About how many bytes some shards have: to the end of their last member."""
        ends = np.zeros(len(self.shard_names), np.int64)
        np.maximum.at(ends, self.shard, self.json_offset + self.json_size)
        chosen: npt.NDArray[np.int64] = ends[list(shards)]
        return int(chosen.sum())


def check_room(cache: ShardCache, shards: int, size: int, lanes: int) -> None:
    """Raise StorageError where a cache does not hold what is read and what comes next: two windows for each lane.

    Args:
        shards, size: of a window, and its bytes.
    """
    needed = 2 * lanes * size
    if needed > cache.limit:
        of_lanes = f" for each of {lanes} lanes" if lanes > 1 else ""
        raise StorageError(
            f"{cache.root}: {cache.limit / 1e9:.3f} GB cannot hold two windows of {shards} shards{of_lanes} "
            f"({needed / 1e9:.3f} GB): each would be fetched again and again; raise data.cache_gb or lower "
            f"schedule.window_shards{' or schedule.lanes' if lanes > 1 else ''}."
        )


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
