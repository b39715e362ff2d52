"""What may happen to a source between plan and writing: every second ends as kept or dropped for a named reason."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from conftest import RATE, SHARD_SETTINGS
from speechmill.inspection import inspect_ledger
from speechmill.ledger import KEPT, ledger_path, read_ledger
from speechmill.manifest import read_manifest, write_manifest
from speechmill.shards import write as module
from speechmill.shards.parts import read_dropped
from speechmill.shards.verify import verify
from speechmill.shards.write import shard_manifest, shard_worker
from speechmill.workers import Worker

CALL = "1003"


@pytest.fixture
def source(tmp_path: Path, corpus: Path, manifest: Path) -> tuple[Path, Path]:
    """A recording that a test may change, and a manifest that has it."""
    path = next((corpus / "MEDIA" / CALL).glob("recording.*"))
    mine = tmp_path / "recording.wav"
    shutil.copy(path, mine)
    table = read_manifest(manifest)
    named = pl.when(pl.col("call") == CALL).then(pl.lit(str(mine))).otherwise(pl.col("recording"))
    write_manifest(table.with_columns(recording=named), tmp_path / "m.parquet")
    return mine, tmp_path / "m.parquet"


def gone(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def replaced(path: Path) -> None:
    samples, rate = soundfile.read(path, dtype="int16")
    size = path.stat().st_size
    soundfile.write(path, samples[::-1], rate)
    assert path.stat().st_size == size, "only its content tells"


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def other_format(path: Path) -> None:
    path.write_bytes(b"ID3 not what it was" * 99)


def lost(out: Path) -> set[str]:
    dropped = read_dropped(out)
    assert dropped.height == 6
    assert all(name.startswith(CALL) for name in dropped["id"])
    return set(dropped["reason"])


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (gone, "missing-recording"),
        (truncated, "changed-recording"),
        (replaced, "changed-recording"),
        (emptied, "changed-recording"),
        (other_format, "changed-recording"),
    ],
)
def test_a_source_that_is_another_since_the_plan(
    tmp_path: Path, source: tuple[Path, Path], harm: Callable[[Path], None], reason: str, shards: Path
) -> None:
    recording, manifest = source
    out = tmp_path / "s"
    module._make_plan(manifest, out, SHARD_SETTINGS)
    harm(recording)
    for number in range(2):
        shard_worker(manifest, out, SHARD_SETTINGS, 1, Worker(number, 2))
    assert lost(out) == {reason}
    assert verify(out) == []
    text, wrong = inspect_ledger(out)
    assert wrong == []
    assert reason in text
    ledger = read_ledger(ledger_path(out)).filter(pl.col("recording") == str(recording))
    assert ledger["outcome"].to_list() == [reason]
    assert ledger["seconds"].sum() == pytest.approx(ledger["source_seconds"][0])
    if reason == "missing-recording":
        assert not (shards / "dropped.tsv").read_text().splitlines()[1:]


def test_a_truncated_source_that_was_so_before_the_plan_keeps_what_is_there(
    tmp_path: Path, source: tuple[Path, Path]
) -> None:
    """A WAV cut by a full disk: its header promises more, libsndfile goes by what is there."""
    recording, manifest = source
    truncated(recording)
    out = tmp_path / "s"
    report = shard_manifest(manifest, out, SHARD_SETTINGS, 1)
    dropped = read_dropped(out)
    assert set(dropped["reason"]) == {"past-recording-end"}
    assert 0 < dropped.height < 6
    assert report.utterances == 72 - dropped.height
    assert inspect_ledger(out)[1] == []


@pytest.mark.parametrize("says", ["more", "less"])
def test_a_source_that_decodes_to_another_length_than_its_header_says(
    tmp_path: Path, source: tuple[Path, Path], says: str
) -> None:
    recording, manifest = source
    samples, rate = soundfile.read(recording, dtype="int16")
    flac = recording.with_suffix(".flac")
    soundfile.write(flac, samples, rate, subtype="PCM_16")
    data = bytearray(flac.read_bytes())
    # STREAMINFO: the last 36 bits of bytes 18 to 25 of the file are the number of samples.
    (word,) = struct.unpack(">Q", data[18:26])
    told = len(samples) * 2 if says == "more" else len(samples) // 2
    data[18:26] = struct.pack(">Q", (word >> 36 << 36) | told)
    flac.write_bytes(data)
    table = read_manifest(manifest)
    named = pl.col("recording").str.replace(str(recording), str(flac), literal=True)
    write_manifest(table.with_columns(recording=named), manifest)
    out = tmp_path / "s"
    shard_manifest(manifest, out, SHARD_SETTINGS, 1)
    dropped = read_dropped(out)
    if says == "more":  # it may be a cut file: none of its times can be trusted to be of this sound
        assert set(dropped["reason"]) == {"unreadable-recording"}
        assert dropped.height == 6
        assert "cannot be decoded" in dropped["detail"][0]
    else:
        assert set(dropped["reason"]) == {"past-recording-end"}
        assert 0 < dropped.height < 6
    assert inspect_ledger(out)[1] == []
    assert verify(out) == []


def test_kept_seconds_are_those_of_the_samples(tmp_path: Path, manifest: Path) -> None:
    """Rows between two samples, and one that reaches past the end: rounding and clipping are in the ledger too."""
    table = read_manifest(manifest)
    last = pl.col("end") == pl.col("end").max().over("recording")
    moved = table.with_columns(
        start=pl.col("start") + 0.3 / RATE, end=pl.col("end") + pl.when(last).then(0.05).otherwise(0.4 / RATE)
    )
    write_manifest(moved, tmp_path / "m.parquet")
    out = tmp_path / "s"
    report = shard_manifest(tmp_path / "m.parquet", out, SHARD_SETTINGS, 1)
    assert report.dropped == 0
    ledger = read_ledger(ledger_path(out))
    assert set(ledger["outcome"]) == {KEPT, "rounding", "clipped"}
    clipped = ledger.filter(pl.col("outcome") == "clipped")
    assert np.allclose(clipped["seconds"], 0.05, atol=1 / RATE)
    assert len(clipped) == 12
    kept = float(ledger.filter(pl.col("outcome") == KEPT)["seconds"].sum())
    assert kept == pytest.approx(report.hours * 3600, abs=1e-6)
    assert inspect_ledger(out)[1] == []
