"""Shared memory that a worker fills again and again, and hands over without a copy.

New pages of shared memory cost a third of what it takes to decode FLAC into them (docs/log.md). So a worker keeps its
buffers: the process that received one gives it back through a pipe when nothing looks into it any more.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import weakref
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_MOST = 200  # buffers of a worker, for the number of one is a byte in the pipe; more batches at a time get new memory
_SPARE = 1.25  # a buffer is larger than what it is made for, so that it serves batches that are a little larger
_counter = itertools.count()


@dataclass(frozen=True)
class Lent:
    """A buffer on its way. `memory` comes along the first time only: it costs a file and a connection."""

    ring: int
    worker: int
    slot: int  # -1: memory for this once
    shape: tuple[int, int]
    memory: Tensor | None


class Lender:
    """A worker's buffers, int16."""

    def __init__(self, ring: int, worker: int, returned: Connection) -> None:
        self._ring, self._worker, self._returned = ring, worker, returned
        self._slots: list[Tensor] = []
        self._free: list[int] = []
        os.set_blocking(returned.fileno(), False)

    def take(self, rows: int, samples: int) -> tuple[Lent, npt.NDArray[np.int16]]:
        """A buffer [rows, samples], holding anything, and what to send for it. Never waits."""
        with contextlib.suppress(BlockingIOError):
            self._free += os.read(self._returned.fileno(), 1024)
        size, new, slot = rows * samples, False, -1
        fitting = [slot for slot in self._free if len(self._slots[slot]) >= size]
        if fitting:
            slot = fitting[-1]
            self._free.remove(slot)
        elif len(self._slots) < _MOST:
            self._slots.append(shared(int(size * _SPARE)))
            slot, new = len(self._slots) - 1, True
        memory = self._slots[slot] if slot >= 0 else shared(size)
        lent = Lent(self._ring, self._worker, slot, (rows, samples), memory if new or slot < 0 else None)
        return lent, memory.numpy()[:size].reshape(rows, samples)


class Borrower:
    """The other end: what the process that starts the workers knows of their buffers."""

    def __init__(self, workers: int) -> None:
        self.ring = next(_counter)
        pipes = [multiprocessing.Pipe(duplex=False) for _ in range(workers)]
        self.returned = [receiving for receiving, _ in pipes]  # for the workers
        self._giving = [sending for _, sending in pipes]
        self._slots: dict[tuple[int, int], npt.NDArray[np.int16]] = {}
        _borrowers[self.ring] = self

    @staticmethod
    def receive(lent: Lent) -> Tensor:
        """The buffer as a tensor; it goes back when the last tensor or array that looks into it is gone."""
        self = _borrowers[lent.ring]
        if lent.memory is not None:
            memory = lent.memory.numpy()
            if lent.slot < 0:
                return torch.from_numpy(memory[: lent.shape[0] * lent.shape[1]].reshape(lent.shape))
            self._slots[lent.worker, lent.slot] = memory
        whole = self._slots[lent.worker, lent.slot]
        # Torch keeps the very array that a tensor was made of for as long as any view of the tensor lives.
        array = whole[: lent.shape[0] * lent.shape[1]].reshape(lent.shape)
        weakref.finalize(array, _give_back, self._giving[lent.worker], lent.slot).atexit = False
        return torch.from_numpy(array)


_borrowers: weakref.WeakValueDictionary[int, Borrower] = weakref.WeakValueDictionary()


def _give_back(giving: Connection, slot: int) -> None:
    # One byte, no lock: this runs wherever the last holder lets go, in the middle of anything.
    with contextlib.suppress(OSError):  # the worker has ended
        os.write(giving.fileno(), bytes([slot]))


def shared(samples: int) -> Tensor:
    """int16 [samples] that another process receives as the same memory: zeros."""
    storage = torch.UntypedStorage._new_shared(2 * max(1, samples))  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.int16).set_(storage)
