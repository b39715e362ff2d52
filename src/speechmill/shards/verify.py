"""Check a folder of shards: every TAR against the index, every utterance decoded."""

from __future__ import annotations

from pathlib import Path

from speechmill.errors import SpeechmillError
from speechmill.progress import track
from speechmill.shards.index import open_index
from speechmill.shards.read import ShardReader
from speechmill.shards.tar import scan


def verify(folder: Path) -> list[str]:
    """What is wrong with a folder of shards, a line each; an empty list when all is well.

    TAR members must be exactly the index's, at its offsets; each FLAC must decode to the index's number of samples.
    """
    index = open_index(folder)
    reader = ShardReader(index)
    problems: list[str] = []
    by_shard = _rows_by_shard(index.shard.tolist())
    for number, rows in enumerate(track(by_shard, "verify", len(by_shard), "shards")):
        problems += _verify_tar(index.shard_path(number), index.table.take(rows).to_pylist())
        for row in rows:
            try:
                reader.audio(row)
                reader.about(row)
            except SpeechmillError as error:
                problems.append(str(error))
    return problems


def _rows_by_shard(shards: list[int]) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(max(shards, default=-1) + 1)]
    for row, shard in enumerate(shards):
        rows[shard].append(row)
    return rows


def _verify_tar(path: Path, rows: list[dict[str, object]]) -> list[str]:
    expected = {}
    for row in rows:
        expected[f"{row['id']}.flac"] = (row["offset"], row["size"])
        expected[f"{row['id']}.json"] = (row["json_offset"], row["json_size"])
    problems = []
    try:
        for member in scan(path):
            if expected.pop(member.name, None) != (member.offset, member.size):
                problems.append(f"{path}: the member {member.name!r} is not where the index has it.")
    except SpeechmillError as error:
        problems.append(str(error))
    problems += [f"{path}: the member {name!r} of the index is missing." for name in expected]
    return problems
