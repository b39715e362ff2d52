"""One process, one device; an update accumulates the gradients of all its batches."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from speechmill.device import is_out_of_memory, release
from speechmill.loader import Batch, Damage
from speechmill.models import recorded
from speechmill.models.base import Recognizer
from speechmill.settings import Recipe
from speechmill.sounds import Sounds
from speechmill.strategies.base import Frozen, UpdateStats, share
from speechmill.strategies.step import (
    batch_loss,
    ctc_is_trained,
    finish_gradients,
    in_pieces,
    smaller,
)
from speechmill.train.optim import learning_rate

WHOLE = 1 << 53  # a limit that no batch reaches; float64, in which ranks tell it, has it exactly


@dataclass
class Sums:
    """Of the batches of an update that were computed so far."""

    tokens: int = 0
    samples: int = 0
    padded: int = 0
    pieces: int = 0
    stop: bool = False
    limit: int = 0  # 0, or what the pieces of the next attempt must fit in: a batch of this one did not fit in memory
    ids: list[str] = field(default_factory=list)  # of batches whose loss is not finite
    damaged: list[Damage] = field(default_factory=list)
    _loss: float = 0.0
    _unread: list[tuple[torch.Tensor, list[str]]] = field(default_factory=list)  # losses on the device, of whom

    @property
    def loss(self) -> float:
        self.read()
        return self._loss

    @loss.setter
    def loss(self, value: float) -> None:
        self._loss = value

    def add_loss(self, loss: torch.Tensor, ids: list[str]) -> None:
        self._unread.append((loss.detach(), ids))

    def read(self, *others: torch.Tensor) -> list[float]:
        """Read the losses and other numbers, which are returned: once for all, since the device is waited for."""
        unread, self._unread = self._unread, []
        numbers = [number.double() for number in (*(loss for loss, _ in unread), *others)]
        found: list[float] = torch.stack(numbers).tolist() if numbers else []
        for value, (_, ids) in zip(found, unread, strict=False):
            self._loss += value
            if not math.isfinite(value):
                self.ids += ids
        return found[len(unread) :]


class Single:
    """The reference for every other strategy."""

    def __init__(
        self, model: Recognizer, optimizer: torch.optim.Optimizer, recipe: Recipe, device: torch.device,
        sounds: Sounds | None = None,
    ) -> None:  # fmt: skip
        self.sounds = sounds.to(device) if sounds else None  # that augmentation mixes in
        self.model, self.optimizer, self.recipe, self.device = model, optimizer, recipe, device
        self.piece_limit = 0  # padded samples; see in_pieces
        self.annealed = 1.0  # of the schedule's learning rate
        self.records = recipe.train.record  # CUDA graphs; not while an update is made again for want of memory

    def start(self) -> None:
        """Nothing is started."""

    def mine(self, number: int) -> list[int]:
        return share(number, self.recipe.schedule.batches_per_update, 0, 1)

    def update(self, batches: Sequence[Batch], number: int, stop: object = False) -> UpdateStats:
        while True:
            sums = self.gradients(batches, number)
            sums.stop = bool(stop)
            communicated = self.combine(sums)
            if not sums.limit:
                break
            self.piece_limit = sums.limit if sums.limit < WHOLE else 0
        self.records = self.recipe.train.record
        done: dict[str, Any] = {
            "samples": sums.samples, "padded": sums.padded, "pieces": sums.pieces, "damaged": tuple(sums.damaged),
            "communicated": communicated, "stop": sums.stop,
        }  # fmt: skip
        if not sums.tokens:  # all of it was damaged
            return UpdateStats(updates=0, **done)
        (norm,) = sums.read(finish_gradients(self.model, sums.tokens, self.recipe.optim.clip_norm))
        if not (math.isfinite(sums.loss) and math.isfinite(norm)):
            return UpdateStats(skipped=1, ids=self.suspects(sums, batches), **done)
        rate = learning_rate(self.recipe.optim, number, self.recipe.train.updates, self.annealed)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.apply()
        return UpdateStats(loss=sums.loss, tokens=sums.tokens, gradient_norm=norm, **done)

    def gradients(self, batches: Sequence[Batch], number: int) -> Sums:
        """Add up the gradients of the batches, from nothing, until one does not fit in memory."""
        sums = Sums()
        with_ctc = ctc_is_trained(self.recipe, number)
        self.begin(with_ctc)
        sums.damaged = [damage for batch in batches for damage in batch.damaged]
        readable = [batch for batch in batches if batch.ids]
        for place, whole in enumerate(readable):
            pieces = in_pieces(whole, self.piece_limit)
            sums.pieces += len(pieces) > 1
            for index, piece in enumerate(pieces):
                last = place == len(readable) - 1 and index == len(pieces) - 1
                try:
                    self.add_gradient(piece.to(self.device), with_ctc, index, last, sums)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    sums.limit = self.limit_without(piece)
                if sums.limit:
                    release(self.device)
                    return sums
            sums.samples += int(whole.lengths.sum())
            sums.padded += whole.audio.numel()
        return sums

    def add_gradient(self, piece: Batch, with_ctc: bool, index: int, last: bool, sums: Sums) -> None:
        with recorded.recording(self.records):
            loss = batch_loss(self.model, piece, self.recipe, with_ctc, index, self.sounds)
        self.backward(loss.sum, last)
        sums.add_loss(loss.sum, piece.ids)
        sums.tokens += loss.count

    def limit_without(self, piece: Batch) -> int:
        """The limit on pieces after this one did not fit: as it was, where recordings give their memory up for it."""
        if recorded.forget():
            self.records = False
            return self.piece_limit or WHOLE
        return smaller(piece)

    def begin(self, with_ctc: bool) -> None:
        del with_ctc
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        del last
        loss.backward()  # type: ignore[no-untyped-call]

    def apply(self) -> None:
        self.optimizer.step()

    def combine(self, sums: Sums) -> float:
        """Add up sums and gradients over the processes, in place; the seconds that were spent waiting for them."""
        del sums
        return 0.0

    def suspects(self, sums: Sums, batches: Sequence[Batch]) -> list[str]:
        """Utterances of the batches that were not finite; all of the update's, where only the gradient was not."""
        return sums.ids or [name for batch in batches for name in batch.ids]

    def anneal(self, factor: float) -> None:
        self.annealed = factor

    def agree(self, stop: object) -> bool:
        return bool(stop)

    def standing(self) -> Recognizer:
        return self.model

    def freeze(self, number: int) -> Frozen:
        del number
        return Frozen(self.model, self.optimizer.state_dict, {"piece_limit": self.piece_limit})

    def resume(self, own: dict[str, Any], of_rank: dict[str, Any]) -> None:
        del of_rank
        self.piece_limit = own.get("piece_limit", 0)

    def close(self) -> None:
        """Nothing was started."""


def clocked(since: float) -> float:
    return time.monotonic() - since
