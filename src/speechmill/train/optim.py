"""Optimizers, and the learning rate as a pure function of the update and of the validations before it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch

from speechmill.settings import OptimSettings


def build_optimizer(parameters: Iterable[torch.nn.Parameter], settings: OptimSettings) -> torch.optim.Optimizer:
    """The optimizer of these parameters; its learning rate is that of the peak, until a strategy sets another."""
    parameters = list(parameters)
    if settings.kind == "sgd":
        return torch.optim.SGD(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    kind = torch.optim.AdamW if settings.kind == "adamw" else torch.optim.Adam
    # Fused: one pass over the parameters; on a CPU the default took 9 % of the demo's step.
    return kind(parameters, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True)


def learning_rate(settings: OptimSettings, update: int, updates: int, annealed: float = 1.0) -> float:
    """Linear warm-up to `lr`, then as `schedule` says.

    constant and newbob stay (newbob times `annealed`); linear and cosine fall to `lr * final_lr` at the last update;
    wsd (warm-up, stable, decay: Hu et al. 2024) stays and falls linearly over the last `decay_share` of the updates;
    noam (Vaswani et al. 2017) falls with the inverse square root of the update.

    Args:
        update: from 0.
        updates: of the whole training.
        annealed: what `annealing` says; 1 but for newbob.
    """
    if update < settings.warmup_updates:
        return settings.lr * annealed * (update + 1) / settings.warmup_updates
    if settings.schedule in ("constant", "newbob"):
        return settings.lr * annealed
    if settings.schedule == "noam":
        return settings.lr * math.sqrt(settings.warmup_updates / (update + 1))
    first = settings.warmup_updates  # update at which the fall begins
    if settings.schedule == "wsd":
        first = max(first, updates - round(settings.decay_share * updates))
    done = min(1.0, max(0.0, (update - first) / max(1, updates - first - 1)))
    fall = 0.5 * (1.0 + math.cos(math.pi * done)) if settings.schedule == "cosine" else 1.0 - done
    return settings.lr * (settings.final_lr + (1.0 - settings.final_lr) * fall)


def annealing(settings: OptimSettings, wers: Sequence[float]) -> float:
    """NewBob's factor on the learning rate after validations with these word error rates, oldest first.

    Each validation whose WER is not better than the one before by a share of `anneal_below` counts; more than
    `anneal_patience` of them in a row multiply the rate by `anneal_factor`, as SpeechBrain's NewBobScheduler does.
    """
    factor, patience = 1.0, settings.anneal_patience
    if settings.schedule != "newbob":
        return factor
    for before, now in pairwise(wers):
        gained = (before - now) / before if before else 0.0
        if gained >= settings.anneal_below:
            continue
        if patience == 0:
            factor *= settings.anneal_factor
            patience = settings.anneal_patience
        else:
            patience -= 1
    return factor
