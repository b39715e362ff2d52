"""Worker processes: how many the machine carries, and that none outlives the command that started it."""

from __future__ import annotations

import os
import threading
from multiprocessing.connection import wait
from multiprocessing.process import parent_process
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechmill.settings import Recipe


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
