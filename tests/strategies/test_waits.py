"""What a training step asks of a GPU: found out on a CPU, by following what would be there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ranks import CPU, CRDNN, build, make_batch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from speechmill import augment, features, loader, losses
from speechmill.models import attending, crdnn, encoder, stem
from speechmill.models.crdnn import CrdnnRecognizer
from speechmill.settings import AugmentSettings, CtcSettings, LossSettings, ModelSettings, Recipe
from speechmill.strategies.single import Single
from speechmill.train.optim import build_optimizer

aten = torch.ops.aten
AUGMENT = AugmentSettings(
    speed=(0.9, 1.1), warp=(0.9, 1.1), tilt=0.3, gain_db=3, noise_db=(10, 20), time_masks=1, time_mask_frames=9,
    frequency_masks=1, frequency_mask_bins=4,
)  # fmt: skip
READ = {aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.masked_select.default}


SENDING = (augment, features, loader, losses, attending, crdnn, encoder, stem)  # modules


class Followed(TorchDispatchMode):
    """Tells of each tensor whether it would be on a GPU or on the host, from those of which it is computed.

    `reads` wait for the GPU; what is `mixed` would be refused there.
    """

    def __init__(self, there: list[Tensor], here: list[Tensor]) -> None:
        super().__init__()
        self.there: dict[int, Any] = {}  # storages, held so that no other gets the address of one that is gone
        self.here: dict[int, Any] = {}
        self.reads: list[str] = []
        self.mixed: list[str] = []
        for place, tensors in ((self.there, there), (self.here, here)):
            for tensor in tensors:
                self.add(place, tensor)

    def add(self, place: dict[int, Any], tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place[storage._cdata] = storage

    def of(self, place: dict[int, Any], values: Any) -> list[Tensor]:
        tensors = (one for one in tree_leaves(values) if isinstance(one, Tensor))
        return [one for one in tensors if one.untyped_storage()._cdata in place]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        given = (args, kwargs or {})
        there, here = self.of(self.there, given), self.of(self.here, given)
        by_mask = func in (aten.index.Tensor, aten.index_put_.default) and any(one.dtype == torch.bool for one in there)
        if there and (func in READ or by_mask):
            self.reads.append(str(func))
        # CTC takes lengths from the host.
        if there and any(one.dim() for one in here) and "ctc_loss" not in str(func):
            self.mixed.append(str(func))
        found = func(*args, **(kwargs or {}))
        for one in tree_leaves(found):
            if isinstance(one, Tensor) and (there or here):
                self.add(self.there if there else self.here, one)
        return found

    def watch(self, patched: pytest.MonkeyPatch) -> None:
        """Reads that no operation shows, and what is sent to the device."""

        def sent(tensor: Tensor, device: torch.device) -> Tensor:
            del device
            copy = tensor.clone()
            self.here.pop(copy.untyped_storage()._cdata, None)
            self.add(self.there, copy)
            return copy

        for module in SENDING:
            patched.setattr(module, "sent", sent)
        for name in ("tolist", "cpu", "numpy"):
            patched.setattr(Tensor, name, self._told(name, getattr(Tensor, name)))

    def _told(self, name: str, true: Any) -> Any:
        def read(tensor: Tensor, *args: Any, **named: Any) -> Any:
            self.reads += [name] * len(self.of(self.there, tensor))
            return true(tensor, *args, **named)

        return read


@pytest.mark.parametrize("loss", [LossSettings(), LossSettings(ctc_weight=0)])
@pytest.mark.parametrize(
    "model",
    [CRDNN, CRDNN.model_copy(update={"mask_padding": True}), CtcSettings(size=8, layers=2, channels=4, inner_ctc=0.3)],
)
def test_an_update_waits_for_the_device_once(
    model: ModelSettings, loss: LossSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Recipe(model=model, loss=loss, augment=AUGMENT)
    built = build(settings).train()
    if isinstance(built, CrdnnRecognizer):
        built.encoder.plain = True  # as on a GPU
    strategy = Single(built, build_optimizer(built.parameters(), settings.optim), settings, CPU)
    strategy.update([make_batch(0)], 0)  # the optimizer's state is there from now on
    batches = [make_batch(1), make_batch(2)]
    sounds = [batch.audio for batch in batches]
    rest = [part for batch in batches for part in (batch.lengths, batch.targets, batch.target_lengths)]
    followed = Followed([*built.parameters(), *built.buffers(), *sounds], rest)
    followed.watch(monkeypatch)
    with followed:
        stats = strategy.update(batches, 1)
    assert stats.tokens
    assert followed.mixed == []
    assert followed.reads == ["tolist"], "the losses and the norm"
    with followed:
        assert sounds[0][torch.ones_like(sounds[0]) > 0].sum() + rest[0][0] > 0
    assert followed.reads == ["tolist", "aten.index.Tensor", "aten._local_scalar_dense.default"]
