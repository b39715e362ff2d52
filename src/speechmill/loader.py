"""The loader: a batch number -> tensors. A map-style dataset whose item is a batch; to resume is to start elsewhere."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from speechmill.errors import SpeechmillError
from speechmill.schedule import Schedule, Utterances
from speechmill.shards.foreign import open_reader
from speechmill.shards.index import Index
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
        self._reader = open_reader(index)
        self.schedule = schedule
        self._tokenizer = tokenizer

    def __getitem__(self, number: int) -> Batch:
        self._reader.fetch_ahead(self.schedule.shards_ahead(number).tolist())
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


def batches(dataset: BatchDataset, numbers: Iterable[int], workers: int, pin: bool) -> Generator[Batch, None, None]:
    """Load batches in the order of `numbers`, ahead of need, in worker processes (none: in this one).

    Close it where not all are taken: its workers end by that, and not by a signal.
    """
    loader: DataLoader[Batch | SpeechmillError] = DataLoader(
        _Answers(dataset),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=pin,
        worker_init_fn=_leave_signals_to_the_parent,
    )
    return _raising(loader)


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C and Slurm signal the whole group: a worker that obeyed would take away what the parent needs to save.

    An orphan still ends: torch's workers look for their parent every few seconds.
    """
    del worker
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class _Answers(Dataset[Batch | SpeechmillError]):
    """Errors cross the process border as values: raised in a worker, torch would wrap them into a traceback."""

    def __init__(self, dataset: BatchDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, number: int) -> Batch | SpeechmillError:
        try:
            return self._dataset[number]
        except SpeechmillError as error:
            return SpeechmillError(str(error))


def _raising(loader: DataLoader[Batch | SpeechmillError]) -> Generator[Batch, None, None]:
    answers = iter(loader)
    try:
        for answer in answers:
            if isinstance(answer, SpeechmillError):
                raise answer
            yield answer
    finally:
        # Torch does this when nobody holds the iterator any more, but the traceback of an error may hold it for ever.
        if isinstance(answers, _MultiProcessingDataLoaderIter):
            answers._shutdown_workers()
