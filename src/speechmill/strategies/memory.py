"""Memory that the ranks of one machine share."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from speechmill.group import Group

MEMORY = Path("/dev/shm")  # noqa: S108  a name that nobody can guess is made there, and is gone at once
ALIGNED = 64  # bytes: a line of the cache, so that no two ranks write to the same one


def shared_memory(group: Group, size: int) -> Tensor | None:
    """Bytes `[size]` that all ranks of the machine see; None where there are none, or no room for them.

    The file has no name any more, on any rank's way out, before it takes room: nobody can leave it behind.
    """
    path, handle = "", -1
    if group.leads:
        with contextlib.suppress(OSError):
            handle, path = tempfile.mkstemp(prefix="speechmill-", dir=MEMORY)
    try:
        path = group.broadcast(path)
        if path and not group.leads:
            with contextlib.suppress(OSError):  # a container of its own, with another /dev/shm
                handle = os.open(path, os.O_RDWR)
        everywhere = all(group.gather(handle >= 0))
    finally:
        if group.leads and path:
            os.unlink(path)
    try:
        return _mapped(group, handle, size) if everywhere else None
    finally:
        if handle >= 0:
            os.close(handle)


def _mapped(group: Group, handle: int, size: int) -> Tensor | None:
    there = False
    if group.leads:
        with contextlib.suppress(OSError):  # else the first write to a place that has no room is a SIGBUS
            os.posix_fallocate(handle, 0, size)
            there = True
        if not there:
            print(
                f"speechmill train: {MEMORY} has no room for {size / 2**20:.0f} MiB; the ranks of this machine send "
                f"their gradients to one another, which takes longer (docker run --shm-size).",
                file=sys.stderr,
            )  # fmt: skip
    if not group.broadcast(there):
        return None
    return torch.from_file(f"/proc/self/fd/{handle}", shared=True, size=size, dtype=torch.uint8)
