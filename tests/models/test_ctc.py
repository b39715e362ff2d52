"""The CTC recognizer: what it says of an utterance does not depend on the rest of the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from speechmill.losses import ctc_loss
from speechmill.models import build_model
from speechmill.models.ctc import CtcRecognizer
from speechmill.settings import CtcSettings, Recipe, SearchSettings

TOKENS = 11


def tiny(**settings: Any) -> CtcRecognizer:
    torch.manual_seed(0)
    recipe = Recipe(model=CtcSettings(size=16, layers=2, channels=4, **settings))
    model = build_model(recipe, TOKENS)
    assert isinstance(model, CtcRecognizer)
    return model


def features_of(frames: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    features = torch.randn(len(frames), max(frames), 40, generator=torch.Generator().manual_seed(1))
    counted = torch.tensor(frames)
    return features * (torch.arange(max(frames)) < counted[:, None])[..., None], counted


@pytest.mark.parametrize("stride", [4, 8])
def test_output_does_not_depend_on_the_batch(stride: int) -> None:
    model = tiny(stride=stride).double().eval()
    frames = [61, 17, 100, 1, 64, 8]
    features, counted = features_of(frames)
    features = features.double()
    with torch.inference_mode():
        (*_, together), steps = model.log_probs(features, counted)
        assert steps.tolist() == [-(-count // stride) for count in frames]
        for row, count in enumerate(frames):
            (*_, alone), length = model.log_probs(features[row : row + 1, :count], counted[row : row + 1])
            assert length.item() == alone.shape[1] == steps[row]
            torch.testing.assert_close(together[row, : alone.shape[1]], alone[0], atol=1e-9, rtol=0)


def test_loss_has_finite_gradients_for_every_parameter() -> None:
    model = tiny()
    features, frames = features_of([61, 1, 100])  # one frame is too short for its targets
    targets = torch.tensor([[1, 2, 3], [4, 5, 0], [6, 6, 7]])
    loss = model.loss(features, frames, targets, torch.tensor([3, 2, 3]))
    assert loss.count == 8
    assert loss.sum.isfinite()
    loss.sum.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert model.head.weight.grad is not None
    assert model.head.weight.grad.any()


def test_inner_blocks_share_the_loss() -> None:
    features, frames = features_of([61, 100])
    targets, target_lengths = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2])

    def losses(inner: float) -> tuple[float, list[float]]:
        model = tiny(inner_ctc=inner, dropout=0.0)
        outputs, steps = model.log_probs(features, frames)
        each = [ctc_loss(output, steps, targets, target_lengths).sum.item() for output in outputs]
        return model.loss(features, frames, targets, target_lengths).sum.item(), each

    total, each = losses(0.3)
    assert len(each) == 2
    assert total == pytest.approx(0.3 * each[0] + 0.7 * each[1], rel=1e-6)
    total, each = losses(0.0)
    assert [total] == pytest.approx(each, rel=1e-6)


def test_greedy_and_beam_agree_on_sure_frames() -> None:
    model = tiny().eval()
    with torch.inference_mode():
        model.head.weight.mul_(200)  # so sure of each frame that every search takes the same path
        features, frames = features_of([61, 100])
        greedy = model.transcribe(features, frames, SearchSettings(), None)
        beam = model.transcribe(features, frames, SearchSettings(kind="beam", beam=4), None)
    assert greedy == beam
    assert all(0 < token < TOKENS for tokens in greedy for token in tokens)
    assert any(greedy)
