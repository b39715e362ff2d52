"""Teaching the attention decoder gives SpeechBrain's outputs and gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks.brain import exact_attention
from speechbrain.nnet.RNN import AttentionalRNNDecoder
from test_encoder import close, distance

from speechmill.config import load_recipe
from speechmill.models import attention
from speechmill.models.attention import AttentionDecoder
from speechmill.settings import CrdnnSettings

HPARAMS = Path(__file__).resolve().parents[2] / "hparams"
SMALL = CrdnnSettings(
    dnn_size=12, embedding_size=6, decoder_size=16, attention_size=20, attention_channels=3, attention_kernel=5,
    dropout=0.0,
)  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("loop", ["fast_loop", "reference_loop"])
@pytest.mark.parametrize("thesis", [False, True])
def test_outputs_and_gradients_are_speechbrains(
    dtype: torch.dtype, loop: str, thesis: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_recipe(HPARAMS / "train.yaml").model if thesis else SMALL
    assert isinstance(settings, CrdnnSettings)
    monkeypatch.setattr(attention, "fast_loop", getattr(attention, loop))
    torch.manual_seed(0)
    decoder = AttentionDecoder(settings.model_copy(update={"dropout": 0.0})).to(dtype)
    embedded = torch.randn(3, 7, settings.embedding_size, dtype=dtype, requires_grad=True)
    encoded = torch.randn(3, 15, settings.dnn_size, dtype=dtype, requires_grad=True)
    steps = torch.tensor([15, 9, 4])
    leaves = [embedded, encoded, *decoder.parameters()]
    with exact_attention():
        theirs, _ = AttentionalRNNDecoder.forward(decoder, embedded, encoded, steps / 15)
    ours = decoder.teach(embedded, encoded, steps)
    close(ours, theirs)
    weight = torch.randn_like(theirs)
    expected = torch.autograd.grad((theirs * weight).sum(), leaves)
    for one, other in zip(torch.autograd.grad((ours * weight).sum(), leaves), expected, strict=True):
        close(one, other)


def test_dropout_falls_on_what_the_cell_is_given() -> None:
    """With the same factors the written derivative is PyTorch's."""
    torch.manual_seed(0)
    decoder = AttentionDecoder(SMALL.model_copy(update={"dropout": 0.5})).double().train()
    embedded = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    encoded = torch.randn(2, 8, 12, dtype=torch.float64, requires_grad=True)
    leaves = [embedded, encoded, *decoder.parameters()]
    found = []
    for loop in (attention.fast_loop, attention.reference_loop):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(attention, "fast_loop", loop)
            torch.manual_seed(1)
            out = decoder.teach(embedded, encoded, torch.tensor([8, 3]))
        found.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for one, other in zip(*found, strict=True):
        close(one, other)
    assert not torch.equal(found[0][0], decoder.eval().teach(embedded, encoded, torch.tensor([8, 3])))


def test_without_gradients_it_keeps_nothing() -> None:
    decoder = AttentionDecoder(SMALL)
    given = torch.randn(2, 5, 6), torch.randn(2, 8, 12), torch.tensor([8, 3])
    with torch.no_grad():
        close(decoder.teach(*given), decoder.teach(*given).detach())


def test_padded_steps_are_not_attended() -> None:
    decoder = AttentionDecoder(SMALL).double()
    embedded, encoded = torch.randn(1, 5, 6, dtype=torch.float64), torch.randn(1, 8, 12, dtype=torch.float64)
    steps = torch.tensor([6])
    close(decoder.teach(embedded, encoded, steps), decoder.teach(embedded, encoded[:, :6], steps))


def test_bfloat16_is_near() -> None:
    """As the demo's attention recipe trains where the processor is fast at it."""
    torch.manual_seed(0)
    decoder = AttentionDecoder(SMALL)
    wide = AttentionDecoder(SMALL).double()
    wide.load_state_dict(decoder.state_dict())
    embedded, encoded, steps = torch.randn(3, 7, 6), torch.randn(3, 15, 12), torch.tensor([15, 9, 4])
    with torch.autocast("cpu", torch.bfloat16):
        found = decoder.teach(embedded, encoded, steps).float()
    expected = wide.teach(embedded.double(), encoded.double(), steps)
    weight = torch.randn_like(found)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    assert float((found - expected).detach().norm() / expected.detach().norm()) < 0.02
    far = distance(decoder, wide)
    assert max(far.values()) < 0.1, far
