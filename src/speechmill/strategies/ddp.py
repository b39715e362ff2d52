"""Synchronous data parallel training: each rank computes its batches of an update, gradients are summed over all.

Not torch's DistributedDataParallel: that rebuilds its buckets after the first step, in the order in which gradients
came, so that a resumed run sums in another order than the one that was not interrupted. Here the order of a sum is laid
down once (`reducer`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from speechmill.group import Group
from speechmill.loader import Batch
from speechmill.models.base import Recognizer
from speechmill.settings import Recipe
from speechmill.sounds import Sounds
from speechmill.strategies.base import Frozen, parameters_of, share
from speechmill.strategies.reducer import build_reducer
from speechmill.strategies.single import Single, Sums, clocked


class Ddp(Single):
    """Accumulates like `single`, over several processes."""

    def __init__(
        self, model: Recognizer, optimizer: torch.optim.Optimizer, recipe: Recipe, device: torch.device, group: Group,
        sounds: Sounds | None = None,
    ) -> None:  # fmt: skip
        super().__init__(model, optimizer, recipe, device, sounds)
        self.group = group
        self.reducer = build_reducer(parameters_of(model), group)

    def agree(self, stop: object) -> bool:
        return any(self.group.gather(bool(stop)))

    def mine(self, number: int) -> list[int]:
        return share(number, self.recipe.schedule.batches_per_update, self.group.rank, self.group.size)

    def begin(self, with_ctc: bool) -> None:
        head = self.model.ctc_head_apart()
        self.reducer.begin([] if with_ctc or head is None else list(head.parameters()))

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
        self.reducer.meet(values)
        found = values.tolist()
        sums.loss, sums.tokens, sums.samples = found[0], round(found[1]), round(found[2])
        sums.padded, sums.pieces, sums.stop = round(found[3]), round(found[4]), found[5] > 0
        if found[6]:
            sums.damaged = [damage for each in self.group.gather(sums.damaged) for damage in each]
        short = [round(limit) for limit in found[len(own) : len(own) + self.group.size] if limit]
        sums.limit = min(short, default=0)
        return values[len(own) + self.group.size :]

    def freeze(self, number: int) -> Frozen:
        frozen = super().freeze(number)
        frozen.own["sums"] = self.reducer.through
        return frozen

    def resume(self, own: dict[str, Any], of_rank: dict[str, Any]) -> None:
        super().resume(own, of_rank)
        before = own.get("sums", self.reducer.through)
        if before != self.reducer.through and self.group.size > 2 and self.group.leads:
            print(
                f"speechmill train: gradients were summed through {before}, and are through {self.reducer.through} "
                f"from here on: the same sums, but rounded otherwise.",
                file=sys.stderr,
            )

    def suspects(self, sums: Sums, batches: Sequence[Batch]) -> list[str]:
        found = self.group.gather((sums.ids, [name for batch in batches for name in batch.ids]))
        bad = [name for ids, _ in found for name in ids]
        return bad or [name for _, ids in found for name in ids]
