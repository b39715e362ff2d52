"""Whole recordings without times: select leaves them out by name, shard refuses them, evaluate says so."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from speechmill.errors import SpeechmillError
from speechmill.manifest import TIMED, check_recordings, is_untimed, read_manifest, write_manifest
from speechmill.select import select, select_manifest
from speechmill.settings import SelectSettings, ShardSettings
from speechmill.shards.plan import plan_shards
from speechmill.shards.write import shard_manifest


@pytest.fixture
def mixed(manifest: Path, tmp_path: Path) -> Path:
    """The tests' manifest with one call as a whole recording."""
    table = read_manifest(manifest).with_columns(pl.lit("").alias("split"), pl.lit(True).alias(TIMED))
    first = table.filter(call="1000")
    whole = first.head(1).with_columns(
        pl.lit("1000").alias("id"), pl.lit(0.0).alias("start"), pl.lit(first["end"].max()).alias("end"),
        pl.lit(" ".join(first["text"])).alias("text"), pl.lit(False).alias(TIMED),
    )  # fmt: skip
    write_manifest(pl.concat([whole, table.filter(pl.col("call") != "1000")]), tmp_path / "mixed.parquet")
    return tmp_path / "mixed.parquet"


def test_select_leaves_them_out_with_a_reason(mixed: Path, tmp_path: Path) -> None:
    done = select_manifest(mixed, tmp_path / "selected.parquet", SelectSettings(min_seconds=0.2, max_seconds=9999))
    assert done.summary["dropped"]["untimed"]["utterances"] == 1
    assert "1000" not in set(read_manifest(done.manifest)["call"])
    dropped = pl.read_parquet(tmp_path / "selected.dropped.parquet")
    assert dropped.filter(reason="untimed")["id"].to_list() == ["1000"]


def test_select_of_nothing_else_says_why(mixed: Path) -> None:
    table = read_manifest(mixed).filter(~pl.col(TIMED))
    with pytest.raises(
        SpeechmillError, match=r"no training data is left of 1 rows \(.*untimed 1\); `speechmill align` finds"
    ):
        select(table, SelectSettings())


def test_shard_refuses_them_before_it_writes(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match=r"1 of \d+ rows .*no times of their own.*speechmill align"):
        shard_manifest(mixed, tmp_path / "shards", ShardSettings(), processes=1)
    assert not (tmp_path / "shards").exists()


def test_a_manifest_that_does_not_say_is_timed(manifest: Path) -> None:
    table = read_manifest(manifest)
    assert TIMED not in table.columns
    assert not table.select(is_untimed(table.columns).any()).item()
    assert plan_shards(table, ShardSettings()).height == table.height
    unknown = table.with_columns(pl.lit(None, pl.Boolean).alias(TIMED))
    assert not unknown.select(is_untimed(unknown.columns).any()).item()


def test_recordings_that_are_gone_are_counted_and_the_first_is_named(manifest: Path) -> None:
    table = read_manifest(manifest)
    check_recordings(table, manifest)
    first = table["call"][0]
    moved = pl.when(pl.col("call") == first).then(pl.lit("/gone/a.wav")).otherwise("recording").alias("recording")
    with pytest.raises(
        SpeechmillError, match=r"1 of its \d+ recordings are not there any more, /gone/a\.wav the first"
    ):
        check_recordings(table.with_columns(moved), manifest)
