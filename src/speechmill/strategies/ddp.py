"""Synchronous data parallel training: each rank computes its batches of an update, gradients are summed over all.

Not torch's DistributedDataParallel: that rebuilds its buckets after the first step, in the order in which gradients
came, so that a resumed run sums in another order than the one that was not interrupted. Here the buckets are laid out
once, from the end of the model to its start, and are sent in that order.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from speechmill.group import Group
from speechmill.loader import Batch
from speechmill.models.base import Recognizer
from speechmill.settings import Recipe
from speechmill.sounds import Sounds
from speechmill.strategies.base import parameters_of, share
from speechmill.strategies.single import Single, Sums, clocked

_BUCKET_BYTES = 4 << 20  # smaller: more of the sending is hidden behind the backward pass; larger: fewer messages


class Ddp(Single):
    """Accumulates like `single`, over several processes."""

    def __init__(
        self, model: Recognizer, optimizer: torch.optim.Optimizer, recipe: Recipe, device: torch.device, group: Group,
        sounds: Sounds | None = None,
    ) -> None:  # fmt: skip
        super().__init__(model, optimizer, recipe, device, sounds)
        self.group = group
        self.reducer = Reducer(parameters_of(model), group)

    def agree(self, stop: object) -> bool:
        return any(self.group.gather(bool(stop)))

    def mine(self, number: int) -> list[int]:
        return share(number, self.recipe.schedule.batches_per_update, self.group.rank, self.group.size)

    def begin(self) -> None:
        self.reducer.begin()

    def backward(self, loss: Tensor, last: bool) -> None:
        self.reducer.sending = last
        super().backward(loss, last)

    def combine(self, sums: Sums) -> float:
        since = time.monotonic()
        with self.group.waiting():
            self.reducer.send_rest()
            counts = self._exchange(sums)
            self.reducer.finish(counts)
        return clocked(since)

    def _exchange(self, sums: Sums) -> Tensor:
        """Sum the counts of the ranks; returns how many ranks have a gradient for each parameter."""
        own = [sums.loss, sums.tokens, sums.samples, sums.padded, sums.pieces, sums.stop, len(sums.damaged)]
        limits = [0.0] * self.group.size
        limits[self.group.rank] = sums.limit
        values = torch.tensor([*own, *limits, *self.reducer.present()], dtype=torch.float64, device=self.device)
        dist.all_reduce(values)
        found = values.tolist()
        sums.loss, sums.tokens, sums.samples = found[0], round(found[1]), round(found[2])
        sums.padded, sums.pieces, sums.stop = round(found[3]), round(found[4]), found[5] > 0
        if found[6]:
            sums.damaged = [damage for each in self.group.gather(sums.damaged) for damage in each]
        short = [round(limit) for limit in found[len(own) : len(own) + self.group.size] if limit]
        sums.limit = min(short, default=0)
        return values[len(own) + self.group.size :]

    def suspects(self, sums: Sums, batches: Sequence[Batch]) -> list[str]:
        found = self.group.gather((sums.ids, [name for batch in batches for name in batch.ids]))
        bad = [name for ids, _ in found for name in ids]
        return bad or [name for _, ids in found for name in ids]


class Bucket:
    """Gradients side by side in one piece of memory, sent together."""

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        self.parameters = parameters
        first = parameters[0]
        self.flat = torch.zeros(sum(p.numel() for p in parameters), dtype=first.dtype, device=first.device)
        sizes = [p.numel() for p in parameters]
        self.views = [part.view_as(p) for part, p in zip(torch.split(self.flat, sizes), parameters, strict=True)]
        self.missing = 0  # gradients of the last batch that have not come yet


class Reducer:
    """Sums gradients over the ranks while the last batch of an update is still on its way back."""

    def __init__(self, parameters: list[torch.nn.Parameter], group: Group, bucket_bytes: int = _BUCKET_BYTES) -> None:
        self._group = group
        self.buckets = [Bucket(part) for part in _parts(parameters, bucket_bytes)]
        self.sending = False  # whether the backward pass that runs is the last of the update
        self._work: list[Any] = []
        self._place = {p: (b, k) for b, bucket in enumerate(self.buckets) for k, p in enumerate(bucket.parameters)}
        self._come: set[torch.nn.Parameter] = set()
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._came)  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        """Gradients are added up from zero, in the buckets."""
        self.sending = False
        self._work.clear()
        self._come.clear()
        for bucket in self.buckets:
            bucket.flat.zero_()
            bucket.missing = len(bucket.parameters)
            for parameter, view in zip(bucket.parameters, bucket.views, strict=True):
                parameter.grad = view

    def _came(self, parameter: torch.nn.Parameter) -> None:
        self._come.add(parameter)
        if self.sending:
            self.buckets[self._place[parameter][0]].missing -= 1
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
        """1 for each parameter that has a gradient on this rank."""
        return [float(parameter in self._come) for parameter in self._place]

    def finish(self, counts: Tensor) -> None:
        """Wait for the sums; a parameter without a gradient on any rank has none, as in `single`."""
        for work in self._work:
            work.wait()
        for parameter, count in zip(self._place, counts.tolist(), strict=True):
            if not count:
                parameter.grad = None


def _parts(parameters: list[torch.nn.Parameter], most: int) -> list[list[torch.nn.Parameter]]:
    """From the last to the first, in parts of about so many bytes, each of one kind of number."""
    parts: list[list[torch.nn.Parameter]] = []
    size = 0
    for parameter in reversed(parameters):
        length = parameter.numel() * parameter.element_size()
        if not parts or size + length > most or parts[-1][0].dtype != parameter.dtype:
            parts.append([])
            size = 0
        parts[-1].append(parameter)
        size += length
    return parts
