from __future__ import annotations

import shutil
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
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}: the utterance '{index.id(9)}' is damaged")


def test_a_truncated_tar_is_named_with_all_that_it_lacks(copy: Path) -> None:
    index = open_index(copy)
    path = index.shard_path(1)
    rows = index.rows(None)[index.shard == 1]
    path.write_bytes(path.read_bytes()[: int(index.offset[rows[5]]) + 50])
    problems = verify(copy)
    assert any(problem.startswith(f"{path}: cut off") for problem in problems)
    for row in rows[5:]:
        assert any(f"'{index.id(row)}' is damaged" in problem for problem in problems)
        assert f"{path}: the member '{index.id(row)}.json' of the index is missing." in problems
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
    assert len(problems) == 1
    assert what in problems[0]


def test_a_folder_without_index_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match=r"index\.arrow: no index"):
        verify(tmp_path)
