"""Sums of gradients over ranks, in an order that is laid down once, from the end of the model to its start."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from speechmill.group import Group

_BUCKET_BYTES = 4 << 20  # smaller: more of the sending is hidden behind the backward pass; larger: fewer messages
_MEMORY = Path("/dev/shm")  # noqa: S108  a name that nobody can guess is made there, and is gone at once
_MOST_SHARING = 8  # ranks: each adds up all of them, so that the work of each grows with their number
_ALIGNED = 64  # bytes

Parameters = list[torch.nn.Parameter]


class AnyReducer(Protocol):
    """What `ddp` asks of a reducer, in this order, for each update."""

    sending: bool  # whether the backward pass that runs is the last of the update

    def begin(self) -> None:
        """Gradients are added up from zero, in the reducer's memory."""

    def send_rest(self) -> None:
        """The backward passes are over."""

    def present(self) -> list[float]:
        """1 for each parameter that has a gradient on this rank."""

    def finish(self, counts: Tensor) -> None:
        """Give each parameter the sum of its gradients, none where `counts`, the sum of `present`, is 0.

        The ranks have met between `send_rest` and this: nobody has the counts before all have gradients.
        """


def build_reducer(parameters: Parameters, group: Group) -> AnyReducer:
    """Sums in shared memory where all ranks have the same one and compute on the CPU, else by torch.distributed."""
    on_cpu = all(parameter.device.type == "cpu" for parameter in parameters)
    if on_cpu and 1 < group.size <= _MOST_SHARING and group.local_size == group.size:
        parts = _parts(parameters, sys.maxsize)
        size = sum(_room(part) for part in parts)
        memory = _shared_memory(group, 2 * group.size * size)
        if memory is not None:
            return SharedReducer(parts, group, memory.view(2, group.size, size))
    return Reducer(parameters, group)


class Bucket:
    """Gradients side by side in one piece of memory."""

    def __init__(self, parameters: Parameters, flat: Tensor | None = None) -> None:
        self.parameters = parameters
        sizes = [p.numel() for p in parameters]
        first = parameters[0]
        self.flat = torch.zeros(sum(sizes), dtype=first.dtype, device=first.device) if flat is None else flat
        self.views = [part.view_as(p) for part, p in zip(torch.split(self.flat, sizes), parameters, strict=True)]
        self.missing = 0  # gradients of the last batch that have not come yet

    def begin(self) -> None:
        self.flat.zero_()
        self.missing = len(self.parameters)
        self.give()

    def give(self) -> None:
        for parameter, view in zip(self.parameters, self.views, strict=True):
            parameter.grad = view


class Reducer:
    """Sums by torch.distributed, sent while the last batch of an update is still on its way back."""

    def __init__(self, parameters: Parameters, group: Group, bucket_bytes: int = _BUCKET_BYTES) -> None:
        self._group = group
        self.buckets = [Bucket(part) for part in _parts(parameters, bucket_bytes)]
        self.sending = False
        self._work: list[Any] = []
        self._place = {p: b for b, bucket in enumerate(self.buckets) for p in bucket.parameters}
        self._come: set[torch.nn.Parameter] = set()
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._came)  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        self.sending = False
        self._work.clear()
        self._come.clear()
        for bucket in self.buckets:
            bucket.begin()

    def _came(self, parameter: torch.nn.Parameter) -> None:
        self._come.add(parameter)
        if self.sending:
            self.buckets[self._place[parameter]].missing -= 1
            # In their order on every rank, whatever the order in which they filled up.
            while len(self._work) < len(self.buckets) and self.buckets[len(self._work)].missing == 0:
                self._send()

    def _send(self) -> None:
        bucket = self.buckets[len(self._work)]
        with self._group.sending():
            self._work.append(dist.all_reduce(bucket.flat, async_op=True))

    def send_rest(self) -> None:
        """What has no gradient here may have one on another rank."""
        self.sending = False
        while len(self._work) < len(self.buckets):
            self._send()

    def present(self) -> list[float]:
        return [float(parameter in self._come) for parameter in self._place]

    def finish(self, counts: Tensor) -> None:
        for work in self._work:
            work.wait()
        _take_away(list(self._place), counts)


class SharedReducer:
    """Sums in memory that the ranks of one machine share: each adds up what all have put there, in their order.

    Gloo sends gradients through sockets, with threads that take the processor from the backward pass behind which they
    should hide. Here they are computed where all can read them. There are two such places: who is ahead writes into
    the other one, and cannot come to the first again before all have left it.
    """

    def __init__(self, parts: list[Parameters], group: Group, memory: Tensor) -> None:
        """`memory`: bytes `[2, ranks, gradients of all parts]`, the same on all ranks."""
        self.sending = False
        self._turn = 0
        self._sums = [Bucket(part) for part in parts]
        self._all: list[list[Tensor]] = [[], []]  # of each place, of each part: [ranks, gradients]
        self._own: list[list[Bucket]] = [[], []]
        at = 0
        for part, total in zip(parts, self._sums, strict=True):
            for place in range(2):
                size = total.flat.numel() * total.flat.element_size()
                gradients = memory[place, :, at : at + size].view(total.flat.dtype)
                self._all[place].append(gradients)
                self._own[place].append(Bucket(part, gradients[group.rank]))
            at += _room(part)
        self._come: dict[torch.nn.Parameter, bool] = {p: False for part in parts for p in part}
        for parameter in self._come:
            parameter.register_post_accumulate_grad_hook(self._came)  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        self._turn = 1 - self._turn
        self._come = dict.fromkeys(self._come, False)
        for bucket in self._own[self._turn]:
            bucket.begin()

    def _came(self, parameter: torch.nn.Parameter) -> None:
        self._come[parameter] = True

    def send_rest(self) -> None:
        """Nothing is sent."""

    def present(self) -> list[float]:
        return list(map(float, self._come.values()))

    @torch.no_grad()
    def finish(self, counts: Tensor) -> None:
        for total, (first, second, *others) in zip(self._sums, self._all[self._turn], strict=True):
            torch.add(first, second, out=total.flat)
            for other in others:
                total.flat += other
            total.give()
        _take_away(list(self._come), counts)


def _take_away(parameters: Parameters, counts: Tensor) -> None:
    """A parameter without a gradient on any rank has none, as in `single`."""
    for parameter, count in zip(parameters, counts.tolist(), strict=True):
        if not count:
            parameter.grad = None


def _parts(parameters: Parameters, most: int) -> list[Parameters]:
    """From the last to the first, in parts of about so many bytes, each of one kind of number."""
    parts: list[Parameters] = []
    size = 0
    for parameter in reversed(parameters):
        length = parameter.numel() * parameter.element_size()
        if not parts or size + length > most or parts[-1][0].dtype != parameter.dtype:
            parts.append([])
            size = 0
        parts[-1].append(parameter)
        size += length
    return parts


def _room(part: Parameters) -> int:
    """Bytes that the gradients of a part take, up to the next place where a part may begin."""
    return -(-sum(p.numel() * p.element_size() for p in part) // _ALIGNED) * _ALIGNED


def _shared_memory(group: Group, size: int) -> Tensor | None:
    """Bytes `[size]` that all ranks of the machine see; None where there is no room (containers have little)."""
    path = ""
    if group.leads:
        with contextlib.suppress(OSError):
            handle, path = tempfile.mkstemp(prefix="speechmill-", dir=_MEMORY)
            try:
                os.posix_fallocate(handle, 0, size)  # else the first write to a place that is not there is a SIGBUS
            except OSError:
                os.unlink(path)
                path = ""
            finally:
                os.close(handle)
    path = group.broadcast(path)
    if not path:
        return None
    memory = torch.from_file(path, shared=True, size=size, dtype=torch.uint8)
    group.barrier()
    if group.leads:
        os.unlink(path)  # it lives as long as one of them has it
    return memory
