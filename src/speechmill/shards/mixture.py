"""Several shard folders read as one: their indexes behind one another, each with a weight."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from speechmill.artefact import fingerprint
from speechmill.errors import SpeechmillError
from speechmill.settings import ShardFolder
from speechmill.shards.index import Index
from speechmill.shards.store import CachedIndex, check_room, open_shards

_FINEST = 1000  # weights are fractions with denominators up to this: 0.333 is 333/1000


class Mixture(Index):
    """The indexes of several folders as one index.

    Rows and shards are numbered through the folders in their order. Splits, calls, speakers and sessions of one name
    are taken for the same.
    """

    parts: tuple[Index, ...]
    weights: tuple[Fraction, ...]  # passes over each folder in an epoch, see `schedule.visits`

    def __init__(self, parts: Sequence[Index], weights: Sequence[float]) -> None:
        first = parts[0]
        for part in parts:
            if part.sample_rate != first.sample_rate:
                raise SpeechmillError(
                    f"{part.folder}: holds audio at {part.sample_rate} Hz, {first.folder} at {first.sample_rate} Hz; "
                    f"shards that are mixed have one rate: shard again."
                )
        twice = [part.folder for part in parts if sum(part.folder == other.folder for other in parts) > 1]
        if twice:
            raise SpeechmillError(f"data.shards: {twice[0]} is there twice; give it once, with the weights added up.")
        exact = tuple(Fraction(weight).limit_denominator(_FINEST) for weight in weights)
        if min(exact) <= 0:
            raise SpeechmillError(f"data.shards: a weight of {min(weights):g} is too small; the least is 1/{_FINEST}.")
        name = fingerprint([[part.fingerprint, str(weight)] for part, weight in zip(parts, exact, strict=True)])
        super().__init__(first.folder, first.table, first.sample_rate, name)
        object.__setattr__(self, "parts", tuple(parts))
        object.__setattr__(self, "weights", exact)

    def __len__(self) -> int:
        return int(self.row_ends[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return Mixture, (self.parts, [float(weight) for weight in self.weights])

    @cached_property
    def row_ends(self) -> npt.NDArray[np.int64]:
        return np.cumsum([len(part) for part in self.parts])

    @cached_property
    def _shard_ends(self) -> npt.NDArray[np.int64]:
        return np.cumsum([len(part.shard_names) for part in self.parts])

    def id(self, row: int) -> str:
        part, place = _place(self.row_ends, row)
        return self.parts[part].id(place)

    def shard_path(self, shard: int) -> Path:
        part, place = _place(self._shard_ends, shard)
        return self.parts[part].shard_path(place)

    def open_shard(self, shard: int) -> int:
        part, place = _place(self._shard_ends, shard)
        return self.parts[part].open_shard(place)

    def keep(self, shards: Sequence[int]) -> None:
        for part, places in zip(self.parts, self._of_parts(shards), strict=True):
            part.keep(places)

    def _of_parts(self, shards: Sequence[int]) -> list[list[int]]:
        of_part: list[list[int]] = [[] for _ in self.parts]
        for shard in shards:
            part, place = _place(self._shard_ends, shard)
            of_part[part].append(place)
        return of_part

    def fetch_ahead(self, shards: Sequence[int], lanes: int = 1) -> list[Path]:
        of_part = self._of_parts(shards)
        cached = [
            (part, places) for part, places in zip(self.parts, of_part, strict=True) if isinstance(part, CachedIndex)
        ]
        if cached:  # they share one cache
            size = sum(part.shard_bytes(places) for part, places in cached)
            check_room(cached[0][0].cache, len(shards), size, lanes)
        return [
            path for part, places in zip(self.parts, of_part, strict=True) for path in part.fetch_ahead(places, lanes)
        ]

    def numbers(self, column: str) -> npt.NDArray[Any]:
        return np.concatenate([part.numbers(column) for part in self.parts])

    def names(self, column: str) -> list[str]:
        if column == "shard":  # folders may have shards of one name
            return [name for part in self.parts for name in part.names(column)]
        return list(dict.fromkeys(name for part in self.parts for name in part.names(column)))

    def codes(self, column: str) -> npt.NDArray[np.integer]:
        if column == "shard":
            before = np.concatenate([[0], self._shard_ends[:-1]])
            return np.concatenate(
                [part.codes(column).astype(np.int64) + first for part, first in zip(self.parts, before, strict=True)]
            )
        known = {name: code for code, name in enumerate(self.names(column))}
        return np.concatenate(
            [np.array([known[name] for name in part.names(column)])[part.codes(column)] for part in self.parts]
        )


def _place(ends: npt.NDArray[np.int64], number: int) -> tuple[int, int]:
    part = int(np.searchsorted(ends, number, side="right"))
    return part, int(number - (ends[part - 1] if part else 0))


def open_data(shards: str | Sequence[ShardFolder], cache: str = "", cache_gb: float = 0.0) -> Index:
    """The index of `data.shards`: of one folder, or of several that are mixed.

    Args:
        cache, cache_gb: as for `open_shards`.
    Raises SpeechmillError where there is none, or where the folders do not go together.
    """
    if not shards:
        raise SpeechmillError("data.shards is not set; add it to the recipe or give it as data.shards=PATH.")
    if isinstance(shards, str):
        return open_shards(shards, cache, cache_gb)
    parts = [open_shards(folder.path, cache, cache_gb) for folder in shards]
    return Mixture(parts, [folder.weight for folder in shards])


def parts_of(index: Index, rows: npt.NDArray[np.int64]) -> list[tuple[int, Fraction]]:
    """For each folder of a mixture: where its part of `rows` (ascending) ends, and its weight; else nothing."""
    if not isinstance(index, Mixture):
        return []
    ends = np.searchsorted(rows, index.row_ends).tolist()
    for part, (start, end) in zip(index.parts, pairwise([0, *ends]), strict=True):
        if start == end:
            raise SpeechmillError(f"{part.folder}: has no utterances of the split that is mixed; leave it out.")
    return list(zip(ends, index.weights, strict=True))
