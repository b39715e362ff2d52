"""The plan: which utterance goes to which shard. A pure function of the manifest and the settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from speechmill.artefact import fingerprint, read_json, write_json
from speechmill.errors import SpeechmillError
from speechmill.ordering import hash_names, mix
from speechmill.settings import ShardSettings

PLAN_NAME = "plan.json"
_ID = "^[A-Za-z0-9_-]{1,95}$"  # with the longest suffix it fills the name field of a TAR header


@dataclass(frozen=True)
class PlanInfo:
    """What a shard folder says of itself; its fingerprint names the bytes of all its shards."""

    fingerprint: str
    settings: dict[str, Any]
    manifest_sha256: str
    shards: int
    utterances: int

    @property
    def sample_rate(self) -> int:
        return int(self.settings["sample_rate"])


def plan_info(plan: pl.DataFrame, settings: ShardSettings, manifest_sha256: str) -> PlanInfo:
    name = plan_fingerprint(settings, manifest_sha256)
    return PlanInfo(
        name, settings.model_dump(mode="json"), manifest_sha256, plan["shard"].n_unique(), plan.height
    )  # fmt: skip


def plan_fingerprint(settings: ShardSettings, manifest_sha256: str) -> str:
    """Known before the plan is made: nine million rows need not be planned to see that they were."""
    return fingerprint({"settings": settings.model_dump(mode="json"), "manifest": manifest_sha256, "format": 1})


def write_plan_info(folder: Path, info: PlanInfo) -> None:
    write_json(folder / PLAN_NAME, vars(info))


def read_plan_info(folder: Path) -> PlanInfo:
    path = folder / PLAN_NAME
    values = read_json(path)
    try:
        return PlanInfo(**values)
    except TypeError as error:
        raise SpeechmillError(f"{path}: not the plan of a shard folder ({error}).") from error


def plan_shards(table: pl.DataFrame, settings: ShardSettings) -> pl.DataFrame:
    """Deal utterances to shards.

    The calls of a split are put in a seeded order and cut into groups; the utterances of a group are dealt over the
    group's shards in a seeded order. So a recording is decoded once, for one group, and yet each shard mixes the
    utterances of all the group's calls. Within a shard, utterances stay in the order of call and time.

    Args:
        table: a manifest, with or without splits (then there is one, "all").
    Returns:
        the manifest's columns, `group` (int32) and `shard` (file name without ".tar"), sorted as they will be written.
    """
    _check(table)
    table = table.with_columns(pl.col("split").replace("", "all").fill_null("all"))
    planned = table.join(_groups_of_calls(table, settings), on=["split", "call"], how="left")
    planned = planned.sort("group", "_order", "start", "id")
    planned = planned.with_columns(pl.Series("_deal", mix(np.arange(planned.height), settings.seed)))
    # Dealing by rank, not by the hash itself: the shards of a group get equal numbers of utterances.
    slot = (pl.col("_deal").rank("ordinal").over("group") - 1) % pl.col("_shards")
    number = (pl.col("_first") + slot).cast(pl.String).str.zfill(6)
    planned = planned.with_columns(pl.concat_str("split", pl.lit("-"), number).alias("shard"))
    planned = planned.sort("shard", maintain_order=True)
    return planned.drop("_deal", "_shards", "_first", "_order")


def _check(table: pl.DataFrame) -> None:
    if table.is_empty():
        raise SpeechmillError("the manifest has no rows, so there is nothing to shard.")
    for name in ("id", "recording", "start", "end", "text", "call"):
        missing = table[name].is_null() | (~table[name].is_finite() if table[name].dtype.is_float() else False)
        if missing.any():
            raise SpeechmillError(f"{missing.sum()} rows of the manifest have no {name}; each needs one.")
    odd = table.filter(~pl.col("id").str.contains(_ID))
    if not odd.is_empty():
        raise SpeechmillError(
            f"the utterance id {odd['id'][0]!r} cannot name a member of a shard; "
            f"1 to 95 letters, digits, - and _ were expected."
        )
    repeated = table.filter(pl.col("id").is_duplicated())
    if not repeated.is_empty():
        raise SpeechmillError(
            f"the utterance {repeated['id'][0]!r} occurs {repeated.height} times in the manifest; "
            f"ids name the members of a shard and must differ."
        )


def _groups_of_calls(table: pl.DataFrame, settings: ShardSettings) -> pl.DataFrame:
    """For each (split, call): its group and place there, the group's number of shards and its first shard's number."""
    # Whole microseconds: a sum of floats would depend on the order of the rows.
    lengths = ((pl.col("end") - pl.col("start")) * 1e6).round().cast(pl.Int64)
    calls = table.group_by("split", "call").agg(lengths.sum().alias("micros"))
    calls = calls.with_columns(pl.Series("_hash", hash_names(calls["call"], settings.seed)))
    calls = calls.sort("split", "_hash", "call")
    total = pl.col("micros").sum().over("split")
    before = pl.col("micros").cum_sum().over("split") - pl.col("micros")
    groups = (total / (settings.shard_seconds * 1e6 * settings.group_shards)).round().clip(lower_bound=1)
    calls = calls.with_columns(
        (before * groups / total).floor().clip(upper_bound=groups - 1).alias("_in_split"),
        pl.int_range(pl.len()).over("split").alias("_order"),
    )
    shards = (pl.col("micros").sum() / (settings.shard_seconds * 1e6)).round().clip(lower_bound=1).cast(pl.Int64)
    sizes = calls.group_by("split", "_in_split").agg(shards.alias("_shards")).sort("split", "_in_split")
    sizes = sizes.with_columns(
        (pl.col("_shards").cum_sum().over("split") - pl.col("_shards")).alias("_first"),
        pl.int_range(pl.len(), dtype=pl.Int32).alias("group"),
    )
    joined = calls.join(sizes, on=["split", "_in_split"])
    return joined.select("split", "call", "group", "_shards", "_first", "_order")
