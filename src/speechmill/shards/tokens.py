"""Token counts: one column beside the index for each tokenizer, named by its fingerprint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from speechmill.artefact import written
from speechmill.errors import SpeechmillError
from speechmill.progress import track
from speechmill.shards.foreign import open_reader
from speechmill.shards.index import Index
from speechmill.shards.mixture import Mixture
from speechmill.tokenizer import Tokenizer


def token_counts(index: Index, tokenizer: Tokenizer) -> npt.NDArray[np.int32]:
    """Target tokens of every row of the index; counted once per tokenizer, then read from the column file."""
    if isinstance(index, Mixture):
        return np.concatenate([token_counts(part, tokenizer) for part in index.parts])
    path = index.column_path(f"tokens-{tokenizer.fingerprint}.npy")
    if not path.is_file():
        _count(index, tokenizer, path)
    try:
        counts: npt.NDArray[np.int32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise SpeechmillError(f"{path}: not a column of token counts ({error}); remove it, it is made anew.") from error
    if len(counts) != len(index):
        raise SpeechmillError(f"{path}: has {len(counts)} rows, the index {len(index)}; remove it, it is made anew.")
    return counts


def _count(index: Index, tokenizer: Tokenizer, path: Path) -> None:
    reader = open_reader(index)
    rows = track(range(len(index)), "count tokens", len(index), "utterances")
    counts = np.fromiter((len(tokenizer.encode(reader.about(row)["text"])) for row in rows), np.int32, len(index))
    with written(path) as partial, partial.open("wb") as stream:
        np.save(stream, counts)
