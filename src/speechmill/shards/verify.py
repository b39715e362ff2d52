"""Check a folder of shards: checksums, every TAR against the index, every utterance decoded, the sums of the ledger."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from speechmill.artefact import sha256_file
from speechmill.errors import SpeechmillError
from speechmill.ledger import faults, ledger_path, read_ledger
from speechmill.progress import track
from speechmill.shards.foreign import open_reader
from speechmill.shards.index import INDEX_NAME, Index, open_index
from speechmill.shards.sums import SUMS_NAME, known_sums, read_sums
from speechmill.shards.tar import scan
from speechmill.workers import end_with_parent


def verify(folder: Path, processes: int = 1) -> list[str]:
    """What is wrong with a folder of shards, a line each; an empty list when all is well.

    Every file must have the checksum of SHA256SUMS; TAR members must be exactly the index's, at its offsets; each
    utterance must decode to the index's number of samples; the ledger's seconds must add up.
    """
    index = open_index(folder, shards_there=False)
    problems = verify_beside(folder) + _unknown_tars(index)
    for lines in verify_shards(index, processes).values():
        problems += lines
    return problems


def _unknown_tars(index: Index) -> list[str]:
    """TARs of which neither the index nor SHA256SUMS knows: training does not read them, other readers do."""
    known = {f"{name}.tar" for name in index.shard_names} | known_sums(index.folder).keys()
    there = sorted(str(path.relative_to(index.folder)) for path in index.folder.rglob("*.tar"))
    return [
        f"{index.folder / name}: is not of this folder's index; move it elsewhere."
        for name in there
        if name not in known
    ]


def verify_beside(folder: Path) -> list[str]:
    """What is wrong with the small files: index, plan, drops, ledger."""
    if not (folder / SUMS_NAME).is_file():
        return [f"{folder / SUMS_NAME}: missing, so nothing can be compared with what was written."]
    try:
        sums = read_sums(folder)
    except SpeechmillError as error:
        return [str(error)]
    if INDEX_NAME not in sums:
        return [f"{folder / SUMS_NAME}: does not name {INDEX_NAME}, so it is not that of a finished folder of shards."]
    names = [name for name in sums if not name.endswith(".tar")]
    problems = [line for name in names if (line := _wrong_sum(folder / name, sums[name]))]
    if (ledger := ledger_path(folder)).is_file() and not problems:
        problems += [f"{ledger}: {line}" for line in faults(read_ledger(ledger))]
    return problems


def verify_shards(index: Index, processes: int) -> dict[str, list[str]]:
    """For each shard of the index what is wrong with it; nothing where it is whole."""
    names = index.shard_names
    check = partial(_verify_shard, index.folder)
    return dict(zip(names, track(_mapped(check, len(names), processes), "verify", len(names), "shards"), strict=True))


def _mapped(check: partial[list[str]], count: int, processes: int) -> Iterator[list[str]]:
    if processes == 1 or count == 1:
        yield from map(check, range(count))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, count), context, initializer=end_with_parent) as pool:
        yield from pool.map(check, range(count))


def _verify_shard(folder: Path, number: int) -> list[str]:
    index = open_index(folder, shards_there=False)
    path = index.shard_path(number)
    if not path.is_file():
        return [f"{path}: missing."]
    problems = []
    expected = known_sums(folder).get(str(path.relative_to(folder)))
    if expected is not None and (wrong := _wrong_sum(path, expected)):
        problems.append(wrong)
    rows = np.flatnonzero(index.shard == number)
    reader = open_reader(index)
    problems += _verify_tar(index, path, rows.tolist(), reader.folders)
    for row in rows.tolist():
        try:
            reader.audio(row)
            reader.about(row)
        except SpeechmillError as error:
            problems.append(str(error))
    return problems


def _wrong_sum(path: Path, expected: str) -> str | None:
    if not path.is_file():
        return f"{path}: missing."
    return None if sha256_file(path) == expected else f"{path}: is not as it was written (SHA-256)."


def _verify_tar(index: Index, path: Path, rows: list[int], folders: bool) -> list[str]:
    """Members must lie where the index has them, and a folder of ours holds no other."""
    places = {}
    for row in rows:
        places[int(index.offset[row])] = (row, "audio", int(index.size[row]))
        if index.json_size[row]:
            places[int(index.json_offset[row])] = (row, "note", int(index.json_size[row]))
    problems = []
    try:
        for member in scan(path, folders):
            row, kind, size = places.pop(member.offset, (-1, "", -1))
            named = folders or member.name.startswith(f"{index.id(row)}." if row >= 0 else "\0")
            if (size != member.size or not named) and not (folders and row < 0):
                problems.append(f"{path}: the member {member.name!r} is not where the index has it.")
                if row >= 0:
                    places[member.offset] = (row, kind, size)
    except SpeechmillError as error:
        problems.append(str(error))
    problems += [
        f"{path}: the {kind} of {index.id(row)!r}, which the index has, is missing." for row, kind, _ in places.values()
    ]
    return problems


def index_is_readable(folder: Path) -> bool:
    """Whether the index can be opened at all."""
    if not (folder / INDEX_NAME).is_file():
        return False
    try:
        open_index(folder, shards_there=False)
    except SpeechmillError:
        return False
    return True
