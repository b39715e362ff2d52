"""Which calls are train, valid and test: whole calls, or whole groups of calls that share a speaker or a company."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from speechmill.errors import SpeechmillError


def rank_key(seed: int, name: str) -> bytes:
    """A place in an order that depends on nothing but seed and name: calls that come or go do not move the others."""
    return hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=16).digest()


def call_groups(table: pl.DataFrame, disjoint: Sequence[str]) -> dict[str, str]:
    """Call -> the name of its group: the calls that must be on one side because they share a value of `disjoint`.

    Connected components by union-find over the distinct (call, value) pairs; a group is named by its smallest call.
    Missing and empty values tie nothing.
    """
    parent = {call: call for call in table["call"].unique().sort()}

    def find(call: str) -> str:
        """The call that stands for the group of a call; paths are shortened on the way."""
        root = call
        while parent[root] != root:
            root = parent[root]
        while parent[call] != root:
            parent[call], call = root, parent[call]
        return root

    for column in disjoint:
        pairs = table.select("call", pl.col(column).cast(pl.String).alias("value")).unique().drop_nulls()
        holder: dict[str, str] = {}
        for call, value in pairs.filter(pl.col("value") != "").sort("call").iter_rows():
            first, second = sorted((find(holder.setdefault(value, call)), find(call)))
            parent[second] = first
    return {call: find(call) for call in parent}


def assign_splits(
    groups: Mapping[str, str],
    seconds: Mapping[str, float],
    wanted: Mapping[str, float],
    fixed: Mapping[str, Iterable[str]],
    seed: int,
) -> dict[str, str]:
    """Group -> "test", "valid" or "train".

    `groups` maps calls to groups, `seconds` gives what each group holds, `wanted` the seconds of test and valid.
    A split with `fixed` calls is made of their groups and of nothing else. The others are filled in hash order with
    the groups that bring them nearer to what is wanted, test first; what remains is train. How much of train is used
    later has no say in this, so valid and test stay the same over all sizes of the training set.
    Raises SpeechmillError where a fixed call is asked into two splits.
    """
    splits: dict[str, str] = {}
    for split in ("test", "valid"):
        for call in sorted(fixed[split]):
            if splits.setdefault(groups[call], split) != split:
                raise SpeechmillError(
                    f"select: call {call!r} is asked into valid, but it or a call tied to it is asked into test."
                )
    order = sorted(seconds, key=lambda group: rank_key(seed, group))
    for split in ("test", "valid"):
        if fixed[split] or wanted[split] <= 0:
            continue
        free = [group for group in order if group not in splits and seconds[group] > 0]
        chosen = _nearest(free, seconds, wanted[split])
        if not chosen and len(free) > 1:
            chosen = [min(free, key=lambda group: seconds[group])]
        splits |= dict.fromkeys(chosen, split)
    return {group: splits.get(group, "train") for group in order}


def _nearest(order: list[str], seconds: Mapping[str, float], wanted: float) -> list[str]:
    """Take, in order, each group that brings the sum nearer to `wanted`. A group too large for it is passed over."""
    chosen, total = [], 0.0
    for group in order:
        if seconds[group] < 2 * (wanted - total):
            chosen.append(group)
            total += seconds[group]
    return chosen
