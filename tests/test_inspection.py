from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from matplotlib.image import imread

from speechmill.errors import SpeechmillError
from speechmill.inspection import bin_edges, describe, histogram, index_table, inspect_data, write_png
from speechmill.manifest import SCHEMA, write_manifest
from speechmill.shards.index import NATIVE_UNKNOWN, open_index


def manifest() -> pl.DataFrame:
    rows = [
        ("1", "/a", 0.0, 1800.0, "x", "ann", "a", "presentation", True, "train"),
        ("2", "/a", 0.0, 1800.0, "x", "bob", "a", "q-and-a", True, "train"),
        ("3", "/b", 0.0, 900.0, "x", "ann", "b", "", None, "test"),
        ("4", "/c", 0.0, 900.0, "x", "eve", "c", "q-and-a", False, "valid"),
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def test_totals_by_split_and_attribute() -> None:
    lines = [line.split() for line in describe(manifest(), "m").splitlines()]
    assert ["hours", "share", "utterances", "speakers", "calls"] in lines
    assert ["all", "1.50", "100.0%", "4", "3", "3"] in lines
    assert ["train", "1.00", "66.7%", "2", "2", "1"] in lines
    assert ["native", "1.00", "100.0%", "2", "2", "1"] in lines
    assert ["presentation", "0.50", "50.0%", "1", "1", "1"] in lines
    assert ["non-native", "0.25", "100.0%", "1", "1", "1"] in lines
    assert ["native", "unknown", "0.25", "100.0%", "1", "1", "1"] in lines
    assert ["session", "unknown", "0.25", "100.0%", "1", "1", "1"] in lines


def test_values_of_any_column(tmp_path: Path) -> None:
    write_manifest(manifest().with_columns(sector=pl.Series(["tech", None, "energy", "tech"])), tmp_path / "m.parquet")
    lines = [line.split() for line in inspect_data(tmp_path / "m.parquet", by=["sector"]).splitlines()]
    assert ["sector", "tech", "0.50", "50.0%", "1", "1", "1"] in lines
    assert ["sector", "unknown", "0.50", "50.0%", "1", "1", "1"] in lines
    assert ["sector", "energy", "0.25", "100.0%", "1", "1", "1"] in lines
    with pytest.raises(SpeechmillError, match="industry"):
        inspect_data(tmp_path / "m.parquet", by=["industry"])


def test_shards_know_their_own_columns_only(shards: Path) -> None:
    assert "call" in inspect_data(shards, by=["call"])
    with pytest.raises(
        SpeechmillError, match="shards have no column 'sector' to go by; inspect their manifest; it has split"
    ):
        inspect_data(shards, by=["sector"])


def test_a_manifest_without_splits_and_a_table_with_seconds() -> None:
    unsplit = describe(manifest().with_columns(split=pl.lit("")), "m")
    assert "train" not in unsplit
    index = manifest().select("split", "speaker", "call", "session", "native", seconds=pl.col("end") - pl.col("start"))
    assert describe(index, "m") == describe(manifest(), "m")


def test_histogram_counts_every_utterance() -> None:
    seconds = pl.Series(np.random.default_rng(0).gamma(2.0, 5.0, 1000))
    lines = histogram(seconds).splitlines()
    assert len(lines) <= 31
    assert sum(int(line.split()[-1]) for line in lines) == 1000
    assert max(line.count("█") for line in lines) == 50
    one = histogram(pl.Series([1.0])).splitlines()
    assert [int(line.split()[-1]) for line in one] == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("longest", [0.1, 1.0, 7.5, 60.0, 899.0, 5000.0])
def test_bins_hold_the_longest(longest: float) -> None:
    edges = bin_edges(longest)
    assert edges[0] == 0
    assert edges[-2] <= longest < edges[-1]
    assert len(edges) <= 32


def test_png_and_manifest(tmp_path: Path) -> None:
    write_manifest(manifest(), tmp_path / "m.parquet")
    text = inspect_data(tmp_path / "m.parquet", tmp_path / "lengths.png")
    assert text.startswith(str(tmp_path / "m.parquet"))
    picture = imread(tmp_path / "lengths.png")
    assert picture.shape[:2] == (540, 960)
    assert picture.min() < picture.max()


def test_tables_that_cannot_be_described(tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match="no column speaker, seconds"):
        describe(manifest().drop("speaker", "start"), "m")
    with pytest.raises(SpeechmillError, match="no rows"):
        write_png(manifest().clear(), tmp_path / "x.png", "m")


def test_shards_are_described_as_their_manifest(shards: Path, manifest: Path, tmp_path: Path) -> None:
    of_shards, of_manifest = inspect_data(shards, tmp_path / "lengths.png"), inspect_data(manifest)
    assert of_shards.partition("\n")[0] == str(shards)
    assert (tmp_path / "lengths.png").exists()
    totals = [text.split("\n\n")[1] for text in (of_shards, of_manifest)]
    assert totals[0] == totals[1]
    assert "non-native" in totals[0]


def test_what_an_index_does_not_know_stays_unknown(shards: Path) -> None:
    index = open_index(shards)
    codes = pa.array([NATIVE_UNKNOWN, 1, 0] + [0] * (len(index) - 3), pa.int8())
    place = index.table.column_names.index("native")
    unknown = replace(index, table=index.table.set_column(place, "native", codes))
    assert index_table(unknown)["native"].to_list()[:3] == [None, True, False]
