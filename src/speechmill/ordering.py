"""Seeded orders that stay the same over versions of every library: the ground that determinism stands on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]


def mix(values: npt.NDArray[np.integer], *keys: int) -> U64:
    """Hash integers, with keys, into uniform 64-bit numbers (the finaliser of SplitMix64, Steele et al. 2014)."""
    mixed = values.astype(np.uint64)
    with np.errstate(over="ignore"):
        for key in (*keys, 0):
            mixed = mixed + np.uint64((key * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed


def seed_of(*keys: int) -> int:
    """One 63-bit seed out of several numbers, e.g. (seed, batch number)."""
    return int(mix(np.zeros(1, dtype=np.uint64), *keys)[0] >> np.uint64(1))


def permutation(count: int, *keys: int) -> npt.NDArray[np.int64]:
    """A permutation of 0..count-1 that depends on the keys alone."""
    return np.argsort(mix(np.arange(count), *keys), kind="stable").astype(np.int64)


def hash_names(names: Iterable[str], seed: int) -> U64:
    """Hash names, with a seed, into uniform 64-bit numbers (BLAKE2b)."""
    salt = (seed % 2**64).to_bytes(8, "little")
    return np.array(
        [int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, salt=salt).digest(), "little") for name in names],
        dtype=np.uint64,
    )
