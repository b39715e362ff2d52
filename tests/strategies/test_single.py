"""The strategy `single` against updates computed by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ranks import CPU, CRDNN, build, make_batch

from speechmill.losses import LossSum
from speechmill.models.base import Recognizer
from speechmill.settings import (
    AugmentSettings,
    CtcSettings,
    LossSettings,
    OptimSettings,
    Recipe,
    TrainSettings,
)
from speechmill.strategies.single import Single
from speechmill.strategies.step import batch_loss, ctc_is_trained, effective_precision, in_pieces
from speechmill.train.optim import build_optimizer


def recipe(dropout: float = 0.0, **parts: Any) -> Recipe:
    model = CtcSettings(size=8, layers=1, channels=4, dropout=dropout)
    return Recipe(**({"model": model, "train": TrainSettings(precision="float64", updates=10)} | parts))


def single(settings: Recipe) -> Single:
    model = build(settings)
    return Single(model, build_optimizer(model.parameters(), settings.optim), settings, CPU)


def test_accumulation_is_one_update_of_the_whole_divided_once() -> None:
    settings = recipe(optim=OptimSettings(kind="sgd", lr=0.1, clip_norm=0.5))
    batches = [make_batch(number, size) for number, size in enumerate([1, 3, 2, 4])]
    strategy = single(settings)
    stats = strategy.update(batches, 0)

    model = build(settings)
    losses = [batch_loss(model, batch, settings, True) for batch in batches]
    count = sum(int(batch.target_lengths.sum()) for batch in batches)
    (torch.stack([loss.sum for loss in losses]).sum() / count).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.sqrt(torch.stack([gradient.square().sum() for gradient in gradients]).sum())
    assert norm > 0.5, "clipping is not tried"
    assert stats.gradient_norm == pytest.approx(norm.item(), rel=1e-9)
    assert stats.loss == pytest.approx(sum(loss.sum.item() for loss in losses), rel=1e-12)
    assert (stats.tokens, stats.skipped, stats.ids) == (count, 0, [])
    with torch.no_grad():
        for ours, (name, parameter) in zip(strategy.model.parameters(), model.named_parameters(), strict=True):
            expected = parameter - 0.1 * parameter.grad * (0.5 / (norm + 1e-6))  # PyTorch's clipping has this 1e-6
            torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-9, msg=name)


def test_small_gradients_are_not_clipped() -> None:
    results = []
    for clip in (0.0, 1e6):
        strategy = single(recipe(optim=OptimSettings(kind="sgd", lr=0.1, clip_norm=clip)))
        strategy.update([make_batch(0)], 0)
        results.append([parameter.detach().clone() for parameter in strategy.model.parameters()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_the_rate_is_that_of_the_update() -> None:
    settings = recipe(optim=OptimSettings(kind="adamw", lr=0.01, warmup_updates=4))
    strategy = single(settings)
    for number in (0, 2, 7):
        strategy.update([make_batch(number)], number)
        assert strategy.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * min(1.0, (number + 1) / 4))


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_changes_nothing(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = single(recipe(optim=OptimSettings(kind="adamw", lr=0.01)))
    strategy.update([make_batch(0)], 0)
    parameters = [parameter.detach().clone() for parameter in strategy.model.parameters()]
    optimizer = {k: [t.clone() for t in v.values()] for k, v in strategy.optimizer.state_dict()["state"].items()}
    true_loss = type(strategy.model).loss

    def broken(model: Recognizer, *args: Any, **kwargs: Any) -> LossSum:
        loss = true_loss(model, *args, **kwargs)
        # The square root of 0 has a finite value and no finite gradient.
        return LossSum(loss.sum * float("nan") if where == "loss" else (loss.sum * 0.0).sqrt(), loss.count)

    with monkeypatch.context() as patched:
        patched.setattr(type(strategy.model), "loss", broken)
        stats = strategy.update([make_batch(1), make_batch(2)], 1)
    assert (stats.skipped, stats.loss, stats.tokens) == (1, 0.0, 0)
    assert stats.ids == ["u1-0", "u1-1", "u2-0", "u2-1"]  # all: where only the gradient is not finite, all are suspect
    assert all(torch.equal(a, b) for a, b in zip(strategy.model.parameters(), parameters, strict=True))
    for key, values in strategy.optimizer.state_dict()["state"].items():
        assert all(torch.equal(a, b) for a, b in zip(values.values(), optimizer[key], strict=True))
    assert not strategy.update([make_batch(1)], 1).skipped
    assert all(parameter.isfinite().all() for parameter in strategy.model.parameters())


def test_a_skipped_update_leaves_running_averages_as_they_were() -> None:
    # The CRDNN's batch normalisation averages over training; one bad batch must not spoil it for good.
    strategy = single(recipe(model=CRDNN, train=TrainSettings()))
    strategy.model.log_mel.mean.fill_(float("nan"))  # spoils the features of every batch
    before = {name: buffer.clone() for name, buffer in strategy.model.named_buffers() if "log_mel" not in name}
    assert any("running_mean" in name for name in before)
    assert strategy.update([make_batch(0)], 0).skipped
    after = dict(strategy.model.named_buffers())
    assert all(torch.equal(after[name], buffer) for name, buffer in before.items())


def test_a_batch_has_the_same_loss_whatever_ran_before() -> None:
    augment = AugmentSettings(speed=(0.9, 1.1), gain_db=6, noise_db=(10, 20), time_masks=1, time_mask_frames=10)
    settings = recipe(dropout=0.3, augment=augment)
    model = build(settings).train()
    first = batch_loss(model, make_batch(5), settings, True).sum.item()
    torch.rand(100)
    batch_loss(model, make_batch(6), settings, True)
    assert batch_loss(model, make_batch(5), settings, True).sum.item() == first
    renumbered = make_batch(5)._replace(number=7)
    assert batch_loss(model, renumbered, settings, True).sum.item() != first
    other_seed = recipe(dropout=0.3, augment=augment, train=TrainSettings(precision="float64", seed=1))
    assert batch_loss(model, make_batch(5), other_seed, True).sum.item() != first


def test_augmentation_does_not_see_the_pieces() -> None:
    augment = AugmentSettings(speed=(0.9, 1.1), tilt=0.5, gain_db=6, noise_db=(10, 20), time_masks=1,
                              time_mask_frames=10, frequency_masks=1, frequency_mask_bins=5)  # fmt: skip
    settings = recipe(dropout=0.0, augment=augment)
    model = build(settings).train()
    whole = make_batch(5)
    assert len(whole.ids) > 1
    pieces = in_pieces(whole, whole.audio.shape[1])
    assert len(pieces) == len(whole.ids)
    parts = [batch_loss(model, piece, settings, True, index).sum.item() for index, piece in enumerate(pieces)]
    assert sum(parts) == pytest.approx(batch_loss(model, whole, settings, True).sum.item(), rel=1e-10)
    later = whole._replace(epoch=1)
    assert batch_loss(model, later, settings, True).sum.item() != sum(parts)


def test_ctc_is_trained_for_so_many_nominal_epochs() -> None:
    settings = recipe(loss=LossSettings(ctc_epochs=2), train=TrainSettings(nominal_epoch=10))
    assert [ctc_is_trained(settings, update) for update in (0, 19, 20, 100)] == [True, True, False, False]
    assert ctc_is_trained(recipe(loss=LossSettings(ctc_epochs=0)), 10**6)


@pytest.mark.parametrize(("major", "expected"), [(7, "float32"), (8, "bfloat16")])
def test_auto_is_bfloat16_where_a_gpu_computes_in_it(
    major: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A V100 or T4 has the type, and computes in float32 for it."""
    cuda = {"is_available": lambda: True, "current_device": lambda: 0, "_check_bf16_tensor_supported": lambda _: True,
            "get_device_properties": lambda *_: SimpleNamespace(major=major)}  # fmt: skip
    for name, value in cuda.items():
        monkeypatch.setattr(torch.cuda, name, value)
    assert effective_precision(Recipe(train=TrainSettings(precision="auto")), torch.device("cuda")) == expected
