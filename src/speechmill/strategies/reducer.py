"""Sums of gradients over ranks, in an order that is laid down once."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from speechmill.group import Group
from speechmill.strategies.meeting import AnyMeeting, build_meeting
from speechmill.strategies.memory import ALIGNED, shared_memory

_BUCKET_BYTES = 4 << 20  # smaller: more of the sending is hidden behind the backward pass; larger: fewer messages
_MOST_NUMBERS = 64  # that ranks tell one another in an update, beside one for each parameter
_MOST_SHARING = 4  # ranks: each adds up all of them, so that the work of each grows with their number

Parameters = list[torch.nn.Parameter]


class AnyReducer(Protocol):
    """What `ddp` asks of a reducer, in this order, for each update."""

    through: str  # by what way, in words; the order of a sum of more than two depends on it
    sending: bool  # whether the backward pass that runs is the last of the update

    def begin(self, idle: Collection[torch.nn.Parameter] = ()) -> None:
        """Gradients are added up from nothing.

        Args:
            idle: parameters that no batch of this update gives a gradient, on any rank: nothing waits for them.
        """

    def send_rest(self) -> None:
        """The backward passes are over."""

    def present(self) -> list[float]:
        """1 for each parameter that has a gradient on this rank."""

    def meet(self, values: Tensor) -> None:
        """Sum numbers of all ranks (float64, at most `_MOST_NUMBERS` beside those of `present`), in place.

        Nobody has them before all have come here.
        """

    def finish(self, counts: Tensor) -> None:
        """Give each parameter the sum of its gradients, none where `counts`, the sum of `present`, is 0.

        The ranks have met between `send_rest` and this.
        """


def build_reducer(parameters: Parameters, group: Group) -> AnyReducer:
    """Sums in shared memory where all ranks have the same one and compute on the CPU, else by torch.distributed."""
    on_cpu = all(parameter.device.type == "cpu" for parameter in parameters)
    if on_cpu and 1 < group.size <= _MOST_SHARING and group.local_size == group.size:
        size = sum(_room(parameter) for parameter in parameters)
        memory = shared_memory(group, 2 * group.size * size)
        if memory is not None:
            meeting = build_meeting(group, len(parameters) + _MOST_NUMBERS)
            return SharedReducer(parameters, group, memory.view(2, group.size, size), meeting)
    return Reducer(parameters, group)


class Bucket:
    """Gradients side by side in one piece of memory, sent together."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        sizes = [p.numel() for p in parameters]
        first = parameters[0]
        self.flat = torch.zeros(sum(sizes), dtype=first.dtype, device=first.device)
        self.views = [part.view_as(p) for part, p in zip(torch.split(self.flat, sizes), parameters, strict=True)]
        self.missing = 0  # gradients of the last batch that have not come yet

    def begin(self, idle: set[torch.nn.Parameter]) -> None:
        self.flat.zero_()
        self.missing = sum(parameter not in idle for parameter in self.parameters)
        for parameter, view in zip(self.parameters, self.views, strict=True):
            parameter.grad = view


class Reducer:
    """Sums by torch.distributed, sent while the last batch of an update is still on its way back."""

    through = "messages"

    def __init__(self, parameters: Parameters, group: Group, bucket_bytes: int = _BUCKET_BYTES) -> None:
        self._group = group
        self.buckets = [Bucket(part) for part in _parts(parameters, bucket_bytes)]
        self.sending = False
        self._work: list[Any] = []
        self._place = {p: b for b, bucket in enumerate(self.buckets) for p in bucket.parameters}
        self._come: set[torch.nn.Parameter] = set()
        self._idle: set[torch.nn.Parameter] = set()
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._came)  # type: ignore[no-untyped-call]

    def begin(self, idle: Collection[torch.nn.Parameter] = ()) -> None:
        self.sending = False
        self._work.clear()
        self._come.clear()
        self._idle = set(idle)
        for bucket in self.buckets:
            bucket.begin(self._idle)

    def _came(self, parameter: torch.nn.Parameter) -> None:
        assert parameter not in self._idle, "its bucket may have been sent"
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

    def meet(self, values: Tensor) -> None:
        dist.all_reduce(values)

    def finish(self, counts: Tensor) -> None:
        for work in self._work:
            work.wait()
        _take_away(list(self._place), counts)


class SharedReducer:
    """Sums in memory that the ranks of one machine share: each adds up what all have put there, in their order.

    Gloo sends gradients through sockets, with threads that take the processor from the backward pass behind which they
    should hide. Here each gradient is copied to where all can read it as soon as it is there. There are two such
    places: who is ahead writes into the other one, and cannot come to the first again before all have left it.
    """

    through = "shared memory"

    def __init__(self, parameters: Parameters, group: Group, memory: Tensor, meeting: AnyMeeting) -> None:
        """`memory`: bytes `[2, ranks, gradients of all parameters]`, the same on all ranks."""
        self.sending = False
        self._rank, self._place, self._meeting = group.rank, 0, meeting
        self._sent: set[torch.nn.Parameter] = set()
        self._parameters = parameters
        sums = torch.empty(memory.shape[-1], dtype=torch.uint8)
        self._sums: dict[torch.nn.Parameter, Tensor] = {}
        self._mine: dict[torch.nn.Parameter, list[Tensor]] = {}  # this rank's gradient in each place
        self._flat: list[tuple[Tensor, Tensor]] = []  # by kind of number: of each place and rank, and their sum
        at = 0
        for dtype in dict.fromkeys(parameter.dtype for parameter in parameters):
            first = at
            for parameter in (p for p in parameters if p.dtype == dtype):
                part = slice(at, at + parameter.numel() * parameter.element_size())
                self._sums[parameter] = _like(parameter, sums[part])
                self._mine[parameter] = [_like(parameter, place[self._rank, part]) for place in memory]
                at += _room(parameter)
                parameter.register_post_accumulate_grad_hook(self._came)  # type: ignore[no-untyped-call]
            self._flat.append((memory[..., first:at].view(dtype), sums[first:at].view(dtype)))

    def begin(self, idle: Collection[torch.nn.Parameter] = ()) -> None:
        del idle  # nothing waits for anything
        self.sending = False
        self._place = 1 - self._place
        self._sent.clear()
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def _came(self, parameter: torch.nn.Parameter) -> None:
        if self.sending:
            self._send(parameter)

    def _send(self, parameter: torch.nn.Parameter) -> None:
        mine = self._mine[parameter][self._place]
        if parameter.grad is None:
            mine.zero_()
        else:
            mine.copy_(parameter.grad)
        self._sent.add(parameter)

    @torch.no_grad()
    def send_rest(self) -> None:
        """What came with an earlier batch, or not at all."""
        for parameter in self._mine.keys() - self._sent:
            self._send(parameter)

    def present(self) -> list[float]:
        return [float(parameter.grad is not None) for parameter in self._parameters]

    def meet(self, values: Tensor) -> None:
        self._meeting.add(values)

    @torch.no_grad()
    def finish(self, counts: Tensor) -> None:
        for places, total in self._flat:
            first, second, *others = places[self._place]
            torch.add(first, second, out=total)
            for other in others:
                total += other
        for parameter in self._parameters:
            parameter.grad = self._sums[parameter]
        _take_away(self._parameters, counts)


def _like(parameter: torch.nn.Parameter, memory: Tensor) -> Tensor:
    """Bytes as a tensor with a parameter's shape and order in memory: optimizers go through both side by side."""
    return memory.view(parameter.dtype).as_strided(parameter.shape, torch.empty_like(parameter).stride())


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


def _room(parameter: torch.nn.Parameter) -> int:
    """Bytes that a gradient takes, up to the next place where one may begin."""
    return -(-parameter.numel() * parameter.element_size() // ALIGNED) * ALIGNED
