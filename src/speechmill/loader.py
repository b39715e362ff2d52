"""The loader: a batch number -> tensors. A map-style dataset whose item is a batch; to resume is to start elsewhere."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import signal
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from speechmill.device import sent
from speechmill.errors import SpeechmillError, StorageError
from speechmill.ring import Borrower, Lender, Lent
from speechmill.schedule import Begun, LookAhead, Part, Schedule, Utterances
from speechmill.shards.codecs import flac_decoder
from speechmill.shards.foreign import open_reader
from speechmill.shards.index import Index
from speechmill.shards.mixture import parts_of
from speechmill.shards.tokens import token_counts
from speechmill.tokenizer import Tokenizer
from speechmill.workers import GROUP_SIGNALS, end_with_parent, signals_held

_NOTHING = Begun()


class Batch(NamedTuple):
    """A batch of the schedule, as the loader makes it, on the CPU."""

    number: int
    ids: list[str]
    audio: Tensor  # int16 [batch, samples], zero behind each utterance
    lengths: Tensor  # int64 [batch], samples
    targets: Tensor  # int64 [batch, length], zero behind each utterance
    target_lengths: Tensor  # int64 [batch]
    damaged: tuple[Damage, ...] = ()  # utterances of the schedule's batch that could not be read and are left out
    epoch: int = 0

    def to(self, device: torch.device) -> Batch:
        """With its audio there. The rest stays: what has to be known of it is known without waiting for a GPU."""
        return self._replace(audio=sent(self.audio, device))


class Damage(NamedTuple):
    id: str
    reason: str  # one line that names the shard


class Request(NamedTuple):
    """What a worker needs to know to load a batch: the schedule stays in the process that asks."""

    number: int
    rows: npt.NDArray[np.integer]  # of the index
    epoch: int = 0
    begun: Begun = _NOTHING
    lanes: int = 1  # of the schedule: so many windows are read at a time


class BatchDataset(Dataset[Batch]):
    """Batches of a schedule by number."""

    def __init__(self, index: Index, schedule: Schedule, tokenizer: Tokenizer) -> None:
        self.assembler = Assembler(index, tokenizer)
        self.schedule = schedule
        if flac_decoder() != "miniaudio":
            warnings.warn("the package miniaudio is not installed: libsndfile decodes FLAC, slower.", stacklevel=2)

    def request(self, number: int, begun: Begun = _NOTHING) -> Request:
        rows = self.schedule.utterances.rows[self.schedule.batch(number)]
        epoch = self.schedule.locate(number)[0]
        return Request(number, rows, epoch, begun, self.schedule.settings.lanes)

    def __getitem__(self, number: int) -> Batch:
        return self.assembler.batch(self.request(number))

    def first_texts(self, count: int) -> list[str]:
        """The texts of about the first `count` utterances that are trained on; no audio is read."""
        self.schedule.locate(0)
        texts: list[str] = []
        for number in range(self.schedule.epoch_starts[1]):
            if len(texts) >= count:
                break
            texts += self.assembler.texts(self.request(number))
        return texts


class Assembler:
    """Makes batches of the utterances of an index. Pickled, it takes along where the index is, and not its rows."""

    def __init__(self, index: Index, tokenizer: Tokenizer) -> None:
        self._index, self._tokenizer = index, tokenizer
        self._reader = open_reader(index)  # each process opens its own files

    def __getstate__(self) -> tuple[Index, Tokenizer]:
        return self._index, self._tokenizer

    def __setstate__(self, state: tuple[Index, Tokenizer]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def batch(self, request: Request, fast: bool = True) -> Batch:
        """Read, decode, tokenise and pad. Damaged utterances are left out and named; the others stay where they are.

        Args:
            fast: False reads utterance by utterance, by libsndfile, and stacks them: what the other is compared with.
        Raises StorageError where not the data but what they lie on fails.
        """
        if not fast:
            return self._by_utterance(request)
        return self.batch_into(request, np.empty(self.shape(request), np.int16))

    def texts(self, request: Request) -> list[str]:
        """The texts of a batch, without those that cannot be read: it is told when the batch is."""
        texts: list[str] = []
        for row in request.rows.tolist():
            try:
                texts.append(self._reader.about(row)["text"])
            except StorageError:
                raise
            except SpeechmillError:
                continue
        return texts

    def shape(self, request: Request) -> tuple[int, int]:
        """Utterances and padded samples, as the index has them."""
        return len(request.rows), int(self._index.samples[request.rows].max())

    def batch_into(self, request: Request, into: npt.NDArray[np.int16]) -> Batch:
        """Decode each utterance into its place of the batch; no copy is made. Its audio is a view of `into`."""
        self._look_ahead(request)
        ids: list[str] = []
        lengths, targets, damaged = [], [], []
        for row, length in zip(request.rows.tolist(), self._index.samples[request.rows].tolist(), strict=True):
            place = into[len(ids)]
            try:
                self._reader.audio_into(row, place[:length])
                target = self._tokenizer.encode(self._reader.about(row)["text"])
            except StorageError:
                raise
            except SpeechmillError as error:
                damaged.append(Damage(self._index.id(row), str(error)))
                continue
            place[length:] = 0
            ids.append(self._index.id(row))
            lengths.append(length)
            targets.append(np.array(target, dtype=np.int64))
        audio = torch.from_numpy(into[: len(ids), : max(lengths, default=1)])
        tokens, token_lengths = padded(targets, np.int64)
        known = torch.tensor(lengths, dtype=torch.int64)
        return Batch(request.number, ids, audio, known, tokens, token_lengths, tuple(damaged), request.epoch)

    def _look_ahead(self, request: Request) -> None:
        self._reader.release()
        self._index.keep(request.begun.shards)
        for shards in request.begun.ahead:
            self._reader.fetch_ahead(shards, request.lanes)

    def _by_utterance(self, request: Request) -> Batch:
        self._look_ahead(request)
        ids, sounds, targets, damaged = [], [], [], []
        for row in request.rows.tolist():
            sound = np.empty(int(self._index.samples[row]), np.int16)
            try:
                self._reader.audio_into(row, sound, fast=False)
                target = self._tokenizer.encode(self._reader.about(row)["text"])
            except StorageError:
                raise
            except SpeechmillError as error:
                damaged.append(Damage(self._index.id(row), str(error)))
                continue
            ids.append(self._index.id(row))
            sounds.append(sound)
            targets.append(np.array(target, dtype=np.int64))
        audio, lengths = padded(sounds, np.int16)
        tokens, token_lengths = padded(targets, np.int64)
        return Batch(request.number, ids, audio, lengths, tokens, token_lengths, tuple(damaged), request.epoch)


def padded(rows: Sequence[npt.NDArray[Any]], kind: type[np.generic]) -> tuple[Tensor, Tensor]:
    """Stack rows of different lengths, zeros behind; and their lengths."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    stacked = np.zeros((len(rows), max(1, int(lengths.max(initial=0)))), dtype=kind)
    for place, row in zip(stacked, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(stacked), torch.from_numpy(lengths)


def utterances_of(index: Index, split: str, tokenizer: Tokenizer | None) -> Utterances:
    """The schedule's view of a split; with token counts where a tokenizer is given."""
    rows = index.rows(split)
    tokens = token_counts(index, tokenizer)[rows] if tokenizer else np.zeros(len(rows))
    return Utterances(
        rows, index.shard[rows].astype(np.int64), index.samples[rows].astype(np.int64), tokens.astype(np.int64),
        index.sample_rate, tuple(Part(*part) for part in parts_of(index, rows)),
    )  # fmt: skip


def batches(dataset: BatchDataset, numbers: Iterable[int], workers: int, pin: bool) -> Generator[Batch, None, None]:
    """Load batches in the order of `numbers`, ahead of need, in worker processes (none: in this one).

    Close it where not all are taken: its workers end by that, and not by a signal.
    """
    borrower = Borrower(workers)
    loader: DataLoader[Any] = DataLoader(
        _Answers(dataset.assembler, borrower),
        batch_size=None,
        sampler=_Requests(dataset, numbers),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        collate_fn=_as_it_is,
        pin_memory=pin,
        worker_init_fn=_start_worker,
        multiprocessing_context=loader_server() if workers else None,
    )
    return _raising(loader, borrower)


def loader_server() -> multiprocessing.context.ForkServerContext:
    """Begin to start the process that workers are forked from; returns at once.

    Not this process: it has threads, and a lock that one of them holds stays locked in a fork for ever. The server has
    none, and imports what workers need once for all of them. Call it early: the import takes seconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["speechmill.loader_server"])
    with signals_held():
        multiprocessing.forkserver.ensure_running()
    return context


def leave_signals_to_the_parent() -> None:
    """Ctrl-C and Slurm signal the whole group: a worker that obeyed would take away what the parent needs to save."""
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _start_worker(worker: int) -> None:
    del worker
    leave_signals_to_the_parent()
    # Torch's own look-out sees the server, which lives as long as one of its children does.
    end_with_parent()


class _Requests:
    """The requests of batches, made when a worker is to have the next one."""

    def __init__(self, dataset: BatchDataset, numbers: Iterable[int]) -> None:
        self._dataset, self._numbers = dataset, numbers

    def __iter__(self) -> Iterator[Request]:
        ahead = LookAhead(self._dataset.schedule)
        return (self._dataset.request(number, ahead.begun(number)) for number in self._numbers)


class _Answers(Dataset[Any]):
    """What crosses the process border. Errors do as values: raised in a worker, torch would make tracebacks of them."""

    def __init__(self, assembler: Assembler, borrower: Borrower) -> None:
        self._assembler, self._ring, self._returned = assembler, borrower.ring, borrower.returned
        self._lender: Lender | None = None

    def __getitem__(self, request: Request) -> Batch | _Handed | SpeechmillError:
        worker = get_worker_info()
        try:
            if worker is None:
                return self._assembler.batch(request)
            if self._lender is None:
                self._lender = Lender(self._ring, worker.id, self._returned[worker.id])
            return self._handed(request, self._lender)
        except SpeechmillError as error:
            return SpeechmillError(str(error))

    def _handed(self, request: Request, lender: Lender) -> _Handed:
        lent, into = lender.take(*self._assembler.shape(request))
        batch = self._assembler.batch_into(request, into)
        return _Handed(
            batch.number, batch.ids, lent, *(part.numpy() for part in batch[3:6]), batch.damaged, batch.epoch
        )


class _Handed:
    """A batch on its way. Only its audio is shared memory: for small tensors, bytes in a pipe cost less."""

    def __init__(self, number: int, ids: list[str], audio: Lent, *rest: Any) -> None:
        self._parts = (number, ids, audio, *rest)

    def batch(self) -> Batch:
        number, ids, lent, lengths, targets, target_lengths, damaged, epoch = self._parts
        audio = Borrower.receive(lent)[: len(ids), : int(lengths.max(initial=1))]
        lengths, targets, target_lengths = map(torch.from_numpy, (lengths, targets, target_lengths))
        return Batch(number, ids, audio, lengths, targets, target_lengths, damaged, epoch)

    def pin_memory(self, device: object = None) -> Batch:
        """What torch's pinning thread calls."""
        del device
        batch = self.batch()
        names = ("audio", "lengths", "targets", "target_lengths")
        return batch._replace(**{name: getattr(batch, name).contiguous().pin_memory() for name in names})


def _as_it_is(answer: object) -> object:
    return answer


def _raising(loader: DataLoader[Any], borrower: Borrower) -> Generator[Batch, None, None]:
    answers = iter(loader)
    try:
        for answer in answers:
            if isinstance(answer, SpeechmillError):
                raise answer
            yield answer.batch() if isinstance(answer, _Handed) else answer
    finally:
        # Torch does this when nobody holds the iterator any more, but the traceback of an error may hold it for ever.
        if isinstance(answers, _MultiProcessingDataLoaderIter):
            answers._shutdown_workers()
        del borrower  # so long it must be there
