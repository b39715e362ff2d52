from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from conftest import SHARD_SETTINGS, tokenizer_settings
from speechmill.artefact import (
    fingerprint,
    locked,
    partial_path,
    read_json,
    read_text,
    sha256_file,
    write_json,
    write_text,
    written,
    written_folder,
    written_together,
)
from speechmill.errors import SpeechmillError
from speechmill.manifest import read_manifest, write_manifest
from speechmill.shards.index import open_index
from speechmill.shards.write import ShardReport, WorkerReport, shard_manifest, shard_worker
from speechmill.tokenizer import load_tokenizer, train_tokenizer
from speechmill.workers import Worker


class Interrupted(Exception):
    pass


def write_half(path: Path) -> None:
    with written(path) as partial:
        partial.write_text("half")
        raise Interrupted


def write_half_a_folder(path: Path) -> None:
    with written_folder(path) as partial:
        (partial / "a").write_text("half")
        raise Interrupted


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_written_appears_under_its_name_only_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with written(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert files_under(tmp_path) == ["new", "new/a.txt"]


def test_an_exception_leaves_nothing_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(Interrupted):
        write_half(path)
    assert files_under(tmp_path) == []
    path.write_text("old")
    with pytest.raises(Interrupted):
        write_half(path)
    assert files_under(tmp_path) == ["a.txt"]
    assert path.read_text() == "old"


def test_what_a_killed_run_left_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    partial_path(path).write_text("a longer half of what was to be")
    write_text(path, "whole")
    assert path.read_text() == "whole"
    assert files_under(tmp_path) == ["a.txt"]


def test_written_folder_is_whole_or_absent_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with pytest.raises(Interrupted):
        write_half_a_folder(path)
    assert files_under(tmp_path) == []
    partial_path(path).mkdir()
    (partial_path(path) / "left").write_text("by a killed run")
    for name in ("first", "second"):
        with written_folder(path) as partial:
            (partial / "inner").mkdir()
            (partial / "inner" / name).write_text(name)
        assert files_under(tmp_path) == ["folder", "folder/inner", f"folder/inner/{name}"]


def test_a_folder_that_is_replaced_is_never_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, removed, remove = tmp_path / "folder", [], shutil.rmtree
    path.mkdir()
    (path / "old").write_text("old")

    def rmtree(folder: Path, **how: bool) -> None:
        removed.append((Path(folder).name, [inner.name for inner in path.glob("*")]))
        remove(folder, **how)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    with written_folder(path) as partial:
        (partial / "new").write_text("new")
    assert path.name not in [name for name, _ in removed]
    assert [there for _, there in removed] == [["old"], ["old"], ["new"]]


def test_of_files_written_together_the_last_is_named_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [tmp_path / name for name in ("beside", "sums", "index")]
    order: list[str] = []
    replace, sync = os.replace, os.fsync
    monkeypatch.setattr(os, "replace", lambda old, new: (order.append(f"name {Path(new).name}"), replace(old, new))[1])
    monkeypatch.setattr(os, "fsync", lambda number: (order.append(_synced(number)), sync(number))[1])
    with written_together(*names) as partials:
        for partial in partials:
            partial.write_text("new")
        assert not any(name.exists() for name in names)
    assert [name.read_text() for name in names] == ["new"] * 3
    assert sorted(order[:3]) == ["sync .beside.partial", "sync .index.partial", "sync .sums.partial"]
    folder = f"sync {tmp_path.name}"
    assert order[3:] == ["name beside", "name sums", folder, "name index", folder]


def test_files_written_together_are_all_left_out_where_one_fails(tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("beside", "index")]
    with pytest.raises(Interrupted):
        write_half_of_two(*names)
    assert list(tmp_path.iterdir()) == []


def write_half_of_two(*names: Path) -> None:
    with written_together(*names) as (first, _):
        first.write_text("half")
        raise Interrupted


def _synced(number: int) -> str:
    return f"sync {Path(os.readlink(f'/proc/self/fd/{number}')).name}"


def test_a_name_that_is_a_folder_or_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "folder", tmp_path / "file" / "a", tmp_path / "file" / "b" / "a"):
        with pytest.raises(SpeechmillError, match="cannot write here"):
            write_text(path, "text")
    assert files_under(tmp_path) == ["file", "folder"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc")
def test_a_place_where_no_folder_can_be_made_is_refused() -> None:
    with pytest.raises(SpeechmillError, match="/proc/x: no folder can be made here; choose another place"):
        write_text(Path("/proc/x/a"), "text")
    with pytest.raises(SpeechmillError, match="/proc/x: no folder"), locked(Path("/proc/x/a")):
        pytest.fail("locked")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_disk_that_fails_is_one_line(number: int, tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match="the disk fails"), written(tmp_path / "a"):
        raise OSError(number, "broken")
    assert files_under(tmp_path) == []


def test_json_and_text_come_back_and_a_byte_order_mark_goes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"price": "5 €", "list": [1, 2.5, None]})
    assert read_json(tmp_path / "a.json") == {"price": "5 €", "list": [1, 2.5, None]}
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfline")
    assert read_text(tmp_path / "b.txt") == "line"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"one\ntwo \xe9\n", "line 2: not UTF-8 \\(byte 0xe9\\)"),
        (b'{"a":\n 1,}', "line 2: not valid JSON"),
        (None, "no such"),
    ],
)
def test_unreadable_files_are_named_with_the_line(tmp_path: Path, data: bytes | None, message: str) -> None:
    path = tmp_path / "a.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(SpeechmillError, match=f"{path}.*{message}"):
        read_json(path)
    with pytest.raises(SpeechmillError, match="is a folder"):
        read_json(tmp_path)


def test_a_fingerprint_depends_on_values_and_not_on_the_order_of_keys(tmp_path: Path) -> None:
    assert fingerprint({"a": 1, "b": [2, 3]}) == fingerprint({"b": [2, 3], "a": 1}) == "efbd0040190fb087"
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a").startswith("ba7816bf8f01cfea")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A function that makes (or enlarges) a file system of so many KiB and returns its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False

    def resize(kib: int) -> Path:
        nonlocal mounted
        options = f"size={kib}k" + (",remount" if mounted else "")
        if os.geteuid() != 0:
            pytest.skip("a full disk needs a small tmpfs, and mounting one needs root")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True
        )
        if done.returncode != 0:
            pytest.skip(f"a full disk needs a small tmpfs, which cannot be mounted here: {done.stderr.strip()}")
        mounted = True
        return folder

    yield resize
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a caught error may hold files


def assert_full(act: Callable[[], object], folder: Path, finals: list[str]) -> None:
    """The call says in one line that the disk is full and leaves no partial and no final file."""
    with pytest.raises(SpeechmillError, match="the disk is full") as caught:
        act()
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    left = files_under(folder)
    assert not [name for name in left if name.endswith(".partial")]
    assert not set(left) & set(finals)


def test_full_disk_as_other_libraries_tell_it(small_disk: Callable[[int], Path]) -> None:
    folder = small_disk(64)

    def save_tensor() -> None:
        with written(folder / "a.pt") as partial:
            torch.save(torch.zeros(50_000), partial)

    def save_array() -> None:
        with written(folder / "a.npy") as partial, partial.open("wb") as stream:
            np.save(stream, np.zeros(50_000))

    for save in (save_tensor, save_array):
        assert_full(save, folder, ["a.pt", "a.npy"])


def test_full_disk_manifest(small_disk: Callable[[int], Path], manifest: Path) -> None:
    folder = small_disk(64)
    rng = np.random.default_rng(0)
    noise = [rng.bytes(60).hex() for _ in range(3000)]
    large = pl.concat([read_manifest(manifest)] * 50).head(3000).with_columns(text=pl.Series(noise))
    assert_full(lambda: write_manifest(large, folder / "a.parquet"), folder, ["a.parquet"])
    small_disk(4096)
    write_manifest(large, folder / "a.parquet")
    assert read_manifest(folder / "a.parquet").equals(large)


# From not even the plan to all but the last TAR.
@pytest.mark.parametrize("kib", [16, 64, 700, 1100])
def test_full_disk_shards(small_disk: Callable[[int], Path], manifest: Path, shards: Path, kib: int) -> None:
    folder = small_disk(kib)
    out = folder / "shards"
    assert_full(lambda: shard_manifest(manifest, out, SHARD_SETTINGS, 1), folder, ["shards/index.arrow"])
    small_disk(8192)
    report = shard_manifest(manifest, out, SHARD_SETTINGS, 1)
    assert not report.already_whole
    assert len(open_index(out)) == report.utterances == 72
    assert {path.name: sha256_file(path) for path in out.iterdir()} == {
        path.name: sha256_file(path) for path in shards.iterdir() if not path.name.startswith("tokens-")
    }


@pytest.mark.parametrize("worker", [False, True])
@pytest.mark.parametrize("kib", [64, 300, 700])
def test_full_disk_shards_of_several_processes_and_workers(
    small_disk: Callable[[int], Path], manifest: Path, shards: Path, kib: int, worker: bool
) -> None:
    folder = small_disk(kib)
    out = folder / "s"

    def write() -> ShardReport | WorkerReport:
        if not worker:
            return shard_manifest(manifest, out, SHARD_SETTINGS, 2)
        shard_worker(manifest, out, SHARD_SETTINGS, 2, Worker(0, 2))
        return shard_worker(manifest, out, SHARD_SETTINGS, 2, Worker(1, 2))

    assert_full(write, folder, ["s/index.arrow"])
    small_disk(8192)
    assert write().utterances == 72  # type: ignore[union-attr]
    assert {path.name: sha256_file(path) for path in out.iterdir()} == {
        path.name: sha256_file(path) for path in shards.iterdir() if not path.name.startswith("tokens-")
    }


def test_full_disk_tokenizer(small_disk: Callable[[int], Path], manifest: Path) -> None:
    folder = small_disk(64)
    out, settings = folder / "a.model", tokenizer_settings(manifest)
    with (folder / "filler").open("wb") as filler:
        filler.write(bytes(64 * 1024))
    assert_full(lambda: train_tokenizer(manifest, out, settings), folder, ["a.model", "a.model.json"])
    small_disk(4096)
    tokenizer, before = train_tokenizer(manifest, out, settings)
    assert not before
    assert load_tokenizer(out).fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    "text", ["4 requested and 0 written", "[enforce fail at inline_container.cc:595] . unexpected"]
)
@pytest.mark.parametrize(("blocks", "said"), [(0, "the disk is full"), (1 << 30, "could not be written whole")])
def test_a_write_that_was_cut_short_is_a_full_disk_only_where_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, blocks: int, said: str
) -> None:
    def left(_: Path) -> SimpleNamespace:
        assert partial_path(tmp_path / "a").exists(), "what fills the disk is still there when it is looked at"
        return SimpleNamespace(f_bavail=blocks, f_frsize=512)

    monkeypatch.setattr(os, "statvfs", left)

    def write() -> None:
        with written(tmp_path / "a") as partial:
            partial.write_text("half")
            raise RuntimeError(f"{text}\nand more")

    with pytest.raises(SpeechmillError, match=said) as caught:
        write()
    assert "\n" not in str(caught.value)
    assert files_under(tmp_path) == []
