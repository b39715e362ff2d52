"""The Conformer recognizer: what it says of an utterance does not depend on the rest of the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from speechmill.models import build_model
from speechmill.models.base import Encoded
from speechmill.models.conformer import ConformerRecognizer, _Stepping
from speechmill.models.ngram import NgramModel
from speechmill.settings import ConformerSettings, LossSettings, Recipe, SearchSettings

TOKENS = 9


def tiny(loss: LossSettings | None = None, **settings: Any) -> ConformerRecognizer:
    torch.manual_seed(0)
    sizes = {"size": 16, "heads": 2, "layers": 2, "feedforward": 24, "kernel": 5, "channels": 4, "decoder_layers": 1}
    recipe = Recipe(
        model=ConformerSettings(**{**sizes, "dropout": 0.0, **settings}), loss=loss or LossSettings(ctc_weight=0.3)
    )
    model = build_model(recipe, TOKENS)
    assert isinstance(model, ConformerRecognizer)
    for parameter in model.parameters():  # biases are zero at first, and what leaks with them would not show
        if parameter.dim() == 1:
            parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return model


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    features = torch.randn(2, 60, 40, generator=torch.Generator().manual_seed(1))
    features[1, 41:] = 0.0
    return features, torch.tensor([60, 41]), torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2])


@pytest.mark.parametrize("stride", [4, 8])
def test_output_does_not_depend_on_the_batch(stride: int) -> None:
    model = tiny(stride=stride).double().eval()
    frames = [61, 17, 100, 1, 64, 8]
    features = torch.randn(len(frames), max(frames), 40, generator=torch.Generator().manual_seed(1)).double()
    counted = torch.tensor(frames)
    features = features * (torch.arange(max(frames)) < counted[:, None])[..., None]
    tokens = torch.randint(1, TOKENS, (len(frames), 5), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        together = model.encoded(features, counted)
        said = model.decoded(tokens, together)
        for row, count in enumerate(frames):
            alone = model.encoded(features[row : row + 1, :count], counted[row : row + 1])
            steps = int(alone.steps[0])
            assert steps == alone.states.shape[1] == together.steps[row] == -(-count // stride)
            torch.testing.assert_close(together.states[row, :steps], alone.states[0], atol=1e-6, rtol=0)
            torch.testing.assert_close(said[row], model.decoded(tokens[row : row + 1], alone)[0], atol=1e-6, rtol=0)


def test_joint_loss_has_finite_gradients() -> None:
    model = tiny()
    loss = model.loss(*batch(), with_ctc=True)
    assert loss.count == 5
    loss.sum.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_without_ctc_its_head_is_not_trained() -> None:
    model = tiny()
    model.loss(*batch(), with_ctc=False).sum.backward()
    assert model.ctc_head.w.weight.grad is None
    assert model.head.w.weight.grad.any()


def test_token_by_token_is_the_whole_at_once() -> None:
    model = tiny().eval()
    features, frames, targets, _ = batch()
    with torch.inference_mode():
        encoded = model.encoded(features, frames)
        bos = torch.cat([torch.zeros_like(targets[:, :1]), targets], dim=1)
        whole = model.decoded(bos, encoded)
        stepping = _Stepping(model)
        state = stepping.begin(encoded, 1)
        for place in range(bos.shape[1]):
            logits, state = stepping.step(bos[:, place], state)
            torch.testing.assert_close(logits, whole[:, place], atol=1e-5, rtol=0)


SEARCHES = [
    SearchSettings(),
    SearchSettings(kind="beam", beam=3),
    SearchSettings(kind="beam", beam=3, ctc_weight=0.4),
    SearchSettings(kind="beam", beam=3, ctc_weight=0.4, lm_order=2, lm_weight=0.1),
]


def test_search_finds_what_was_trained() -> None:
    model = tiny()
    language = NgramModel.train([[1, 2, 3], [4, 5]], 2, TOKENS)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        model.loss(*batch(), with_ctc=True).sum.backward()
        optimizer.step()
    model.eval()
    features, frames, _, _ = batch()
    with torch.inference_mode():
        for search in SEARCHES:
            found = model.search(model.encoded(features, frames), search, language if search.lm_order else None)
            assert [one.tokens for one in found] == [[1, 2, 3], [4, 5]], search
            assert [one.caught for one in found] == ["", ""]


@pytest.mark.parametrize("search", SEARCHES)
def test_the_shortest_audio(search: SearchSettings) -> None:
    model = tiny().eval()
    with torch.inference_mode():
        encoded = model.encoded(torch.zeros(1, 1, 40), torch.tensor([1]))
        assert isinstance(encoded, Encoded)
        assert len(model.search(encoded, search, NgramModel.train([[1]], 2, TOKENS) if search.lm_order else None)) == 1


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="no multiple of heads"):
        ConformerSettings(size=10, heads=3)
    with pytest.raises(ValueError, match="kernel 4 is even"):
        ConformerSettings(kernel=4)
