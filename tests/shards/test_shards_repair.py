from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from conftest import RATE, SHARD_SETTINGS
from speechmill.artefact import sha256_file
from speechmill.errors import SpeechmillError
from speechmill.manifest import read_manifest, write_manifest
from speechmill.shards.index import open_index
from speechmill.shards.parts import read_dropped
from speechmill.shards.planned import planned_group
from speechmill.shards.repair import part_of_tar, repair
from speechmill.shards.verify import verify
from speechmill.shards.write import shard_manifest


def sums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256_file(path)
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("tokens-")
    }


@pytest.fixture
def copy(tmp_path: Path, shards: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copy"))


@pytest.fixture
def own(tmp_path: Path, corpus: Path, manifest: Path) -> tuple[Path, Path]:
    """A corpus that a test may change, and a manifest of it."""
    copied = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    table = read_manifest(manifest).with_columns(
        pl.col("recording").str.replace(str(corpus), str(copied), literal=True)
    )
    write_manifest(table, tmp_path / "own.parquet")
    return copied, tmp_path / "own.parquet"


def test_whole_shards_are_left_alone(copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.iterdir()}
    report = repair(copy)
    assert (report.rewritten, report.index_written, report.problems) == ([], False, [])
    assert {path: path.stat().st_mtime_ns for path in copy.iterdir()} == before


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped", "another"])
def test_only_what_is_broken_is_written_again(copy: Path, shards: Path, damage: str) -> None:
    path = copy / "train-000001.tar"
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[:3000])
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        shutil.copy(copy / "train-000000.tar", path)
    others = {one: one.stat().st_mtime_ns for one in copy.iterdir() if one != path}
    report = repair(copy, processes=2)
    assert (report.rewritten, report.changed, report.problems) == (["train-000001"], [], [])
    assert {one: one.stat().st_mtime_ns for one in copy.iterdir() if one != path} == others
    assert sums(copy) == sums(shards)


@pytest.mark.parametrize("name", ["index.arrow", "SHA256SUMS", "ledger.parquet", "dropped.tsv"])
@pytest.mark.parametrize("damage", ["gone", "emptied"])
def test_small_files_are_written_again(copy: Path, shards: Path, name: str, damage: str) -> None:
    (copy / name).unlink()
    if damage == "emptied":
        (copy / name).write_bytes(b"")
    report = repair(copy)
    assert (report.rewritten, report.index_written, report.problems) == ([], True, [])
    assert sums(copy) == sums(shards)


def test_index_and_shards_broken_at_once(copy: Path, shards: Path) -> None:
    (copy / "index.arrow").unlink()
    (copy / "test-000000.tar").write_bytes(b"")
    (copy / "train-000002.tar").unlink()
    report = repair(copy)
    assert set(report.rewritten) == {"test-000000", "train-000002"}
    assert sums(copy) == sums(shards)


def test_a_shard_whose_source_is_gone_stays_as_it_is_and_is_named(tmp_path: Path, own: tuple[Path, Path]) -> None:
    corpus, manifest = own
    out = tmp_path / "s"
    shard_manifest(manifest, out, SHARD_SETTINGS, 1)
    path = out / "train-000001.tar"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    shutil.move(corpus / "MEDIA", corpus / "AWAY")
    before = sums(out)
    report = repair(out)
    assert report.rewritten == []
    assert len(report.problems) == 1
    assert report.problems[0].startswith(f"{path}: cannot be written again without losing")
    assert "missing-recording" in report.problems[0]
    assert sums(out) == before
    shutil.move(corpus / "AWAY", corpus / "MEDIA")
    assert repair(out).rewritten == ["train-000001"]
    assert verify(out) == []


def test_utterances_of_a_recording_that_came_back_are_taken_in(tmp_path: Path, own: tuple[Path, Path]) -> None:
    _, manifest = own
    whole, out = tmp_path / "whole", tmp_path / "s"
    shard_manifest(manifest, whole, SHARD_SETTINGS, 1)
    shutil.copytree(whole, out)
    for name in ("index.arrow", "SHA256SUMS"):  # planned, and then killed before any shard
        (out / name).unlink()
    for path in out.glob("*.tar"):
        path.unlink()
    recording = Path(read_manifest(manifest)["recording"][0])
    shutil.move(recording, tmp_path / "away.wav")
    report = shard_manifest(manifest, out, SHARD_SETTINGS, 1)
    assert (report.utterances, report.dropped) == (66, 6)
    assert set(read_dropped(out)["reason"]) == {"missing-recording"}
    assert repair(out).rewritten == []  # it is still gone
    shutil.move(tmp_path / "away.wav", recording)
    mended = repair(out)
    assert mended.changed == mended.rewritten
    assert mended.changed
    assert sums(out) == sums(whole)


def test_a_part_read_back_from_its_tar_has_the_rows_of_the_index(shards: Path) -> None:
    index = open_index(shards)
    planned = planned_group(shards, 0, ["test-000000"])
    part = part_of_tar(shards / "test-000000.tar", planned, read_dropped(shards), RATE)
    rows = pl.DataFrame(pl.from_arrow(index.table)).filter(pl.col("shard") == "test-000000")
    assert part.rows.to_dicts() == rows.to_dicts()


def test_without_a_plan_there_is_nothing_to_go_by(copy: Path) -> None:
    (copy / "plan.parquet").unlink()
    with pytest.raises(SpeechmillError, match=r"plan\.parquet: no plan; run `speechmill shard`"):
        repair(copy)
