from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from speechmill.errors import SpeechmillError
from speechmill.shards.index import open_index
from speechmill.shards.tar import TarWriter, scan
from speechmill.shards.verify import verify


@pytest.fixture
def copy(tmp_path: Path, shards: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copy"))


def test_whole_shards_have_no_problems(shards: Path) -> None:
    assert verify(shards) == []


def test_a_damaged_utterance_is_the_only_one_named(copy: Path) -> None:
    index = open_index(copy)
    path = index.shard_path(int(index.shard[9]))
    data = bytearray(path.read_bytes())
    middle = int(index.offset[9]) + int(index.size[9]) // 2
    data[middle : middle + 8] = bytes(byte ^ 0xFF for byte in data[middle : middle + 8])
    path.write_bytes(data)
    problems = verify(copy)
    assert len(problems) == 2
    assert problems[0] == f"{path}: is not as it was written (SHA-256)."
    assert problems[1].startswith(f"{path}: the utterance '{index.id(9)}' is damaged")


def test_a_truncated_tar_is_named_with_all_that_it_lacks(copy: Path) -> None:
    index = open_index(copy)
    path = index.shard_path(1)
    rows = index.rows(None)[index.shard == 1]
    path.write_bytes(path.read_bytes()[: int(index.offset[rows[5]]) + 50])
    problems = verify(copy)
    assert any(problem.startswith(f"{path}: cut off") for problem in problems)
    for row in rows[5:]:
        assert any(f"'{index.id(row)}' is damaged" in problem for problem in problems)
        assert f"{path}: the note of '{index.id(row)}', which the index has, is missing." in problems
    assert all(str(path) in problem for problem in problems)


def test_a_foreign_tar_is_named(copy: Path) -> None:
    shutil.copy(copy / "train-000002.tar", copy / "train-000001.tar")
    problems = verify(copy)
    assert any("train-000001.tar: the member" in p and "is not where the index has it" in p for p in problems)
    assert all("train-000001.tar" in problem for problem in problems)


@pytest.mark.parametrize(("name", "what"), [("../x.flac", "leads out of the folder"), ("x.pkl", "is a pickle")])
def test_a_member_that_must_not_be_there_is_named(copy: Path, name: str, what: str) -> None:
    path = copy / "valid-000000.tar"
    end = max(member.offset + -(-member.size // 512) * 512 for member in scan(path))
    with path.open("r+b") as stream:
        stream.seek(end)
        writer = TarWriter(stream)
        writer.add(name, b"evil")
        writer.finish()
    problems = verify(copy)
    assert len(problems) == 2
    assert "SHA-256" in problems[0]
    assert what in problems[1]


def test_other_processes_find_the_same(copy: Path) -> None:
    (copy / "train-000001.tar").unlink()
    (copy / "dropped.tsv").write_text("something else\n")
    problems = verify(copy, processes=2)
    assert problems == verify(copy)
    assert problems == [
        f"{copy / 'dropped.tsv'}: is not as it was written (SHA-256).",
        f"{copy / 'train-000001.tar'}: missing.",
    ]


def test_bytes_behind_the_last_member_are_damage_that_only_the_checksum_sees(copy: Path) -> None:
    path = copy / "valid-000000.tar"
    path.write_bytes(path.read_bytes() + b"\0" * 512)
    assert verify(copy) == [f"{path}: is not as it was written (SHA-256)."]


def test_the_usual_tool_checks_the_sums(shards: Path) -> None:
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=shards, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    named = {line.split("  ")[1] for line in (shards / "SHA256SUMS").read_text().splitlines()}
    there = {path.name for path in shards.iterdir() if not path.name.startswith("tokens-")}
    assert named == there - {"SHA256SUMS"}


def test_a_folder_without_index_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match=r"index\.arrow: no index"):
        verify(tmp_path)


def test_a_tar_that_the_index_does_not_know_is_told(copy: Path) -> None:
    shutil.copy(copy / "train-000000.tar", copy / "train-000099.tar")
    assert verify(copy) == [f"{copy / 'train-000099.tar'}: is not of this folder's index; move it elsewhere."]
