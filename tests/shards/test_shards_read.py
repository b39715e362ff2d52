from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from conftest import RATE
from speechmill.audio import decode
from speechmill.errors import SpeechmillError
from speechmill.manifest import read_manifest
from speechmill.shards.index import Index, open_index
from speechmill.shards.read import ShardReader, _will_need


@pytest.fixture
def copy(tmp_path: Path, shards: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copy"))


def overwrite(index: Index, row: int, offset: int, data: bytes) -> Path:
    path = index.shard_path(int(index.shard[row]))
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)
    return path


def test_audio_and_notes_are_those_of_the_recording(index: Index, manifest: Path) -> None:
    rows = {row["id"]: row for row in read_manifest(manifest).iter_rows(named=True)}
    reader = ShardReader(index)
    for row in range(0, len(index), 5):
        known = rows[index.id(row)]
        whole = decode(known["recording"], RATE)
        assert (reader.audio(row) == whole[round(known["start"] * RATE) : round(known["end"] * RATE)]).all()
        about = reader.about(row)
        assert {name: about[name] for name in known if name != "recording"} == {
            name: value for name, value in known.items() if name != "recording"
        }


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_flipped_bytes_in_the_audio_are_noticed(copy: Path, share: float) -> None:
    index = open_index(copy)
    size = int(index.size[7])
    at = int(index.offset[7]) + int(share * size)
    data = index.shard_path(int(index.shard[7])).read_bytes()[at : at + 8]
    path = overwrite(index, 7, at, bytes(byte ^ 0xFF for byte in data))
    with pytest.raises(SpeechmillError, match=f"{path}: the utterance '{index.id(7)}' is damaged") as caught:
        ShardReader(index).audio(7)
    assert "speechmill shards verify" in str(caught.value)
    ShardReader(index).audio(6)  # its neighbours are well
    ShardReader(index).audio(8)


def test_a_flac_of_another_length_or_rate_is_noticed(copy: Path) -> None:
    index = open_index(copy)
    # The number of samples in STREAMINFO: 36 bits that end 26 bytes after the marker "fLaC".
    overwrite(index, 3, int(index.offset[3]) + 25, b"\x07")
    with pytest.raises(SpeechmillError, match=f"the utterance '{index.id(3)}' is damaged"):
        ShardReader(index).audio(3)


def test_a_damaged_note_is_noticed(copy: Path) -> None:
    index = open_index(copy)
    overwrite(index, 3, int(index.json_offset[3]) + 5, b"\xff\x00")
    with pytest.raises(SpeechmillError, match=f"the utterance '{index.id(3)}' is damaged: its JSON does not parse"):
        ShardReader(index).about(3)


def test_a_truncated_tar_is_noticed(copy: Path) -> None:
    index = open_index(copy)
    last = int(index.rows(None)[index.shard == 1][-1])
    path = index.shard_path(1)
    path.write_bytes(path.read_bytes()[: int(index.offset[last]) + 100])
    with pytest.raises(SpeechmillError, match=f"'{index.id(last)}' is damaged: the TAR ends within it"):
        ShardReader(index).audio(last)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SpeechmillError, match="is damaged: the TAR ends within it"):
        ShardReader(index).about(last)


def test_a_foreign_tar_in_the_place_of_ours_is_noticed(copy: Path) -> None:
    index = open_index(copy)
    shutil.copy(index.shard_path(2), index.shard_path(1))
    row = int(index.rows(None)[index.shard == 1][3])
    for read in (ShardReader(index).audio, ShardReader(index).about):
        with pytest.raises(SpeechmillError, match=f"'{index.id(row)}' is damaged: the TAR has '.*' where"):
            read(row)


def test_a_shard_that_vanished_is_named(copy: Path) -> None:
    index = open_index(copy)
    index.shard_path(0).unlink()
    with pytest.raises(SpeechmillError, match=r"test-000000\.tar: cannot be opened"):
        ShardReader(index).audio(0)


def test_few_files_stay_open(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def files() -> int:
        """Shards of this test alone: others' readers are closed whenever Python comes to it."""
        paths = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return sum(os.path.realpath(path).startswith(f"{copy.resolve()}{os.sep}") for path in paths)

    monkeypatch.setattr("speechmill.shards.read.OPEN_FILES", 2)
    index = open_index(copy)
    assert len(index.shard_names) > 3
    reader, before = ShardReader(index), files()
    rows = np.unique(index.shard, return_index=True)[1].tolist()  # the first utterance of each shard
    first = [reader.audio(row) for row in rows]
    assert files() == before + 2
    for row, samples in zip(rows, first, strict=True):  # a shard that was closed is opened again
        assert (reader.audio(row) == samples).all()
    assert files() == before + 2


def test_shards_are_asked_of_the_kernel_whole(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr("speechmill.shards.read._FETCHED", 1000)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, size, advice: asked.append((start, size, advice)))
    before = threading.active_count()
    ShardReader(index).fetch_ahead([1, 2])
    ShardReader(index).fetch_ahead([])
    while threading.active_count() > before:
        threading.Event().wait(0.001)
    sizes = [index.shard_path(shard).stat().st_size for shard in (1, 2)]
    assert asked == [(start, 1000, os.POSIX_FADV_WILLNEED) for size in sizes for start in range(0, size, 1000)]


def test_a_shard_that_is_gone_is_only_told_when_it_is_read(copy: Path) -> None:
    index = open_index(copy)
    path = index.shard_path(0)
    path.unlink()
    _will_need([path, index.shard_path(1)])
    with pytest.raises(SpeechmillError, match="cannot be opened"):
        ShardReader(index).audio(0)
