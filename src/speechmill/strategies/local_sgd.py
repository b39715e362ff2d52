"""Local SGD (Stich 2019): each rank trains alone, and parameters are averaged every H updates.

With an outer optimizer it is DiLoCo (Douillard et al. 2023): Nesterov's momentum on the averaged difference.
PyTorch's PeriodicModelAverager counts every rank alike, where batches are uneven that is not the gradient of their sum;
torchft's needs a server of its own. Hence these few lines.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from speechmill.group import Group
from speechmill.loader import Batch
from speechmill.models.base import Recognizer
from speechmill.settings import Recipe
from speechmill.sounds import Sounds
from speechmill.strategies.base import Frozen, UpdateStats, parameters_of, share
from speechmill.strategies.single import Single, clocked


class LocalSgd(Single):
    """A round is H updates. What happened in it becomes known to all at its end, and there alone a stop is obeyed."""

    def __init__(
        self, model: Recognizer, optimizer: torch.optim.Optimizer, recipe: Recipe, device: torch.device, group: Group,
        sounds: Sounds | None = None,
    ) -> None:  # fmt: skip
        super().__init__(model, optimizer, recipe, device, sounds)
        self.group = group
        self.parameters = parameters_of(model)
        self.round: list[UpdateStats] = []
        settings = recipe.train
        self.outer: torch.optim.Optimizer | None = None
        if settings.outer_momentum or settings.outer_lr != 1.0:
            self.anchor = torch.nn.Parameter(self._flat().detach().clone())  # as all had them when the round began
            momentum = settings.outer_momentum
            self.outer = torch.optim.SGD([self.anchor], settings.outer_lr, momentum, nesterov=momentum > 0)

    def agree(self, stop: object) -> bool:
        return any(self.group.gather(bool(stop)))

    def mine(self, number: int) -> list[int]:
        return share(number, self.recipe.schedule.batches_per_update, self.group.rank, self.group.size)

    def update(self, batches: Sequence[Batch], number: int, stop: object = False) -> UpdateStats:
        if batches:
            self.round.append(super().update(batches, number, stop))
        if (number + 1) % self.recipe.train.average_every and number + 1 < self.recipe.train.updates:
            return UpdateStats(updates=0)
        return self._end_round(bool(stop))

    def _end_round(self, stop: bool) -> UpdateStats:
        since = time.monotonic()
        known = _summed(self.round)
        self.round = []
        told = self.group.gather((replace(known, stop=stop), self.piece_limit))
        stats = _summed([each for each, _ in told])
        if stats.tokens:
            self._average(known.tokens / stats.tokens)
        self.piece_limit = min((limit for _, limit in told if limit), default=0)
        return replace(stats, stop=any(each.stop for each, _ in told), communicated=clocked(since))

    @torch.no_grad()
    def _average(self, weight: float) -> None:
        flat = self._flat() * weight
        self.group.add(flat)
        if self.outer is not None:
            self.anchor.grad = self.anchor.detach() - flat
            self.outer.step()
            flat = self.anchor.detach()
        sizes = [parameter.numel() for parameter in self.parameters]
        for parameter, part in zip(self.parameters, torch.split(flat, sizes), strict=True):
            parameter.copy_(part.view_as(parameter))

    def _flat(self) -> Tensor:
        return torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])

    def freeze(self, number: int) -> Frozen:
        frozen = super().freeze(number)
        if self.outer is not None:
            frozen.own["outer"] = self.outer.state_dict()["state"]
        frozen.own["processes"] = self.group.size
        frozen.of_rank["optimizer"] = self.optimizer.state_dict()["state"]
        return frozen

    def resume(self, own: dict[str, Any], of_rank: dict[str, Any]) -> None:
        super().resume(own, of_rank)
        if self.outer is not None and "outer" in own:
            self.outer.load_state_dict({**self.outer.state_dict(), "state": own["outer"]})
        if own.get("processes") == self.group.size and "optimizer" in of_rank:
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": of_rank["optimizer"]})


def _summed(stats: list[UpdateStats]) -> UpdateStats:
    names = ("loss", "tokens", "gradient_norm", "skipped", "samples", "padded", "updates", "pieces", "communicated")
    sums: dict[str, Any] = {name: sum(getattr(each, name) for each in stats) for name in names}
    damaged = tuple(damage for each in stats for damage in each.damaged)
    return UpdateStats(ids=[name for each in stats for name in each.ids], damaged=damaged, **sums)
