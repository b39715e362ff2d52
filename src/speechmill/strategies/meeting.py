"""Where the ranks of one machine wait for one another, and add up a few numbers."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch.distributed as dist
from torch import Tensor

from speechmill.group import Group
from speechmill.strategies.memory import ALIGNED, shared_memory

_AT_ONCE = 0.02  # seconds for which a rank asks again and again; after that it sleeps in between
_SLEEP = 0.0005
_LOOK = 0.1  # seconds between two looks at whether the others still live
# Processors that let no store pass another: who sees that a rank has come sees all that it wrote before.
_IN_ORDER = ("x86_64", "AMD64")


class AnyMeeting(Protocol):
    def add(self, values: Tensor) -> None:
        """Sum numbers (float64) over the ranks, in place; nobody has them before all have come."""


class Messages:
    """By torch.distributed."""

    def add(self, values: Tensor) -> None:
        dist.all_reduce(values)


class Meeting:
    """In shared memory, without the system's help: what gloo's threads take to wake one another is 2 ms an update.

    There are two places for the numbers: who is ahead writes into the other one, and cannot come to the first again
    before all have left it.
    """

    def __init__(
        self,
        rank: int,
        processes: list[int],
        spinning: bool,
        came: npt.NDArray[np.int64],
        rows: npt.NDArray[np.float64],
    ) -> None:  # fmt: skip
        """
        Args:
            processes: of each rank.
            spinning: whether there is a core for each of them.
            came: how often each rank has come, `[ranks]`.
            rows: their numbers, `[2, ranks, numbers]`.
        """
        self._rank, self._processes, self._spinning = rank, processes, spinning
        self._came, self._rows = came, rows
        self._count = 0

    def add(self, values: Tensor) -> None:
        """Raises RuntimeError, as torch.distributed does, where another rank's process has ended."""
        self._count += 1
        place = self._rows[self._count % 2, :, : len(values)]
        place[self._rank] = values.numpy()
        self._came[self._rank] = self._count
        self._wait()
        total = values.numpy()
        total[:] = place[0]
        for row in place[1:]:
            total += row

    def _wait(self) -> None:
        since = time.monotonic()
        look = since + _LOOK
        while (self._came < self._count).any():
            now = time.monotonic()
            time.sleep(0 if self._spinning and now - since < _AT_ONCE else _SLEEP)  # 0: other threads have their turn
            if now > look:
                look = now + _LOOK
                self._look()

    def _look(self) -> None:
        for rank, process in enumerate(self._processes):
            if self._came[rank] < self._count and not _lives(process) and self._came[rank] < self._count:
                raise RuntimeError(f"process {process} of rank {rank} has ended")


def build_meeting(group: Group, width: int) -> AnyMeeting:
    """For as many numbers, for ranks of one machine."""
    namespace = _namespace()
    known = group.gather((os.getpid(), namespace, platform.machine(), sorted(os.sched_getaffinity(0))))
    processes, namespaces, machines, cores = zip(*known, strict=True)
    if len(set(namespaces)) > 1 or not namespace or not set(machines) <= set(_IN_ORDER):
        return Messages()
    row = -(-width * 8 // ALIGNED) * ALIGNED
    memory = shared_memory(group, group.size * (ALIGNED + 2 * row))
    if memory is None:
        return Messages()
    held = memory.numpy()
    came = held[: group.size * ALIGNED].view(np.int64).reshape(group.size, -1)[:, 0]
    rows = held[group.size * ALIGNED :].view(np.float64).reshape(2, group.size, -1)
    spinning = len(set().union(*cores)) >= group.size
    return Meeting(group.rank, list(processes), spinning, came, rows)


def _namespace() -> str:
    """That in which process numbers count; nothing where there is no telling whether a process lives."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _lives(process: int) -> bool:
    """Whether a process runs: one that has ended, and that nobody has asked after yet, does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
