from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import SHARD_SETTINGS
from speechmill.errors import SpeechmillError
from speechmill.manifest import SCHEMA, read_manifest, write_manifest
from speechmill.settings import ShardSettings
from speechmill.shards.plan import (
    PlanInfo,
    plan_info,
    plan_manifest,
    plan_shards,
    planned_pieces,
    planned_rows,
    read_plan_info,
    write_plan_info,
)


def table(calls: int, rows: int, seed: int = 0, splits: tuple[str, ...] = ("train", "valid")) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    call, row = np.repeat(np.arange(calls), rows), np.tile(np.arange(rows), calls)
    length = rng.uniform(1, 20, calls * rows)
    start = pl.Series(length).cum_sum() - length
    columns = {
        "id": [f"c{c}_{r}" for c, r in zip(call, row, strict=True)],
        "recording": [f"/calls/{c}.wav" for c in call],
        "start": start,
        "end": start + length,
        "text": ["text"] * len(call),
        "speaker": ["s"] * len(call),
        "call": [f"c{c}" for c in call],
        "session": [""] * len(call),
        "native": [None] * len(call),
        "split": [splits[c % len(splits)] for c in call],
    }
    return pl.DataFrame(columns, schema=SCHEMA)


@st.composite
def cases(draw: st.DrawFn) -> tuple[pl.DataFrame, ShardSettings]:
    made = table(draw(st.integers(1, 12)), draw(st.integers(1, 8)), draw(st.integers(0, 9)))
    settings = ShardSettings(
        shard_seconds=draw(st.floats(5, 300)), group_shards=draw(st.integers(1, 4)), seed=draw(st.integers(-3, 3))
    )
    return made, settings


@given(cases(), st.randoms(use_true_random=False))
def test_each_utterance_is_in_one_shard_and_each_recording_in_one_group(
    case: tuple[pl.DataFrame, ShardSettings], random: object
) -> None:
    made, settings = case
    plan = plan_shards(made, settings)
    assert sorted(plan["id"]) == sorted(made["id"])
    assert plan.drop("group", "shard").sort("id").equals(made.sort("id"))
    assert (
        plan.group_by("recording").agg(pl.col("group").n_unique())["group"].to_list() == [1] * made["call"].n_unique()
    )
    for column in ("split", "group"):
        assert plan.group_by("shard").agg(pl.col(column).n_unique())[column].max() == 1
    assert plan.select((pl.col("shard") == pl.col("split") + "-" + pl.col("shard").str.tail(6)).all()).item()
    shuffled = made.sample(fraction=1.0, shuffle=True, seed=random.randint(0, 99))  # type: ignore[attr-defined]
    assert plan_shards(shuffled, settings).equals(plan)


def test_rows_are_in_the_order_of_the_disk() -> None:
    plan = plan_shards(table(10, 6), ShardSettings(shard_seconds=60, group_shards=2))
    assert plan["shard"].is_sorted()
    for (_, _), rows in plan.group_by("shard", "call"):
        assert rows["start"].is_sorted()


def test_a_shard_mixes_the_calls_of_its_group() -> None:
    plan = plan_shards(table(40, 30, splits=("train",)), ShardSettings(shard_seconds=600, group_shards=4))
    calls = plan.group_by("shard").agg(pl.col("call").n_unique())["call"]
    per_group = plan.group_by("group").agg(pl.col("call").n_unique())["call"]
    assert per_group.min() >= 5
    assert calls.min() >= 0.9 * per_group.min()


def test_shards_are_about_as_long_as_wished() -> None:
    plan = plan_shards(table(60, 40, splits=("train",)), ShardSettings(shard_seconds=900, group_shards=4))
    seconds = plan.group_by("shard").agg((pl.col("end") - pl.col("start")).sum().alias("s"))["s"]
    assert len(seconds) == round(seconds.sum() / 900)
    assert seconds.min() > 0.7 * 900
    assert seconds.max() < 1.3 * 900


def test_equal_calls_on_the_borders_of_groups_do_not_depend_on_the_order_of_rows() -> None:
    made = table(30, 10, splits=("train",)).with_columns(
        start=pl.int_range(300) * 0.1, end=pl.int_range(300) * 0.1 + 0.7
    )
    settings = ShardSettings(shard_seconds=7, group_shards=2)
    plan = plan_shards(made, settings)
    assert plan["group"].n_unique() == 15
    for seed in range(5):
        assert plan_shards(made.sample(fraction=1.0, shuffle=True, seed=seed), settings).equals(plan)


def test_other_seeds_give_other_shards() -> None:
    made, settings = table(20, 10), ShardSettings(shard_seconds=100, group_shards=2)
    plans = [
        plan_shards(made, settings.model_copy(update={"seed": seed})).sort("id")["shard"].to_list() for seed in (0, 1)
    ]
    assert plans[0] != plans[1]


def test_without_splits_there_is_one_named_all() -> None:
    for split in ("", None):
        plan = plan_shards(table(2, 2).with_columns(split=pl.lit(split, pl.String)), ShardSettings())
        assert plan["split"].to_list() == ["all"] * 4
        assert plan["shard"].to_list() == ["all-000000"] * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.lit("same").alias("id"), "'same' occurs 4 times"),
        (pl.lit("../x").alias("id"), "'../x' cannot name a member of a shard"),
        (pl.format("a.b{}", pl.int_range(pl.len())).alias("id"), "'a.b0' cannot name a member"),
        (pl.format("{}{}", pl.lit("a" * 95), pl.int_range(pl.len())).alias("id"), "1 to 95 letters"),
        (pl.lit(None, pl.String).alias("call"), "4 rows of the manifest have no call"),
        (pl.lit(None, pl.Float64).alias("end"), "4 rows of the manifest have no end"),
        (pl.lit(float("nan")).alias("start"), "4 rows of the manifest have no start"),
        (pl.lit(float("inf")).alias("end"), "4 rows of the manifest have no end"),
    ],
)
def test_rows_that_cannot_be_sharded_are_named(change: pl.Expr, message: str) -> None:
    with pytest.raises(SpeechmillError, match=message):
        plan_shards(table(2, 2).with_columns(change), ShardSettings())


def test_an_empty_manifest_is_one_clear_line() -> None:
    with pytest.raises(SpeechmillError, match="has no rows"):
        plan_shards(pl.DataFrame(schema=SCHEMA), ShardSettings())


def test_the_plan_names_manifest_and_settings(tmp_path: Path, manifest: Path) -> None:
    plan = plan_shards(read_manifest(manifest), SHARD_SETTINGS)
    info = plan_info(plan, SHARD_SETTINGS, "a" * 64)
    other = SHARD_SETTINGS.model_copy(update={"seed": 1})
    assert (
        len(
            {
                info.fingerprint,
                plan_info(plan, SHARD_SETTINGS, "b" * 64).fingerprint,
                plan_info(plan, other, "a" * 64).fingerprint,
            }
        )
        == 3
    )
    write_plan_info(tmp_path, info)
    assert read_plan_info(tmp_path) == info
    assert isinstance(info, PlanInfo)
    assert (info.sample_rate, info.utterances) == (8000, 72)
    (tmp_path / "plan.json").write_text('{"shards": 3}')
    with pytest.raises(SpeechmillError, match=r"plan\.json: not the plan"):
        read_plan_info(tmp_path)


# This dealing must never change: shard folders on disk were written by it.
def test_golden_plan(manifest: Path) -> None:
    rows = read_manifest(manifest).with_columns(recording=pl.lit("r"))
    plan = plan_shards(rows, SHARD_SETTINGS)
    assert plan.filter(shard="train-000001")["id"].to_list() == [
        "1000_S000",
        "1000_S002",
        "1000_S003",
        "1000_S004",
        "1001_S000",
        "1001_S002",
        "1006_S000",
        "1006_S001",
        "1006_S002",
        "1006_S004",
        "1003_S002",
        "1003_S003",
    ]


def test_a_manifest_file_is_planned_without_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, settings = table(20, 10), ShardSettings(shard_seconds=100, group_shards=2)
    path = tmp_path / "manifest.parquet"
    write_manifest(made, path)
    whole, light = plan_shards(made, settings), plan_manifest(path, settings)
    assert set(light.columns) == {"row", "group", "shard", "seconds"}
    assert made["id"].gather(light["row"]).to_list() == whole["id"].to_list()
    assert light["shard"].cast(pl.String).to_list() == whole["shard"].to_list()
    assert planned_rows(path, light).equals(whole.select(planned_rows(path, light).columns))
    monkeypatch.setattr("speechmill.shards.plan._PIECE", 50)
    pieces = list(planned_pieces(path, light, tmp_path / "scratch"))
    assert not (tmp_path / "scratch").exists()
    assert len(pieces) > 2
    assert pl.concat(pieces).equals(whole.select(pieces[0].columns))
    some = light.filter(pl.col("group") == 1)
    assert planned_rows(path, some)["id"].to_list() == whole.filter(group=1)["id"].to_list()
