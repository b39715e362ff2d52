"""Batch normalisation: training takes each batch by itself; what validation needs is computed from fixed batches.

Running averages would depend on which process saw which batch last, and under Hogwild processes would race over them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from speechmill.group import Group
from speechmill.loader import BatchDataset, batches
from speechmill.models.base import Recognizer
from speechmill.settings import Recipe
from speechmill.strategies.step import ctc_is_trained, effective_precision


def refresh(model: Recognizer, dataset: BatchDataset, recipe: Recipe, group: Group, device: torch.device) -> None:
    """Set the running statistics to mean and variance over fixed batches of the first epoch, spread over the ranks.

    The batches are taken evenly over the epoch, without augmentation or dropout.
    """
    layers = _layers(model)
    if not layers:
        return
    sums = [_Sums(layer, device) for layer in layers]
    numbers = dataset.schedule.evenly(recipe.train.batchnorm_batches)[group.rank :: group.size]
    with (
        _watching(model, layers, sums),
        contextlib.closing(batches(dataset, numbers, 0, pin=False)) as loaded,
        torch.no_grad(),
    ):
        for batch in loaded:
            if not batch.ids:
                continue  # all damage
            moved = batch.to(device)
            features, frames = model.log_mel(moved.audio.to(next(model.parameters()).dtype) / 32768.0, moved.lengths)
            mixed = effective_precision(recipe, device) == "bfloat16"
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                model.loss(features, frames, moved.targets, moved.target_lengths, with_ctc=ctc_is_trained(recipe, 0))
            group.alive()
    for one in sums:
        group.add(one.values)
        one.write()


def has_statistics(model: torch.nn.Module) -> bool:
    """Whether there is anything for `refresh` to do."""
    return bool(_layers(model))


class _Sums:
    """Count, sum and sum of squares of a layer's inputs, per channel, in float64."""

    def __init__(self, layer: _BatchNorm, device: torch.device) -> None:
        self.layer = layer
        self.values = torch.zeros(3, layer.num_features, dtype=torch.float64, device=device)

    def __call__(self, layer: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        del layer
        seen = inputs[0].double()
        per_channel = seen.transpose(0, 1).reshape(seen.shape[1], -1)
        self.values[0] += per_channel.shape[1]
        self.values[1] += per_channel.sum(1)
        self.values[2] += per_channel.square().sum(1)

    def write(self) -> None:
        count, total, squares = self.values
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0.0) * count / (count - 1.0).clamp(min=1.0)
        assert self.layer.running_mean is not None
        assert self.layer.running_var is not None
        self.layer.running_mean.copy_(mean)
        self.layer.running_var.copy_(variance)


@contextlib.contextmanager
def _watching(model: torch.nn.Module, layers: list[_BatchNorm], sums: list[_Sums]) -> Iterator[None]:
    """Evaluation mode but for the layers themselves, which normalise each batch by itself as in training."""
    was_training = model.training
    model.eval()
    handles: list[Any] = []
    for layer, one in zip(layers, sums, strict=True):
        layer.train()
        handles.append(layer.register_forward_pre_hook(one))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)


def _layers(model: torch.nn.Module) -> list[_BatchNorm]:
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
