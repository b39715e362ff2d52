"""What a strategy is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from speechmill.loader import Batch


@dataclass(frozen=True)
class UpdateStats:
    loss: float  # summed over the update's target tokens; 0 where the update was skipped
    tokens: int  # target tokens of the update; 0 where it was skipped
    gradient_norm: float  # before clipping
    skipped: bool  # the loss or a gradient was not finite: nothing was changed
    ids: list[str]  # of the utterances, for the message when training has to stop


class Strategy(Protocol):
    def update(self, batches: Iterable[Batch], number: int) -> UpdateStats:
        """Carry out update `number` (from 0) with its batches."""
