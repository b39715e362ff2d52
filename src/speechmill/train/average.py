"""Averages of weights: over several checkpoints after training, and a moving one along it."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from speechmill.errors import SpeechmillError
from speechmill.models.base import Recognizer
from speechmill.train.checkpoint import checkpoints, read_state, read_weights


class MovingAverage:
    """An exponential moving average of the weights over the updates (Polyak and Juditsky 1992, with forgetting).

    It looks at the weights and changes nothing of the training. `model` is what is validated and recognizes.
    """

    def __init__(self, model: Recognizer, decay: float, update: int) -> None:
        """Begin with `model` as it stands after `update` updates."""
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.update = update

    @torch.no_grad()
    def follow(self, model: Recognizer, update: int) -> None:
        """Take in `model` as it stands after `update` updates."""
        keep = 1.0
        for number in range(self.update, update):
            keep *= decay_at(self.decay, number)
        self.update = update
        mine = [parameter.data for parameter in self.model.parameters()]
        torch._foreach_lerp_(mine, [parameter.data for parameter in model.parameters()], 1.0 - keep)


def decay_at(decay: float, update: int) -> float:
    """The share of the old average that update `update` (from 0) leaves: less at first, to forget the start."""
    return min(decay, (1.0 + update) / (10.0 + update))


def is_average(which: str) -> bool:
    """Whether `which` names several checkpoints, and not one of them."""
    return "-" in which


def checkpoints_to_average(run: Path, which: str) -> list[Path]:
    """The checkpoints that `which` names: "last-K" or "best-K" (by validation WER), K at least 2.

    Raises SpeechmillError where `which` is neither or the run has not kept so many.
    """
    found = re.fullmatch(r"(last|best)-([1-9]\d*)", which)
    if found is None or int(found[2]) < 2:
        raise SpeechmillError(f"--average {which}: expected last-K or best-K with K of at least 2, e.g. best-5.")
    kind, count = found[1], int(found[2])
    there = checkpoints(run)
    if kind == "best":
        scored = [(wer, path) for path in there if (wer := read_state(path).valid_wer) is not None]
        there = [path for _, path in sorted(scored, reverse=True)]
    if len(there) < count:
        what = "checkpoints" if kind == "last" else "validated checkpoints"
        raise SpeechmillError(
            f"{run}: --average {which}, but {len(there)} {what} are there; "
            f"train.keep_{kind} says how many are kept while training."
        )
    return sorted(there[-count:])


def average_weights(paths: Sequence[Path], model_fingerprint: str) -> dict[str, Tensor]:
    """The mean of the weights of checkpoints, summed in float64; numbers that are no floats are the last one's.

    The statistics of batch normalisation are not an average's: compute them anew (train.batchnorm).
    """
    sums: dict[str, Tensor] = {}
    last: dict[str, Tensor] = {}
    for path in paths:
        last = read_weights(path, model_fingerprint)
        for name, value in last.items():
            if value.is_floating_point():
                sums[name] = sums[name] + value.double() if name in sums else value.double()
    return {name: (sums[name] / len(paths)).to(value) if name in sums else value for name, value in last.items()}
