"""A process of Hogwild that trains: it takes a number, loads its batches, reads, computes, writes."""

from __future__ import annotations

import copy
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from multiprocessing.connection import Connection
from typing import Any

import torch

from speechmill.device import set_precision, settle
from speechmill.errors import SpeechmillError
from speechmill.heap import keep_freed
from speechmill.loader import Batch, batches
from speechmill.models.base import Recognizer
from speechmill.settings import Recipe
from speechmill.sounds import Sounds
from speechmill.strategies.base import UpdateStats, share
from speechmill.strategies.shared import CEILING, DONE, LIMIT, ONLY, Counters, Shared
from speechmill.strategies.single import Single
from speechmill.workers import GROUP_SIGNALS, end_with_parent, threads_of

Dataset = Any  # of batches by their number

_IDLE = 0.002  # seconds between looks at the ceiling


@dataclass(frozen=True)
class Task:
    """What a worker is given. `open_dataset` makes the dataset of a recipe: files are not handed over open."""

    recipe: Recipe
    shared: Shared
    counters: str
    device: str
    open_dataset: Callable[[Recipe, list[int]], Dataset]
    epoch_starts: list[int]
    sounds: Sounds | None = None


def work(rank: int, task: Task, pipe: Connection) -> None:
    """The process's main: until nobody hears it any more."""
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the command decides when to stop
    end_with_parent()
    torch.set_num_threads(threads_of(task.recipe, task.recipe.train.processes))
    set_precision(task.recipe.train.precision, torch.device(task.device))
    if task.device == "cpu":
        keep_freed()
    counters = Counters(task.counters, task.recipe.train.processes)
    worker = Worker(rank, task, counters)
    try:
        dataset = task.open_dataset(task.recipe, task.epoch_starts)
        take = partial(counters.take, rank)
        while True:
            ceiling = counters.read(CEILING)
            worker.stretch(dataset, pipe, iter(take, None))
            if counters.read(CEILING) != ceiling:
                continue
            since, waits_for = time.monotonic(), counters.read(ONLY)
            pipe.send(("idle", ceiling))
            while counters.read(CEILING) == ceiling:
                if pipe.poll(_IDLE):  # updates that one who died had taken, or the command has ended: EOFError
                    worker.stretch(dataset, pipe, chain(pipe.recv(), iter(take, None)))
                    since, waits_for = time.monotonic(), counters.read(ONLY)
                    pipe.send(("idle", ceiling))
            if waits_for in (0, rank + 1):  # else the one who was alone has told it
                worker.idle += time.monotonic() - since
    except SpeechmillError as error:
        pipe.send(("error", str(error)))
    except (BrokenPipeError, EOFError, ConnectionResetError):
        return  # the command has ended


class Worker:
    """A replica, and how a gradient computed on it changes the shared parameters."""

    def __init__(self, rank: int, task: Task, counters: Counters) -> None:
        self.rank, self.recipe, self.counters = rank, task.recipe, counters
        self.model = task.shared.model
        self.replica = copy.deepcopy(self.model).train()
        self.optimizers = task.shared.optimizers
        self.step = Step(
            self.replica, self.model, self.optimizers[0], self.recipe, torch.device(task.device), task.sounds
        )
        self.idle = 0.0  # seconds of workers that stood still, which no update has told yet
        self.is_alone = False

    def stretch(self, dataset: Dataset, pipe: Connection, numbers: Iterator[int]) -> None:
        """Carry out these updates, and tell the command of each."""
        taken: list[int] = []

        def batch_numbers() -> Iterator[int]:
            for number in numbers:
                taken.append(number)
                yield from share(number, per_update, 0, 1)

        per_update = self.recipe.schedule.batches_per_update
        pin = self.step.device.type == "cuda"
        with closing(batches(dataset, batch_numbers(), self.recipe.train.loader_workers, pin)) as loaded:
            while True:
                since = time.monotonic()
                update = list(islice(loaded, per_update))
                if not update:
                    return
                waited = time.monotonic() - since
                number = taken.pop(0)
                stats = replace(self.update(update, number), waited=waited)
                if number < self.recipe.train.hogwild_alone:  # the others stand still
                    self.idle += (self.recipe.train.processes - 1) * (time.monotonic() - since)
                stats, self.idle = replace(stats, communicated=self.idle), 0.0
                pipe.send(("done", (number, replace(stats, finished=time.monotonic()))))

    def update(self, batches: list[Batch], number: int) -> UpdateStats:
        self.counters.begin(self.rank, number)
        self.step.piece_limit = self.counters.read(LIMIT)
        self.step.anneal(self.counters.annealed)
        # Whoever makes the first updates alone does so with the moments that all will begin with.
        is_alone = number < self.recipe.train.hogwild_alone
        if is_alone != self.is_alone:
            self.is_alone = is_alone
            torch.set_num_threads(threads_of(self.recipe, 1 if is_alone else self.recipe.train.processes))
        self.step.optimizer = self.optimizers[0 if is_alone else self.rank % len(self.optimizers)]
        read_at = self.counters.read(DONE)
        with torch.no_grad():
            for ours, theirs in zip(self.replica.parameters(), self.model.parameters(), strict=True):
                ours.copy_(theirs)
        stats = self.step.update(batches, number)
        settle(self.step.device)  # a GPU may still be writing; what is said to be done must be done
        with self.counters.locked() as values:
            stale = int(values[DONE]) - read_at
            values[DONE] += 1
            if self.step.piece_limit:
                values[LIMIT] = min(self.step.piece_limit, int(values[LIMIT]) or self.step.piece_limit)
        return replace(stats, staleness=stale)


class Step(Single):
    """`single`, whose optimizer changes the shared parameters with the replica's gradients."""

    def __init__(
        self, replica: Recognizer, shared: Recognizer, optimizer: torch.optim.Optimizer, recipe: Recipe,
        device: torch.device, sounds: Sounds | None = None,
    ) -> None:  # fmt: skip
        super().__init__(replica, optimizer, recipe, device, sounds)
        self.shared = shared

    def begin(self, with_ctc: bool) -> None:
        del with_ctc
        self.model.zero_grad(set_to_none=True)

    def apply(self) -> None:
        for ours, theirs in zip(self.model.parameters(), self.shared.parameters(), strict=True):
            theirs.grad = ours.grad
        super().apply()
