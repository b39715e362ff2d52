"""Worker processes: how many the machine carries, and that none outlives the command that started it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import parent_process
from typing import TYPE_CHECKING

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
    """PyTorch's threads in each of the training processes of this machine."""
    return recipe.train.threads or max(1, cores() // processes)


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
