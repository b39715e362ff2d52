"""What a strategy is: how an update is carried out, by which processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from speechmill.loader import Batch, Damage
from speechmill.models.base import Recognizer


@dataclass(frozen=True)
class UpdateStats:
    """What became known with an update, over all processes and since the last one that told anything."""

    loss: float = 0.0  # summed over the target tokens; 0 where the update was skipped
    tokens: int = 0  # target tokens; 0 where it was skipped
    gradient_norm: float = 0.0  # before clipping; summed where there were several updates
    skipped: int = 0  # updates whose loss or gradient was not finite: nothing was changed
    ids: list[str] = field(default_factory=list)  # of those, for the message when training has to stop
    samples: int = 0  # of audio, padding not counted
    padded: int = 0  # with padding
    updates: int = 1  # carried out or skipped, of each process that trains by itself
    steps: int = 1  # by which the count of updates goes on: 0 where a stop came before
    lost: int = 0  # whose process died
    pieces: int = 0  # batches computed in pieces for want of memory
    damaged: tuple[Damage, ...] = ()  # utterances that could not be read and were left out
    staleness: int = 0  # updates that others made between reading the parameters and changing them, summed
    waited: float = 0.0  # seconds that processes waited for data, on average, where the loop did not see it
    finished: float = 0.0  # by the monotonic clock; 0: just now
    communicated: float = 0.0  # seconds of waiting for other processes
    stop: bool = False  # all processes know that one was asked to stop, and have


@dataclass(frozen=True)
class Frozen:
    """A complete update: what validation looks at and a checkpoint holds, while training may already go on."""

    model: Recognizer
    optimizer: Callable[[], dict[str, Any]]  # a state that any strategy can go on from
    own: dict[str, Any] = field(default_factory=dict)  # the same, exact for this strategy with as many processes
    of_rank: dict[str, Any] = field(default_factory=dict)  # the same, of this process


class Strategy(Protocol):
    """Who carries out an update: what `train.loop` asks of it, update by update."""

    model: Recognizer

    def start(self) -> None:
        """Start what trains beside this process; nothing is trained before the first `update`."""

    def mine(self, number: int) -> list[int]:
        """The batches of update `number` that this process loads."""

    def update(self, batches: Sequence[Batch], number: int, stop: object = False) -> UpdateStats:
        """Carry out update `number` (from 0) with its batches.

        Args:
            stop: true once this process was asked to stop.
        """

    def anneal(self, factor: float) -> None:
        """Multiply the learning rate of the updates from here on, beside what the schedule says, by `factor`."""

    def agree(self, stop: object) -> bool:
        """Whether all processes stop here, where an update has just been frozen or none has begun."""

    def standing(self) -> Recognizer:
        """The model as it stands between updates, for a look."""

    def freeze(self, number: int) -> Frozen:
        """What stands after `number` updates."""

    def resume(self, own: dict[str, Any], of_rank: dict[str, Any]) -> None:
        """Take up what `freeze` had told a checkpoint. Not called where that was of another strategy."""

    def close(self) -> None:
        """End what it started."""


def share(number: int, per_update: int, rank: int, size: int) -> list[int]:
    """The batches of update `number` that rank `rank` of `size` computes: those with batch mod size == rank."""
    return [batch for batch in range(number * per_update, (number + 1) * per_update) if batch % size == rank]


def parameters_of(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
