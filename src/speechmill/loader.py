"""The loader: a batch number -> tensors. A map-style dataset whose item is a batch; to resume is to start elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from speechmill.errors import SpeechmillError
from speechmill.schedule import Schedule, Utterances
from speechmill.shards.index import Index
from speechmill.shards.read import ShardReader
from speechmill.shards.tokens import token_counts
from speechmill.tokenizer import Tokenizer


class Batch(NamedTuple):
    number: int
    ids: list[str]
    audio: Tensor  # int16 [batch, samples], zero behind each utterance
    lengths: Tensor  # int64 [batch], samples
    targets: Tensor  # int64 [batch, length], zero behind each utterance
    target_lengths: Tensor  # int64 [batch]

    def to(self, device: torch.device) -> Batch:
        moved = (part.to(device, non_blocking=True) for part in self[2:])
        return Batch(self.number, self.ids, *moved)


class BatchDataset(Dataset[Batch]):
    """Batches of a schedule by number; each worker process opens its own files."""

    def __init__(self, index: Index, schedule: Schedule, tokenizer: Tokenizer) -> None:
        self._reader = ShardReader(index)
        self.schedule = schedule
        self._tokenizer = tokenizer

    def __getitem__(self, number: int) -> Batch:
        rows = self.schedule.utterances.rows[self.schedule.batch(number)].tolist()
        about = [self._reader.about(row) for row in rows]
        targets = [self._tokenizer.encode(item["text"]) for item in about]
        audio, lengths = padded([self._reader.audio(row) for row in rows], np.int16)
        tokens, token_lengths = padded([np.array(ids, dtype=np.int64) for ids in targets], np.int64)
        return Batch(number, [item["id"] for item in about], audio, lengths, tokens, token_lengths)


def padded(rows: list[npt.NDArray[np.generic]], kind: type[np.generic]) -> tuple[Tensor, Tensor]:
    """Stack rows of different lengths, zeros behind; and their lengths."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    stacked = np.zeros((len(rows), max(1, int(lengths.max()))), dtype=kind)
    for place, row in zip(stacked, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(stacked), torch.from_numpy(lengths)


def utterances_of(index: Index, split: str, tokenizer: Tokenizer | None) -> Utterances:
    """The schedule's view of a split; with token counts where a tokenizer is given."""
    rows = index.rows(split)
    tokens = token_counts(index, tokenizer)[rows] if tokenizer else np.zeros(len(rows))
    return Utterances(
        rows, index.shard[rows].astype(np.int64), index.samples[rows].astype(np.int64), tokens.astype(np.int64),
        index.sample_rate,
    )  # fmt: skip


def batches(dataset: BatchDataset, numbers: Iterable[int], workers: int, pin: bool) -> Iterator[Batch]:
    """Load batches in the order of `numbers`, ahead of need, in worker processes (none: in this one)."""
    loader: DataLoader[Batch | SpeechmillError] = DataLoader(
        _Answers(dataset),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=pin,
    )
    return _raising(iter(loader))


class _Answers(Dataset[Batch | SpeechmillError]):
    """Errors cross the process border as values: raised in a worker, torch would wrap them into a traceback."""

    def __init__(self, dataset: BatchDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, number: int) -> Batch | SpeechmillError:
        try:
            return self._dataset[number]
        except SpeechmillError as error:
            return SpeechmillError(str(error))


def _raising(answers: Iterator[Batch | SpeechmillError]) -> Iterator[Batch]:
    for answer in answers:
        if isinstance(answer, SpeechmillError):
            raise answer
        yield answer
