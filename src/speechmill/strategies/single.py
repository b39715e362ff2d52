"""One process, one device; an update accumulates the gradients of all its batches."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from speechmill.features import augment_audio, augment_features
from speechmill.loader import Batch
from speechmill.losses import LossSum
from speechmill.models.base import Recognizer
from speechmill.ordering import seed_of
from speechmill.settings import Recipe
from speechmill.strategies.base import UpdateStats
from speechmill.train.optim import learning_rate


class Single:
    """The reference for every other strategy."""

    def __init__(
        self, model: Recognizer, optimizer: torch.optim.Optimizer, recipe: Recipe, device: torch.device
    ) -> None:
        self.model, self.optimizer, self.recipe, self.device = model, optimizer, recipe, device

    def update(self, batches: Iterable[Batch], number: int) -> UpdateStats:
        total, tokens, ids = 0.0, 0, []
        before = [buffer.clone() for buffer in self.model.buffers()]  # running averages move while the loss is computed
        self.optimizer.zero_grad(set_to_none=True)
        with_ctc = ctc_is_trained(self.recipe, number)
        for batch in batches:
            loss = batch_loss(self.model, batch.to(self.device), self.recipe, with_ctc)
            loss.sum.backward()  # type: ignore[no-untyped-call]
            total += loss.sum.item()
            tokens += loss.count
            ids += batch.ids
        norm = finish_gradients(self.model, tokens, self.recipe.optim.clip_norm)
        if not (math.isfinite(total) and math.isfinite(norm)):
            for buffer, value in zip(self.model.buffers(), before, strict=True):
                buffer.copy_(value)
            return UpdateStats(0.0, 0, norm, True, ids)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe.optim, number, self.recipe.train.updates)
        self.optimizer.step()
        return UpdateStats(total, tokens, norm, False, ids)


def ctc_is_trained(recipe: Recipe, update: int) -> bool:
    return recipe.loss.ctc_epochs == 0 or update < recipe.loss.ctc_epochs * recipe.train.nominal_epoch


def batch_loss(model: Recognizer, batch: Batch, recipe: Recipe, with_ctc: bool) -> LossSum:
    """The summed loss of a batch. Dropout and augmentation are seeded by (seed, batch number) and nothing else."""
    seed = seed_of(recipe.train.seed, batch.number)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        audio, lengths = augment_audio(batch.audio.to(dtype) / 32768.0, batch.lengths, recipe.augment, generator)
        features, frames = model.log_mel(audio, lengths)
        features = augment_features(features, frames, recipe.augment, generator)
    mixed = effective_precision(recipe, batch.audio.device) == "bfloat16"
    with torch.autocast(batch.audio.device.type, torch.bfloat16, enabled=mixed):
        return model.loss(features, frames, batch.targets, batch.target_lengths, with_ctc=with_ctc)


def effective_precision(recipe: Recipe, device: torch.device) -> str:
    """What `auto` means on this device."""
    if recipe.train.precision != "auto":
        return recipe.train.precision
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if fast else "float32"


def finish_gradients(model: Recognizer, tokens: int, clip_norm: float) -> float:
    """Divide summed gradients by the update's target tokens, and clip; returns their norm before clipping."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    torch._foreach_div_(gradients, float(max(1, tokens)))
    norm = torch.nn.utils.get_total_norm(gradients)
    if clip_norm:
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), clip_norm, norm)
    return norm.item()
