"""The plan: which utterance goes to which shard. A pure function of the manifest and the settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from speechmill.artefact import fingerprint, read_json, write_text
from speechmill.errors import SpeechmillError
from speechmill.manifest import is_untimed, scan_manifest, slices
from speechmill.ordering import hash_names, mix
from speechmill.settings import ShardSettings

PLAN_NAME = "plan.json"
NO_SPLIT = "all"  # of utterances that `select` has not seen
_PIECE = 1 << 19  # rows of a plan that are in memory with their text
# Of the bytes of shards: one more where the same plan gives others. FLAC of format 1 had an MD5.
_FORMATS = {"flac": 2, "wav": 1, "opus": 1}
_ID = "^[A-Za-z0-9_-]{1,95}$"  # with the longest suffix it fills the name field of a TAR header


@dataclass(frozen=True)
class PlanInfo:
    """What a shard folder says of itself; its fingerprint names the bytes that its shards were first written with."""

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
    plain = settings.model_dump(mode="json")
    return PlanInfo(name, plain, manifest_sha256, plan["shard"].n_unique(), plan.height)


def plan_fingerprint(settings: ShardSettings, manifest_sha256: str, number: int | None = None) -> str:
    """Known before the plan is made: nine million rows need not be planned to see that they were.

    Args:
        number: of a format; None: the present one of the codec.
    """
    # Shards of FLAC keep the name that they had before there were others.
    plain = settings.model_dump(mode="json")
    named = {key: value for key, value in plain.items() if (key, value) != ("codec", "flac")}
    number = number or _FORMATS[settings.codec]
    return fingerprint({"settings": named, "manifest": manifest_sha256, "format": number})


def earlier_fingerprints(settings: ShardSettings, manifest_sha256: str) -> list[str]:
    """Those of the same samples in the bytes of earlier formats."""
    return [plan_fingerprint(settings, manifest_sha256, number) for number in range(1, _FORMATS[settings.codec])]


def plan_text(info: PlanInfo) -> str:
    return json.dumps(vars(info), indent=1, ensure_ascii=False) + "\n"


def write_plan_info(folder: Path, info: PlanInfo) -> None:
    write_text(folder / PLAN_NAME, plan_text(info))


def read_plan_info(folder: Path) -> PlanInfo:
    """What a folder of shards was planned from. Raises SpeechmillError where there is no such plan."""
    path = folder / PLAN_NAME
    try:
        return PlanInfo(**read_json(path))
    except (TypeError, SpeechmillError) as error:
        raise SpeechmillError(
            f"{path}: not the plan of a folder of shards ({str(error).removeprefix(f'{path}: ').rstrip('.')}); "
            f"run `speechmill shard` with the manifest of these shards, or `speechmill shards index` where somebody "
            f"else wrote them: it is written again."
        ) from error


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
    dealt = _deal(_checked(table.lazy()), settings)
    return table[dealt["row"]].with_columns(_split_or_all(), dealt["group"], dealt["shard"].cast(pl.String))


def plan_manifest(manifest: Path, settings: ShardSettings) -> pl.DataFrame:
    """`plan_shards` of a manifest of any size, without the columns that only writing needs.

    Returns:
        `row` (place in the manifest), `group`, `shard` and `seconds`, sorted as they will be written; `planned_rows`
        fetches the other columns for a part of it.
    """
    return _deal(_checked(scan_manifest(manifest)), settings)


def planned_pieces(manifest: Path, plan: pl.DataFrame, scratch: Path) -> Iterator[pl.DataFrame]:
    """What `plan_shards` gives, of a manifest of any size: whole groups at a time, in order.

    The manifest is gone through once: its rows are dealt to files in `scratch`, one for each piece, and these are put
    in order one by one. The folder is made, and is gone at the end.
    """
    if plan.height <= _PIECE:
        yield planned_rows(manifest, plan)
        return
    sizes = plan.group_by("group").len().sort("group")["len"].to_numpy()
    ends = np.cumsum(sizes)
    ends = ends[np.flatnonzero(np.diff((ends - sizes) // _PIECE, append=-1))]  # where a piece ends
    place = np.empty(plan.height, np.int64)
    place[plan["row"].to_numpy()] = np.arange(plan.height)
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    scratch.mkdir(parents=True)
    for part, rows in slices(scan_manifest(manifest), plan.height):
        placed = rows.with_columns(_place=pl.Series(place[part]))
        pieces = np.searchsorted(ends, place[part], side="right")
        for piece in np.unique(pieces).tolist():
            some = placed.filter(pl.Series(pieces == piece))
            some.write_ipc(scratch / f"{piece:06d}-{part.start:012d}.arrow", compression="lz4")
    for piece in range(len(ends)):
        files = sorted(scratch.glob(f"{piece:06d}-*.arrow"))
        rows = pl.concat([pl.read_ipc(file) for file in files]).sort("_place")
        for file in files:
            file.unlink()
        own = plan[int(ends[piece - 1]) if piece else 0 : int(ends[piece])]
        yield rows.drop("_place").with_columns(_split_or_all(), own["group"], own["shard"].cast(pl.String))
    scratch.rmdir()


def planned_rows(manifest: Path, part: pl.DataFrame) -> pl.DataFrame:
    """What `plan_shards` gives, for a part of what `plan_manifest` gives, such as the groups that a worker writes.

    It goes through the whole manifest and holds only what was asked for: ask for many groups at a time.
    """
    wanted = part.lazy().select("row", "group", "shard", _place=pl.int_range(pl.len()))
    found = scan_manifest(manifest).with_row_index("row").join(wanted, on="row").collect(engine="streaming")
    return found.sort("_place").drop("row", "_place").with_columns(_split_or_all(), pl.col("shard").cast(pl.String))


def _split_or_all() -> pl.Expr:
    return pl.col("split").replace("", NO_SPLIT).fill_null(NO_SPLIT)


def _checked(rows: pl.LazyFrame) -> pl.DataFrame:
    """The columns that planning needs. Raises SpeechmillError where rows are missing something or cannot be named."""
    needed = ("id", "recording", "start", "end", "text", "call")
    schema = rows.collect_schema()
    missing = [
        (pl.col(name).is_null() | (~pl.col(name).is_finite() if schema[name].is_float() else False)).sum().alias(name)
        for name in needed
    ]
    untimed = is_untimed(schema.names()).sum().alias("untimed")
    counts = rows.select(pl.len().alias("rows"), untimed, *missing).collect(engine="streaming").row(0, named=True)
    if not counts["rows"]:
        raise SpeechmillError("the manifest has no rows, so there is nothing to shard.")
    if counts["untimed"]:
        raise SpeechmillError(
            f"{counts['untimed']} of {counts['rows']} rows of the manifest have no times of their own (timed: "
            f"false), so that nothing can be cut for them; `speechmill align` finds them, `select` leaves them out."
        )
    for name in needed:
        if counts[name]:
            raise SpeechmillError(f"{counts[name]} rows of the manifest have no {name}; each needs one.")
    table = rows.select("id", _split_or_all(), "call", "start", "end").collect()
    odd = table["id"].filter(~table["id"].str.contains(_ID))
    if not odd.is_empty():
        raise SpeechmillError(
            f"the utterance id {odd[0]!r} cannot name a member of a shard; "
            f"1 to 95 letters, digits, - and _ were expected."
        )
    if table["id"].n_unique() < table.height:
        repeated = table["id"].filter(table["id"].is_duplicated())
        raise SpeechmillError(
            f"the utterance {repeated[0]!r} occurs {len(repeated)} times in the manifest; "
            f"ids name the members of a shard and must differ."
        )
    return table


def _deal(table: pl.DataFrame, settings: ShardSettings) -> pl.DataFrame:
    """`row`, `group`, `shard` and `seconds` of each utterance, sorted as they will be written."""
    groups = _groups_of_calls(table, settings)
    seconds = pl.col("end") - pl.col("start")
    rows = table.select("id", "split", "call", "start", seconds=seconds, row=pl.int_range(pl.len(), dtype=pl.UInt32))
    rows = rows.join(groups, on=["split", "call"], how="left").drop("split", "call")
    rows = rows.sort("group", "_order", "start", "id").drop("id", "start", "_order")
    chance = mix(np.arange(rows.height), settings.seed)
    # Dealing by rank, not by the hash itself: the shards of a group get equal numbers of utterances.
    by_chance = np.lexsort((chance, rows["group"].to_numpy()))
    bounds = np.flatnonzero(np.diff(rows["group"].to_numpy(), prepend=-1))
    rank = np.empty(rows.height, dtype=np.int64)
    rank[by_chance] = np.arange(rows.height) - np.repeat(bounds, np.diff(bounds, append=rows.height))
    shard = rows["_shard"].to_numpy() + rank % rows["_shards"].to_numpy()
    order = np.argsort(shard, kind="stable")
    names = pl.Series("shard", _names(groups), dtype=pl.Enum(_names(groups)))
    return rows.select("row", "group", "seconds")[order].insert_column(2, names.gather(shard[order]))


def _names(groups: pl.DataFrame) -> list[str]:
    """The names of all shards in their order, by the number that `_shard` gives the first of a group."""
    last = groups.group_by("split").agg((pl.col("_first") + pl.col("_shards")).max().alias("count")).sort("split")
    return [f"{split}-{number:06d}" for split, count in last.iter_rows() for number in range(count)]


def _groups_of_calls(table: pl.DataFrame, settings: ShardSettings) -> pl.DataFrame:
    """For each (split, call): its group and place there, and the group's shards.

    `_shards` is how many; `_first` the number of the first of them in its split, `_shard` among all.
    """
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
        (pl.col("_shards").cum_sum() - pl.col("_shards")).alias("_shard"),
        pl.int_range(pl.len(), dtype=pl.Int32).alias("group"),
    )
    joined = calls.join(sizes, on=["split", "_in_split"])
    return joined.select("split", "call", "group", "_shards", "_first", "_shard", "_order")
