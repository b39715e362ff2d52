from __future__ import annotations

from pathlib import Path

import pytest
import torch

from speechmill.config import load_recipe
from speechmill.models import build_model
from speechmill.models.crdnn import CrdnnRecognizer, _Stepping
from speechmill.models.encoder import reference_encoder
from speechmill.models.ngram import NgramModel
from speechmill.settings import CrdnnSettings, FeatureSettings, LossSettings, Recipe, SearchSettings
from speechmill.tokenizer import ANYTHING

TOKENS = 9
HPARAMS = Path(__file__).resolve().parents[2] / "hparams"


def tiny(loss: LossSettings | None = None) -> CrdnnRecognizer:
    torch.manual_seed(0)
    sizes = CrdnnSettings(
        cnn_channels=[4, 8],
        rnn_layers=1,
        rnn_size=8,
        dnn_blocks=1,
        dnn_size=8,
        embedding_size=6,
        decoder_size=8,
        attention_size=8,
        attention_channels=2,
        attention_kernel=5,
        dropout=0.0,
    )
    model = build_model(Recipe(model=sizes, loss=loss or LossSettings()), TOKENS)
    assert isinstance(model, CrdnnRecognizer)
    return model


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    features = torch.randn(2, 60, 40, generator=torch.Generator().manual_seed(1))
    features[1, 41:] = 0.0
    return features, torch.tensor([60, 41]), torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2])


def test_the_thesis_model_has_40_2_million_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.init, "orthogonal_", lambda weights: weights)  # takes seconds, and counts nothing
    recipe = load_recipe(HPARAMS / "train.yaml")
    assert recipe.tokenizer.size == 5000
    model = build_model(recipe, recipe.tokenizer.size)
    assert isinstance(model, CrdnnRecognizer)
    assert 40.1e6 < sum(parameter.numel() for parameter in model.parameters()) < 40.3e6


def test_joint_loss_has_finite_gradients() -> None:
    model = tiny()
    loss = model.loss(*batch(), with_ctc=True)
    assert loss.count == 5
    loss.sum.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert model.ctc_head.w.weight.grad.any()
    assert model.head.w.weight.grad.any()


def test_without_ctc_its_head_is_not_trained() -> None:
    model = tiny()
    loss = model.loss(*batch(), with_ctc=False)
    assert loss.count == 5
    loss.sum.backward()
    assert model.ctc_head.w.weight.grad is None
    assert model.head.w.weight.grad.any()


def test_the_decoder_learns_neither_a_wildcard_nor_what_follows_it() -> None:
    model = tiny(LossSettings(label_smoothing=0.0)).eval()
    features, frames, *_ = batch()
    targets = torch.tensor([[1, 2, ANYTHING, 3], [4, ANYTHING, 0, 0]])
    loss = model.loss(features, frames, targets, torch.tensor([4, 2]), with_ctc=False)
    assert loss.count == 4
    given = torch.tensor([[0, 1, 2, 0, 3], [0, 4, 0, 0, 0]])
    log_probs = model.decoded(given, model.encoded(features, frames)).log_softmax(-1)
    learned = log_probs[0, 0, 1] + log_probs[0, 1, 2] + log_probs[0, 4, 0] + log_probs[1, 0, 4]
    assert loss.sum.item() == pytest.approx(-learned.item(), rel=1e-5)
    assert model.loss(features, frames, targets, torch.tensor([4, 2]), with_ctc=True).sum.isfinite()


def test_the_weights_of_the_joint_loss() -> None:
    def value(weight: float, with_ctc: bool = True) -> float:
        return float(tiny(LossSettings(ctc_weight=weight)).loss(*batch(), with_ctc=with_ctc).sum.item())

    assert value(0.0) == pytest.approx(value(0.7, with_ctc=False))
    assert value(0.25) == pytest.approx(0.75 * value(0.0) + 0.25 * value(1.0), rel=1e-5)


@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_search_runs(kind: str) -> None:
    model = tiny().eval()
    features, frames, _, _ = batch()
    with torch.inference_mode():
        found = model.transcribe(features, frames, SearchSettings(kind=kind, beam=3), None)
    assert len(found) == 2
    assert all(0 < token < TOKENS for tokens in found for token in tokens)


def test_token_by_token_is_the_whole_at_once() -> None:
    model = tiny().eval()
    features, frames, targets, _ = batch()
    with torch.inference_mode():
        encoded = model.encoded(features, frames)
        bos = torch.cat([torch.zeros_like(targets[:, :1]), targets], dim=1)
        relative = (encoded.steps / encoded.states.shape[1]).float()
        whole = model.head(model.decoder(model.embedding(bos), encoded.states, relative)[0])
        stepping = _Stepping(model)
        state = stepping.begin(encoded, 2)
        order = torch.tensor([1, 0, 3, 3])  # rows change places within their utterance
        for place in range(bos.shape[1]):
            logits, state = stepping.step(bos[:, place].repeat_interleave(2), state)
            torch.testing.assert_close(logits[::2], whole[:, place], atol=1e-5, rtol=0)
            torch.testing.assert_close(logits[1::2], whole[:, place], atol=1e-5, rtol=0)
            state = stepping.select(state, order)


@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_the_shortest_audio(kind: str) -> None:
    model = tiny().eval()
    with torch.inference_mode():
        found = model.transcribe(torch.zeros(1, 1, 40), torch.tensor([1]), SearchSettings(kind=kind, beam=3), None)
    assert len(found) == 1


def test_search_finds_what_was_trained() -> None:
    model = tiny()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        model.loss(*batch(), with_ctc=True).sum.backward()
        optimizer.step()
    features, frames, _, _ = batch()  # still in training mode: batch normalisation has no statistics but the batch's
    with torch.inference_mode():
        assert model.transcribe(features, frames, SearchSettings(), None) == [[1, 2, 3], [4, 5]]
        for search in (
            SearchSettings(kind="beam", beam=3),
            SearchSettings(kind="beam", beam=3, ctc_weight=0.4),
            SearchSettings(kind="beam", beam=3, ctc_weight=0.4, lm_order=2, lm_weight=0.1),
        ):
            language = NgramModel.train([[1, 2, 3], [4, 5]], 2, TOKENS) if search.lm_order else None
            assert model.transcribe(features, frames, search, language) == [[1, 2, 3], [4, 5]], search


@pytest.mark.parametrize(("kind", "reluctance"), [("greedy", 0.0), ("greedy", 100.0), ("beam", 2.0)])
def test_masked_hypotheses_do_not_depend_on_the_batch(kind: str, reluctance: float) -> None:
    """Also those that find no end: alone, an utterance has as many tokens as steps at most."""
    torch.manual_seed(2)
    sizes = tiny().settings.model_copy(update={"mask_padding": True})
    model = build_model(Recipe(model=sizes), TOKENS).double().eval()
    assert isinstance(model, CrdnnRecognizer)
    with torch.no_grad():
        for part in (model.embedding, model.decoder, model.head, model.encoder):
            for parameter in part.parameters():
                parameter *= 3  # so that it says different things
        model.head.w.bias[0] -= reluctance
    frames = torch.tensor([83, 60, 41, 7, 2])
    features = 3 * torch.randn(5, 83, 40, dtype=torch.float64)
    for row, length in enumerate(frames.tolist()):
        features[row, length:] = 0.0  # as the features' normalisation leaves it
    search = SearchSettings(kind=kind, beam=3)
    with torch.inference_mode():
        together = model.transcribe(features, frames, search, None)
        for row, length in enumerate(frames.tolist()):
            given = features[row : row + 1, :length], frames[row : row + 1], search, None
            assert model.transcribe(*given) == together[row : row + 1]
    assert len(set(map(tuple, together))) > 1
    assert any(together)


def test_padding_heard_is_speechbrains() -> None:
    """Without the mask, what stands behind an utterance changes its encoding, as in the thesis."""
    model = tiny().double().train()
    reference = reference_encoder(FeatureSettings(), model.settings).double().train()
    reference.load_state_dict(model.encoder.state_dict())
    features, frames, _, _ = batch()
    with torch.no_grad():
        heard, _ = model.encoded(features.double(), frames)
        torch.testing.assert_close(heard, reference(features.double()), rtol=0, atol=1e-12)
        model.eval()
        heard, _ = model.encoded(features.double(), frames)
        alone, _ = model.encoded(features[1:, :41].double(), frames[1:])
    assert not torch.allclose(heard[1, :10], alone[0, :10])
