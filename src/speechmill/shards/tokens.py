"""Token counts: one column beside the index for each tokenizer, named by its fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.ipc

from speechmill.artefact import locked, written
from speechmill.errors import SpeechmillError
from speechmill.progress import Progress
from speechmill.shards.foreign import open_reader
from speechmill.shards.index import FOREIGN_NAME, Index
from speechmill.shards.mixture import Mixture
from speechmill.shards.planned import PLANNED_NAME, planned_texts
from speechmill.tokenizer import Tokenizer

_COUNTING = 3600.0  # seconds that a process waits for another that counts
_PIECE = 1 << 15  # texts at a time

Ints = npt.NDArray[np.int32]


def token_counts(index: Index, tokenizer: Tokenizer) -> Ints:
    """Target tokens of every row of the index; counted once per tokenizer, then read from the column file.

    Any number of processes may ask at a time: one counts, the others wait for it.
    """
    if isinstance(index, Mixture):
        return np.concatenate([token_counts(part, tokenizer) for part in index.parts])
    path = index.column_path(f"tokens-{tokenizer.fingerprint}.npy")
    if not path.is_file():
        with locked(path, wait=_COUNTING):
            if not path.is_file():
                _write(_count(index, tokenizer), path)
    try:
        counts: Ints = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise SpeechmillError(f"{path}: not a column of token counts ({error}); remove it, it is made anew.") from error
    if len(counts) != len(index):
        raise SpeechmillError(f"{path}: has {len(counts)} rows, the index {len(index)}; remove it, it is made anew.")
    return counts


def _write(counts: Ints, path: Path) -> None:
    with written(path) as partial, partial.open("wb") as stream:
        np.save(stream, counts)


def _count(index: Index, tokenizer: Tokenizer) -> Ints:
    """From the one file that has all texts: the JSON between the audio would cost a pass over all TARs."""
    if (texts := index.file_beside(FOREIGN_NAME)) is not None:
        return _of_texts(_foreign_texts(texts), tokenizer, len(index))
    if (plan := index.file_beside(PLANNED_NAME)) is not None:
        return _of_plan(index, tokenizer, plan)
    return count_by_reading(index, tokenizer)


def count_by_reading(index: Index, tokenizer: Tokenizer) -> Ints:
    """Utterance by utterance out of the TARs: what the others are compared with; for folders that have no plan."""
    reader = open_reader(index)
    texts = (reader.about(row)["text"] for row in range(len(index)))
    return _of_texts(([text] for text in texts), tokenizer, len(index))


def _of_texts(pieces: Iterator[list[str]], tokenizer: Tokenizer, total: int) -> Ints:
    counts = [np.empty(0, np.int32)]
    with Progress("count tokens", total, "utterances") as progress:
        for texts in pieces:
            counts.append(tokenizer.counts(texts))
            progress.advance(len(texts))
    return np.concatenate(counts)


def _foreign_texts(path: Path) -> Iterator[list[str]]:
    column = pyarrow.ipc.open_file(pa.memory_map(str(path))).read_all().column("text")
    for start in range(0, len(column), _PIECE):
        yield column[start : start + _PIECE].to_pylist()


def _of_plan(index: Index, tokenizer: Tokenizer, plan: Path) -> Ints:
    """The plan has its rows in another order than the index, and those that were dropped."""
    ids: list[pl.Series] = []

    def texts() -> Iterator[list[str]]:
        for piece in planned_texts(plan, _PIECE):
            ids.append(piece["id"])
            yield piece["text"].to_list()

    counts = _of_texts(texts(), tokenizer, len(index))
    counted = pl.DataFrame({"id": pl.concat(ids), "tokens": counts})
    rows = pl.DataFrame({"id": pl.Series(pl.from_arrow(index.table.column("id")))})
    tokens = rows.join(counted, on="id", how="left", maintain_order="left")["tokens"]
    if tokens.null_count():
        raise SpeechmillError(
            f"{plan}: has no text of {rows['id'].filter(tokens.is_null())[0]!r}, which the index has; "
            f"`speechmill shards verify` says what has changed."
        )
    found: Ints = tokens.to_numpy()
    return found
