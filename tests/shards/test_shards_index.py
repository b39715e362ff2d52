from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from conftest import SHARD_SETTINGS
from speechmill.audio import decode_bytes
from speechmill.config import override_recipe
from speechmill.errors import SpeechmillError
from speechmill.evaluate import evaluate
from speechmill.manifest import read_manifest, write_manifest
from speechmill.shards.index import INDEX_NAME, SCHEMA, Index, open_index, write_index
from speechmill.shards.repair import repair
from speechmill.shards.tar import scan
from speechmill.shards.write import shard_manifest
from speechmill.train.loop import train
from trained import tiny_recipe


@pytest.fixture
def copy(tmp_path: Path, shards: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copy"))


def test_columns_are_those_of_manifest_and_tars(index: Index, manifest: Path) -> None:
    rows = {row["id"]: row for row in read_manifest(manifest).iter_rows(named=True)}
    found = index.table.to_pylist()
    assert {row["id"] for row in found} == rows.keys()
    assert index.table.column_names == list(SCHEMA)
    for place, row in enumerate(found):
        known = rows[row["id"]]
        assert {name: row[name] for name in ("split", "call", "speaker", "session")} == {
            name: known[name] for name in ("split", "call", "speaker", "session")
        }
        assert row["native"] == int(known["native"])
        assert row["characters"] == len(known["text"])
        data = index.shard_path(int(index.shard[place])).read_bytes()
        audio, rate = decode_bytes(data[row["offset"] : row["offset"] + row["size"]])
        assert (len(audio), rate) == (row["samples"], index.sample_rate)
        about = json.loads(data[row["json_offset"] : row["json_offset"] + row["json_size"]])
        assert (about["id"], about["text"]) == (row["id"], known["text"])
        assert index.id(place) == row["id"]


def test_rows_are_in_the_order_of_the_disk(index: Index) -> None:
    names = [row["shard"] for row in index.table.to_pylist()]
    assert names == sorted(names)
    assert [index.shard_names[code] for code in index.shard] == names
    for shard in range(len(index.shard_names)):
        offsets = index.offset[index.shard == shard]
        assert (np.diff(offsets) > 0).all()
        assert len(offsets) * 2 == len(list(scan(index.shard_path(shard))))


def test_rows_of_a_split(index: Index, manifest: Path) -> None:
    split = index.table.column("split").to_pylist()
    for name, count in read_manifest(manifest).group_by("split").len().iter_rows():
        rows = index.rows(name)
        assert len(rows) == count
        assert {split[row] for row in rows} == {name}
    assert index.rows(None).tolist() == list(range(72))
    with pytest.raises(SpeechmillError, match="no split 'dev' here; there is 'test', 'train', 'valid'"):
        index.rows("dev")


def test_opening_maps_the_file_and_copies_nothing(copy: Path) -> None:
    path = (copy / "index.arrow").resolve()
    before = pa.total_allocated_bytes()
    index = open_index(copy)
    arrays = [index.offset, index.size, index.samples, index.json_offset, index.json_size, index.shard]
    assert pa.total_allocated_bytes() - before < 1024
    assert str(path) in Path("/proc/self/maps").read_text()
    assert not any(array.flags.owndata or array.flags.writeable for array in arrays)


def test_unknown_nativeness_is_minus_one(tmp_path: Path, manifest: Path) -> None:
    write_manifest(read_manifest(manifest).with_columns(native=pl.lit(None, pl.Boolean)), tmp_path / "m.parquet")
    shard_manifest(tmp_path / "m.parquet", tmp_path / "s", SHARD_SETTINGS, 1)
    assert open_index(tmp_path / "s").numbers("native").tolist() == [-1] * 72


def test_an_index_comes_back_as_it_was_written(copy: Path, index: Index) -> None:
    texts = [name for name, kind in SCHEMA.items() if kind == pl.String]
    table = pl.DataFrame(index.table.to_pylist(), schema=SCHEMA)
    before = (copy / "index.arrow").read_bytes()
    write_index(table, copy / INDEX_NAME)
    assert (copy / "index.arrow").read_bytes() == before
    assert pl.DataFrame(open_index(copy).table.to_pylist(), schema=SCHEMA).select(texts).equals(table.select(texts))


@pytest.mark.parametrize("data", [b"", b"no index at all", None])
def test_a_file_that_is_no_index_is_named(copy: Path, data: bytes | None) -> None:
    path = copy / "index.arrow"
    path.write_bytes(path.read_bytes()[:700] if data is None else data)
    with pytest.raises(SpeechmillError, match=r"index\.arrow: not an index"):
        open_index(copy)


def test_an_index_of_other_columns_is_named(copy: Path) -> None:
    pl.DataFrame({"id": ["a"]}).write_ipc(copy / "index.arrow")
    with pytest.raises(SpeechmillError, match="the index has no column 'shard'"):
        open_index(copy)


def test_what_is_missing_is_named(copy: Path) -> None:
    (copy / "train-000002.tar").unlink()
    with pytest.raises(SpeechmillError, match=r"train-000002\.tar: this shard of the index is gone; bring it back, or"):
        open_index(copy)
    (copy / "index.arrow").unlink()
    with pytest.raises(SpeechmillError, match=r"index\.arrow: no index; finish the shards"):
        open_index(copy)
    with pytest.raises(SpeechmillError, match="no such folder of shards"):
        open_index(copy / "nothere")


def append_to(tar: Path, name: str, data: bytes = b"x") -> None:
    with tarfile.open(tar, "a") as stream:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        stream.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../evil", "leads out of the folder"),
        ("x.pkl", "is a pickle"),
        ("harmless.txt", "has [0-9]+ bytes more than its index says"),
    ],
)
def test_a_tar_that_was_added_to_is_not_opened_by_training_or_evaluation(
    copy: Path, tokenizer_path: Path, tmp_path: Path, name: str, said: str
) -> None:
    run = tmp_path / "run"
    train(override_recipe(tiny_recipe(copy, tokenizer_path), ["train.updates=4"]), run)
    append_to(copy / "train-000001.tar", name)
    with pytest.raises(SpeechmillError, match=said) as caught:
        train(tiny_recipe(copy, tokenizer_path), tmp_path / "other")
    assert str(copy / "train-000001.tar") in str(caught.value)
    for on in (None, str(copy)):
        with pytest.raises(SpeechmillError, match=said):
            evaluate(run, on=on, split="test")
    assert repair(copy).rewritten == ["train-000001"]
    open_index(copy)


def test_what_stands_behind_the_end_of_a_tar_is_told_too(copy: Path) -> None:
    with (copy / "valid-000000.tar").open("ab") as stream:
        stream.write(b"behind the end, where no reader of TARs looks")
    with pytest.raises(SpeechmillError, match=r"valid-000000\.tar: has 45 bytes more"):
        open_index(copy)
