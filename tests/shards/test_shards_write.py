from __future__ import annotations

import io
import json
import shutil
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import soundfile
import webdataset

from conftest import RATE, SHARD_SETTINGS
from speechmill.artefact import partial_path, sha256_file
from speechmill.audio import decode
from speechmill.errors import SpeechmillError
from speechmill.manifest import read_manifest, write_manifest
from speechmill.settings import ShardSettings
from speechmill.shards import write as module
from speechmill.shards.index import Index, open_index
from speechmill.shards.plan import PLAN_NAME, plan_fingerprint, plan_shards, read_plan_info, write_plan_info
from speechmill.shards.sums import known_sums, write_sums
from speechmill.shards.write import shard_manifest

BESIDE = {"index.arrow", "plan.json", "plan.parquet", "dropped.tsv", "ledger.parquet", "SHA256SUMS"}


def sums(folder: Path) -> dict[str, str]:
    """Every file of a shard folder, hidden ones too, but not the columns of tokenizers."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("tokens-"))
    return {str(path.relative_to(folder)): sha256_file(path) for path in files}


def changed(manifest: Path, out: Path, **columns: pl.Expr) -> Path:
    write_manifest(read_manifest(manifest).with_columns(**columns), out)
    return out


def dropped(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "dropped.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["id", "seconds", "reason", "detail"]
    return [(cells[0], cells[2]) for cells in (line.split("\t") for line in lines[1:])]


def test_the_folder_holds_tars_index_plan_and_drops(shards: Path, manifest: Path) -> None:
    tars = {f"{name}.tar" for name in plan_shards(read_manifest(manifest), SHARD_SETTINGS)["shard"].unique()}
    assert len(tars) == 6
    assert set(sums(shards)) == tars | BESIDE
    assert dropped(shards) == []


def test_two_processes_write_the_bytes_of_one(tmp_path: Path, shards: Path, manifest: Path) -> None:
    report = shard_manifest(manifest, tmp_path / "s", SHARD_SETTINGS, 2)
    assert (report.shards, report.utterances, report.dropped, report.already_whole) == (6, 72, 0, False)
    assert report.hours == pytest.approx(
        read_manifest(manifest).select(pl.col("end") - pl.col("start")).sum().item() / 3600
    )
    assert sums(tmp_path / "s") == sums(shards)


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    tmp_path: Path, shards: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "s"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            shard_manifest(manifest, out, SHARD_SETTINGS, 1)
    assert not (out / "index.arrow").exists()
    (out / "train-000001.tar").unlink()  # killed before this one was published
    (out / "valid-000000.tar").unlink()
    (out / ".parts" / "valid-000000.part").unlink()
    partial_path(out / "train-000001.tar").write_bytes(b"half of a TAR")
    partial_path(out / "index.arrow").write_bytes(b"half of an index")
    kept = out / "test-000000.tar"
    before = kept.stat().st_mtime_ns
    report = shard_manifest(manifest, out, SHARD_SETTINGS, 1)
    assert not report.already_whole
    assert kept.stat().st_mtime_ns == before  # a finished group is not written again
    assert sums(out) == sums(shards)


def test_a_second_call_finds_the_shards_whole(tmp_path: Path, shards: Path, manifest: Path) -> None:
    out = tmp_path / "s"
    shutil.copytree(shards, out)
    (out / ".parts").mkdir()  # killed after the index, before it was tidied
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.is_file()}
    report = shard_manifest(manifest, out, SHARD_SETTINGS, 1)
    assert report.already_whole
    assert (report.shards, report.utterances) == (6, 72)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_other_settings_or_another_manifest_are_refused(tmp_path: Path, shards: Path, manifest: Path) -> None:
    other = changed(manifest, tmp_path / "other.parquet", text=pl.lit("other"))
    before = sums(shards)
    for source, settings in ((manifest, SHARD_SETTINGS.model_copy(update={"seed": 1})), (other, SHARD_SETTINGS)):
        with pytest.raises(SpeechmillError, match="holds the shards of another manifest or other settings"):
            shard_manifest(source, shards, settings, 1)
    assert sums(shards) == before
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "a.tar").write_bytes(b"")
    with pytest.raises(SpeechmillError, match=r"holds TARs but no plan\.json"):
        shard_manifest(manifest, tmp_path / "foreign", SHARD_SETTINGS, 1)
    with pytest.raises(SpeechmillError, match="is a file"):
        shard_manifest(manifest, manifest, SHARD_SETTINGS, 1)


def test_shards_of_an_earlier_format_stay_what_they_are(tmp_path: Path, shards: Path, manifest: Path) -> None:
    out = tmp_path / "s"
    shutil.copytree(shards, out)
    info = replace(read_plan_info(out), fingerprint=plan_fingerprint(SHARD_SETTINGS, sha256_file(manifest), 1))
    write_plan_info(out, info)
    write_sums(out, known_sums(out) | {PLAN_NAME: sha256_file(out / PLAN_NAME)})
    before = sums(out)
    assert shard_manifest(manifest, out, SHARD_SETTINGS, 1).already_whole
    (out / PLAN_NAME).unlink()
    assert shard_manifest(manifest, out, SHARD_SETTINGS, 1).already_whole  # writes the plan again
    assert sums(out) == before
    assert read_plan_info(out) == info
    (out / "index.arrow").unlink()
    with pytest.raises(SpeechmillError, match="begun by an earlier version, whose shards have other bytes"):
        shard_manifest(manifest, out, SHARD_SETTINGS, 1)


def test_an_unreadable_recording_is_dropped_with_its_reason(tmp_path: Path, manifest: Path) -> None:
    noise, gone = tmp_path / "noise.wav", tmp_path / "gone.wav"
    noise.write_bytes(b"this is no sound" * 100)
    path = pl.col("recording")
    source = changed(
        manifest,
        tmp_path / "m.parquet",
        recording=pl.when(call="1003")
        .then(pl.lit(str(noise)))
        .when(call="1009")
        .then(pl.lit(str(gone)))
        .otherwise(path),
    )
    report = shard_manifest(source, tmp_path / "s", SHARD_SETTINGS, 1)
    assert (report.utterances, report.dropped) == (60, 12)
    reasons = {1003: "unreadable-recording", 1009: "missing-recording"}
    assert sorted(dropped(tmp_path / "s")) == [
        (f"{call}_S{row:03d}", reasons[call]) for call in reasons for row in range(6)
    ]
    text = (tmp_path / "s" / "dropped.tsv").read_text()
    assert f"{noise}: not audio that libsndfile reads" in text
    assert f"{gone}: no such recording" in text


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (1.0, 900.0, "past-recording-end"),
        (2.0, 2.0, "bad-time"),
        (3.0, 2.0, "bad-time"),
        (-1.0, 2.0, "bad-time"),
        (2.0, 2.00001, "no-sample"),
    ],
)
def test_times_that_hold_no_sound_are_dropped(
    tmp_path: Path, manifest: Path, start: float, end: float, reason: str
) -> None:
    one = pl.col("id") == "1000_S001"
    columns = {
        name: pl.when(one).then(value).otherwise(pl.col(name)) for name, value in (("start", start), ("end", end))
    }
    source = changed(manifest, tmp_path / "m.parquet", **columns)
    report = shard_manifest(source, tmp_path / "s", SHARD_SETTINGS, 1)
    assert dropped(tmp_path / "s") == [("1000_S001", reason)]
    assert report.utterances == 71


def test_a_row_that_ends_a_little_late_is_clipped_and_one_behind_the_end_dropped(
    tmp_path: Path, manifest: Path
) -> None:
    last = read_manifest(manifest).filter(id="1000_S005").row(0, named=True)
    length = len(decode(last["recording"], RATE)) / RATE
    for start, kept in ((last["start"], 72), (length + 0.02, 71)):
        one = pl.col("id") == "1000_S005"
        columns = {
            "start": pl.when(one).then(start).otherwise(pl.col("start")),
            "end": pl.when(one).then(length + 0.05).otherwise(pl.col("end")),
        }
        source = changed(manifest, tmp_path / f"{kept}.parquet", **columns)
        assert shard_manifest(source, tmp_path / f"s{kept}", SHARD_SETTINGS, 1).utterances == kept
    index = open_index(tmp_path / "s72")
    row = index.table.column("id").to_pylist().index("1000_S005")
    assert index.samples[row] == round(length * RATE) - round(last["start"] * RATE)


def test_no_readable_utterance_is_one_clear_line_and_a_repaired_source_works(
    tmp_path: Path, manifest: Path, shards: Path
) -> None:
    away = tmp_path / "away"
    source = changed(
        manifest, tmp_path / "m.parquet", recording=pl.col("recording").str.replace("^.*/MEDIA", f"{away}/MEDIA")
    )
    out = tmp_path / "s"
    with pytest.raises(
        SpeechmillError, match=r"not one utterance could be read; see .*dropped\.tsv .*no such recording"
    ):
        shard_manifest(source, out, SHARD_SETTINGS, 1)
    assert set(sums(out)) == {"dropped.tsv"}
    corpus = Path(read_manifest(manifest)["recording"][0]).parents[2]
    shutil.copytree(corpus, away)
    report = shard_manifest(source, out, SHARD_SETTINGS, 1)
    assert report.utterances == 72
    assert dropped(out) == []
    assert {name: sum_ for name, sum_ in sums(out).items() if name.endswith(".tar")} == {
        name: sum_ for name, sum_ in sums(shards).items() if name.endswith(".tar")
    }


def test_a_shard_without_utterances_does_no_harm(tmp_path: Path, manifest: Path) -> None:
    gone = pl.when(pl.col("split") == "valid").then(pl.lit("/gone.wav")).otherwise(pl.col("recording"))
    source = changed(manifest, tmp_path / "m.parquet", recording=gone)
    report = shard_manifest(source, tmp_path / "s", SHARD_SETTINGS, 1)
    assert report.utterances == 60
    assert "valid-000000" not in open_index(tmp_path / "s").shard_names


class KilledPool:
    """As ProcessPoolExecutor behaves when one of its processes is killed."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> KilledPool:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, *_: object) -> Future[float]:
        future: Future[float] = Future()
        future.set_exception(BrokenProcessPool("a child process terminated abruptly"))
        return future


def test_a_killed_process_is_one_clear_line(tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ProcessPoolExecutor", KilledPool)
    with pytest.raises(SpeechmillError, match=r"a process that wrote shards was killed .* to go on"):
        shard_manifest(manifest, tmp_path / "s", SHARD_SETTINGS, 2)
    assert not (tmp_path / "s" / "index.arrow").exists()


def test_the_webdataset_package_reads_the_shards(shards: Path, manifest: Path) -> None:
    rows = {row["id"]: row for row in read_manifest(manifest).iter_rows(named=True)}
    urls = sorted(str(path) for path in shards.glob("*.tar"))
    seen = {}
    for sample in webdataset.WebDataset(urls, shardshuffle=False, empty_check=False):
        about = json.loads(sample["json"])
        audio, rate = soundfile.read(io.BytesIO(sample["flac"]), dtype="int16")
        row = rows[sample["__key__"]]
        whole = decode(row["recording"], RATE)
        assert rate == RATE
        assert (audio == whole[round(row["start"] * RATE) : round(row["end"] * RATE)]).all()
        assert about["text"] == row["text"]
        assert Path(sample["__url__"]).name.startswith(row["split"])
        seen[sample["__key__"]] = about
    assert seen.keys() == rows.keys()
    assert seen["1000_S000"] == {
        **{name: value for name, value in rows["1000_S000"].items() if name != "recording"},
        "samples": seen["1000_S000"]["samples"],
    }


def test_no_machine_path_is_in_a_shard(shards: Path, corpus: Path) -> None:
    for path in [*shards.glob("*.tar"), shards / "index.arrow", shards / "plan.json"]:
        assert str(corpus).encode() not in path.read_bytes()


def test_audio_is_resampled_to_the_rate_of_the_settings(tmp_path: Path, manifest: Path, index: Index) -> None:
    write_manifest(read_manifest(manifest).filter(pl.col("call") == "1000"), tmp_path / "m.parquet")
    shard_manifest(tmp_path / "m.parquet", tmp_path / "s", ShardSettings(sample_rate=16000), 1)
    doubled = open_index(tmp_path / "s")
    assert doubled.sample_rate == 16000
    samples = dict(zip(index.table.column("id").to_pylist(), index.samples.tolist(), strict=True))
    for name, count in zip(doubled.table.column("id").to_pylist(), doubled.samples.tolist(), strict=True):
        assert abs(count - 2 * samples[name]) <= 2
