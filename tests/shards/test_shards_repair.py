from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from conftest import SHARD_SETTINGS
from speechmill.artefact import sha256_file
from speechmill.errors import SpeechmillError
from speechmill.manifest import read_manifest, write_manifest
from speechmill.shards.index import open_index
from speechmill.shards.parts import read_dropped
from speechmill.shards.planned import planned_group
from speechmill.shards.repair import UNRECORDED, part_of_tar, repair
from speechmill.shards.verify import verify
from speechmill.shards.write import shard_manifest, shard_worker
from speechmill.workers import Worker


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
    part = part_of_tar(shards / "test-000000.tar", planned, read_dropped(shards))
    rows = pl.DataFrame(pl.from_arrow(index.table)).filter(pl.col("shard") == "test-000000")
    assert part.rows.to_dicts() == rows.to_dicts()


@pytest.mark.parametrize("name", ["plan.parquet", "plan.json"])
@pytest.mark.parametrize("damage", ["gone", "flipped", "emptied"])
def test_a_damaged_plan_is_told_and_shard_writes_it_again(
    copy: Path, shards: Path, manifest: Path, name: str, damage: str
) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 3 : len(data) // 3 + 40] = bytes(40)
    (copy / name).unlink()
    if damage != "gone":
        (copy / name).write_bytes(data if damage == "flipped" else b"")
    before = sums(copy)
    with pytest.raises(SpeechmillError, match=rf"{name}: is not as it was written.*run `speechmill shard` with the"):
        repair(copy)
    assert sums(copy) == before, "nothing stays behind"
    with pytest.raises(SpeechmillError, match="another manifest or other settings"):
        shard_manifest(manifest, copy, SHARD_SETTINGS.model_copy(update={"seed": 5}), 1)
    tars = {path: path.stat().st_mtime_ns for path in copy.glob("*.tar")}
    assert shard_manifest(manifest, copy, SHARD_SETTINGS, 1).already_whole
    assert {path: path.stat().st_mtime_ns for path in copy.glob("*.tar")} == tars
    assert sums(copy) == sums(shards)
    assert repair(copy).problems == []


@pytest.fixture
def lacking(tmp_path: Path, own: tuple[Path, Path]) -> tuple[Path, Path, Path]:
    """Shards that lack a recording's utterances; the recording, and where it lies away."""
    _, manifest = own
    recording, away = Path(read_manifest(manifest)["recording"][0]), tmp_path / "away.wav"
    out = tmp_path / "s"
    shard_worker(manifest, out, SHARD_SETTINGS, 1, Worker(1, 2))  # plans
    for path in out.glob("*.tar"):
        path.unlink()
    shutil.move(recording, away)
    assert shard_manifest(manifest, out, SHARD_SETTINGS, 1).dropped == 6
    return out, recording, away


@pytest.mark.parametrize("damage", ["gone", "emptied", "flipped", "latin", "another"])
def test_drops_whose_list_is_lost_cost_no_healthy_utterance(lacking: tuple[Path, Path, Path], damage: str) -> None:
    out, recording, away = lacking
    before, path = sums(out), out / "dropped.tsv"
    lines = path.read_text().splitlines(keepends=True)
    path.unlink()
    if damage != "gone":
        new = {"emptied": b"", "flipped": "".join(lines).replace("\t", " ").encode(), "latin": b"id\n\xe9\n",
               "another": "".join(lines[:2]).encode()}  # fmt: skip
        path.write_bytes(new[damage])
    report = repair(out)
    assert (report.changed, report.index_written, report.problems) == ([], True, [])
    after = sums(out)
    assert {name for name in before if before[name] != after[name]} == {"dropped.tsv", "ledger.parquet", "SHA256SUMS"}
    assert set(read_dropped(out)["reason"]) == {UNRECORDED}
    assert len(open_index(out)) == 66
    assert verify(out) == []
    shutil.move(away, recording)
    assert repair(out).changed
    assert len(open_index(out)) == 72
    assert read_dropped(out).is_empty()
    assert verify(out) == []


def test_with_drops_and_a_shard_lost_what_the_tar_still_holds_is_kept(lacking: tuple[Path, Path, Path]) -> None:
    out, _, _ = lacking
    dropped = read_dropped(out)
    planned = pl.read_parquet(out / "plan.parquet")
    of_lost = planned.filter(pl.col("id").is_in(dropped["id"].implode()))["shard"][0]
    path = out / f"{of_lost}.tar"
    whole = path.read_bytes()
    (out / "dropped.tsv").unlink()
    path.write_bytes(
        bytes([whole[0] ^ 1]) + whole[1:]
    )  # nothing of it can be read, but no source is gone for it either
    report = repair(out)
    assert report.rewritten == [of_lost]
    assert path.read_bytes() == whole
    assert verify(out) == []


def test_with_drops_unknown_a_damaged_shard_whose_source_is_gone_is_left(
    tmp_path: Path, own: tuple[Path, Path]
) -> None:
    corpus, manifest = own
    out = tmp_path / "s"
    shard_manifest(manifest, out, SHARD_SETTINGS, 1)
    (out / "dropped.tsv").unlink()
    path = out / "train-000001.tar"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    shutil.move(corpus / "MEDIA", corpus / "AWAY")
    report = repair(out)
    assert report.rewritten == []
    assert report.problems[0].startswith(f"{path}: cannot be written again without losing")
    assert "remove" not in " ".join(report.problems)
    assert path.read_bytes() == data
    shutil.move(corpus / "AWAY", corpus / "MEDIA")
    assert repair(out).problems == []
    assert verify(out) == []


def test_shards_of_others_are_no_repairers_business(copy: Path) -> None:
    (copy / "foreign.arrow").write_bytes(b"")
    with pytest.raises(SpeechmillError, match="`speechmill shards index`"):
        repair(copy)
