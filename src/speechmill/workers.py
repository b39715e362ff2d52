"""Worker processes: how many the machine carries, that none outlives the command that started it, who does what."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import parent_process
from typing import TYPE_CHECKING

from speechmill.errors import SpeechmillError

if TYPE_CHECKING:
    from speechmill.settings import Recipe


# What Ctrl-C, Slurm and its time limit send to a whole group of processes; the one that leads decides what it means.
GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def signals_held() -> Iterator[None]:
    """What is started in the block begins deaf to the group's signals; this process hears them after it.

    A process that has not come to ignoring them yet would be ended by them: a spawned one needs seconds for that, and
    multiprocessing's resource tracker never ignores SIGUSR1.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cores() -> int:
    """The cores that this process may run on: fewer than the machine's under taskset, in a container or a Slurm job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(recipe: Recipe, processes: int) -> int:
    """PyTorch's threads in each of `processes` of this machine: as the recipe says, else as OMP_NUM_THREADS does.

    Two processes with as many threads as there are cores wait for each other's threads, and take several times as long
    as one after the other: `align` tells those that it starts, and a user may, how many there are for each.
    """
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return recipe.train.threads or (int(told) if told.isdigit() else 0) or max(1, cores() // processes)


def end_with_parent() -> None:
    """In a worker: leave as soon as the parent is gone.

    A worker of a killed command would otherwise take the next job from the queue, or wait for one for ever, and write
    beside the run that follows.
    """
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@dataclass(frozen=True)
class Worker:
    """One of `count` that share the work, each started by itself: an array of jobs, xargs, one machine after another.

    It takes the pieces whose number leaves `number` when divided by `count`, and may be counted from 0 or from 1.
    """

    number: int
    count: int

    def takes(self, piece: int) -> bool:
        return piece % self.count == self.number % self.count

    @classmethod
    def parse(cls, text: str) -> Worker:
        """Parse "3/16". Raises SpeechmillError where it is not I/N with I from 0 to N."""
        match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
        worker = cls(int(match[1]), int(match[2])) if match else None
        if worker is None or not 0 <= worker.number <= worker.count or worker.count == 0:
            raise SpeechmillError(f"--worker {text}: I/N was expected, such as 3/16: I from 0 to 15, or from 1 to 16.")
        return worker


ALONE = Worker(0, 1)
