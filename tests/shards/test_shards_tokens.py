from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from speechmill.errors import SpeechmillError
from speechmill.shards.index import open_index
from speechmill.shards.read import ShardReader
from speechmill.shards.tokens import token_counts
from speechmill.tokenizer import Tokenizer


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
