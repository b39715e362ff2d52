"""Strategies: how an update is carried out, and by which processes."""

from __future__ import annotations

from typing import Any

import torch

from speechmill.group import Group
from speechmill.models.base import Recognizer
from speechmill.settings import Recipe
from speechmill.sounds import Sounds
from speechmill.strategies.base import Strategy

_OF_RANKS = ("ddp", "local_sgd")


def needs_launch(recipe: Recipe) -> bool:
    """Whether the strategy's processes are ranks that torchrun starts; Hogwild starts its own."""
    return recipe.train.strategy in _OF_RANKS


def build_strategy(
    model: Recognizer, optimizer: torch.optim.Optimizer, recipe: Recipe, device: torch.device, group: Group, first: int,
    open_dataset: Any, epoch_starts: list[int], sounds: Sounds | None = None,
) -> Strategy:  # fmt: skip
    """The recipe's strategy.

    Args:
        first: updates done.
        open_dataset: makes the dataset of a recipe, given `epoch_starts`, in another process.
        sounds: that augmentation mixes in.
    """
    kind = recipe.train.strategy
    if kind == "ddp":
        from speechmill.strategies.ddp import Ddp

        return Ddp(model, optimizer, recipe, device, group, sounds)
    if kind == "local_sgd":
        from speechmill.strategies.local_sgd import LocalSgd

        return LocalSgd(model, optimizer, recipe, device, group, sounds)
    if kind == "hogwild":
        from speechmill.strategies.hogwild import Hogwild

        return Hogwild(
            model, optimizer.state_dict()["state"], recipe, device, first, open_dataset, epoch_starts, sounds
        )
    from speechmill.strategies.single import Single

    return Single(model, optimizer, recipe, device, sounds)
