from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from speechmill.errors import SpeechmillError
from speechmill.manifest import SCHEMA, check_recordings, read_ids, read_manifest, write_manifest


def one_row() -> pl.DataFrame:
    values = ["a_1", "/a.wav", 0.5, 2.0, "Good morning.", "s", "a", "q-and-a", True, ""]
    return pl.DataFrame([values], schema=SCHEMA, orient="row")


def test_round_trip_keeps_added_columns_after_the_schema(tmp_path: Path) -> None:
    table = one_row().with_columns(company=pl.lit("Acme")).select("company", *SCHEMA)
    write_manifest(table, tmp_path / "m.parquet")
    back = read_manifest(tmp_path / "m.parquet")
    assert back.columns == [*SCHEMA, "company"]
    assert back.row(0) == (*one_row().row(0), "Acme")
    assert read_manifest(tmp_path / "m.parquet", ["id"]).columns == ["id"]


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no parquet")
    one_row().drop("speaker").write_parquet(tmp_path / "less.parquet")
    one_row().with_columns(pl.col("start").cast(pl.String)).write_parquet(tmp_path / "other.parquet")
    for name, reason in {
        "none.parquet": "no such manifest",
        "text.parquet": "not a manifest",
        "less.parquet": "'speaker' is missing",
        "other.parquet": "'start' is String",
    }.items():
        with pytest.raises(SpeechmillError, match=reason):
            read_manifest(tmp_path / name)


def test_writing_less_than_a_manifest_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match="'text' is missing"):
        write_manifest(one_row().drop("text"), tmp_path / "m.parquet")
    assert list(tmp_path.iterdir()) == []


def test_ids_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "calls.txt").write_bytes("\ufeff# the good ones\r\n123\r\n\r\n 456 \r\n".encode())
    assert read_ids(tmp_path / "calls.txt") == ["123", "456"]
    with pytest.raises(SpeechmillError, match="no such file"):
        read_ids(tmp_path / "none.txt")


def test_rows_without_a_recording_are_told() -> None:
    table = pl.concat([one_row(), one_row().with_columns(recording=pl.lit(None, pl.String))])
    with pytest.raises(SpeechmillError, match=r"m\.parquet: 1 of its 2 rows name no recording; import"):
        check_recordings(table, Path("m.parquet"))
