from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from speechmill.config import override_recipe
from speechmill.errors import SpeechmillError
from speechmill.shards.index import open_index
from speechmill.shards.read import ShardReader
from speechmill.shards.store import open_shards
from speechmill.shards.tokens import count_by_reading, token_counts
from speechmill.tokenizer import Tokenizer
from speechmill.train.loop import train
from trained import tiny_recipe


@pytest.fixture
def copy(tmp_path: Path, shards: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copy", ignore=shutil.ignore_patterns("tokens-*")))


def test_counts_are_those_of_the_texts(copy: Path, tokenizer: Tokenizer) -> None:
    index = open_index(copy)
    reader = ShardReader(index)
    counts = token_counts(index, tokenizer)
    assert counts.tolist() == [len(tokenizer.encode(reader.about(row)["text"])) for row in range(len(index))]
    assert counts.dtype == np.int32
    assert (copy / f"tokens-{tokenizer.fingerprint}.npy").is_file()


def test_they_are_counted_once_and_then_read(copy: Path, tokenizer: Tokenizer) -> None:
    index = open_index(copy)
    expected = token_counts(index, tokenizer).tolist()
    for path in copy.glob("*.tar"):
        path.write_bytes(b"")
    assert token_counts(index, tokenizer).tolist() == expected


@pytest.mark.parametrize("data", [b"", b"no column", None])
def test_a_damaged_column_is_named(copy: Path, tokenizer: Tokenizer, data: bytes | None) -> None:
    index = open_index(copy)
    token_counts(index, tokenizer)
    path = copy / f"tokens-{tokenizer.fingerprint}.npy"
    path.write_bytes(path.read_bytes()[:-9] if data is None else data)
    with pytest.raises(SpeechmillError, match=r"not a column of token counts .*remove it"):
        token_counts(index, tokenizer)
    np.save(path, np.arange(5, dtype=np.int32))
    with pytest.raises(SpeechmillError, match="has 5 rows, the index 72; remove it"):
        token_counts(index, tokenizer)
    np.save(path, np.array([{}] * 72), allow_pickle=True)
    with pytest.raises(SpeechmillError, match="not a column of token counts"):
        token_counts(index, tokenizer)


def test_texts_of_the_plan_are_those_of_the_tars(copy: Path, tokenizer: Tokenizer) -> None:
    index = open_index(copy)
    expected = count_by_reading(index, tokenizer).tolist()
    for path in copy.glob("*.tar"):
        path.write_bytes(b"")
    assert token_counts(index, tokenizer).tolist() == expected


def test_without_a_plan_the_tars_are_read(copy: Path, tokenizer: Tokenizer) -> None:
    (copy / "plan.parquet").unlink()
    index = open_index(copy)
    assert token_counts(index, tokenizer).tolist() == count_by_reading(index, tokenizer).tolist()


def test_a_damaged_plan_is_named(copy: Path, tokenizer: Tokenizer) -> None:
    index = open_index(copy)
    data = bytearray((copy / "plan.parquet").read_bytes())
    data[len(data) // 4 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 4)
    (copy / "plan.parquet").write_bytes(data)
    with pytest.raises(SpeechmillError, match=r"plan\.parquet: cannot be read .*run `speechmill shard`"):
        token_counts(index, tokenizer)


def test_through_a_cache_no_shard_is_fetched(copy: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    far = open_shards(str(copy), str(tmp_path / "cache"), 1.0)
    expected = count_by_reading(open_index(copy), tokenizer).tolist()
    assert token_counts(far, tokenizer).tolist() == expected
    assert list((tmp_path / "cache").rglob("*.tar")) == []


@pytest.mark.parametrize("text", ["as_written", "normalized"])
def test_many_texts_at_once_count_as_one_by_one(tokenizer: Tokenizer, text: str) -> None:
    one = Tokenizer(tokenizer._model, tokenizer.settings.model_copy(update={"text": text}))
    texts = ["Cash.", "", "Share price, 5 € of it", "margin growth"]
    assert one.counts(texts).tolist() == [len(one.encode(each)) for each in texts]
    assert one.counts([]).tolist() == []


COUNTS = """
import sys
from pathlib import Path
from speechmill.shards.index import open_index
from speechmill.shards.tokens import token_counts
from speechmill.tokenizer import load_tokenizer

index, tokenizer = open_index(Path(sys.argv[1])), load_tokenizer(Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
print(int(token_counts(index, tokenizer).sum()), flush=True)
"""


def test_several_processes_at_a_time_count_once(copy: Path, tokenizer_path: Path, tokenizer: Tokenizer) -> None:
    command = [sys.executable, "-c", COUNTS, str(copy), str(tokenizer_path)]
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            )
            for _ in range(4)
        ]
        assert [process.stdout and process.stdout.readline() for process in running] == ["ready\n"] * 4
        for process in running:  # all at once: none has been counted yet
            assert process.stdin is not None
            process.stdin.write("on\n")
            process.stdin.flush()
        found = [process.communicate(timeout=120) for process in running]
    assert found == [(f"{int(token_counts(open_index(copy), tokenizer).sum())}\n", "")] * 4
    assert list(copy.glob(".*")) == []


def test_ranks_that_limit_tokens_train_from_the_first_run_on(
    copy: Path, tokenizer_path: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    recipe = override_recipe(
        tiny_recipe(copy, tokenizer_path),
        ["train.updates=4", "train.strategy=ddp", "train.processes=2", "schedule.max_tokens=500"],
    )
    assert train(recipe, tmp_path / "run").finished
    assert (copy / f"tokens-{tokenizer.fingerprint}.npy").is_file()
