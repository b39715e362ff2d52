"""The whole recognizer beside SpeechBrain's modules: outputs, loss and every gradient, at the sizes of train.yaml."""

from __future__ import annotations

import pytest
import torch
from benchmarks.brain import brain_batch, exact_attention, same_parameters
from benchmarks.step import Sides

from speechmill.losses import log_softmax

SHAPE = (1, 1.5, 6)  # one utterance: SpeechBrain hears padding
# SpeechBrain's linear layers before batch normalisation have a bias that it takes away again.
WITHOUT_GRADIENT = ("encoder.DNN.block_0.linear.w.bias", "encoder.DNN.block_1.linear.w.bias")


def sides(monkeypatch: pytest.MonkeyPatch, precision: str) -> Sides:
    monkeypatch.setattr(torch.nn.init, "orthogonal_", lambda weights: weights)  # takes seconds
    found = Sides("train.yaml", SHAPE, "cpu", precision, dropout=0.0)
    if precision == "float64":
        model, brain = found.model, found.theirs
        brain.modules.double()
        brain.modules["normalize"].glob_mean = model.log_mel.mean.clone()
        brain.modules["normalize"].glob_std = model.log_mel.deviation.clone()
        # SpeechBrain's features are float32 only; that they are the same is tests/exchange/test_export.py's to show.
        brain.hparams.compute_features = lambda audio: model.log_mel.log_mel(
            audio, torch.full((len(audio),), audio.shape[1])
        )[0]
    return found


@pytest.mark.parametrize(
    # In float32 two places of a pool are now and then alike but for rounding, and which of them is taken moves the
    # convolutions' gradients by some thousandths: those of SpeechBrain's against its own in float64, too.
    ("precision", "tolerance", "of_convolutions"), [("float64", 1e-10, 1e-10), ("float32", 1e-4, 1e-2)]
)  # fmt: skip
def test_outputs_loss_and_every_gradient_are_speechbrains(
    precision: str, tolerance: float, of_convolutions: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = sides(monkeypatch, precision)
    model, brain, given = both.model, both.theirs, both.batch
    sums = both.ours.gradients([given], 0)
    batch = brain_batch(given, next(model.parameters()).dtype)
    with exact_attention():
        of_steps, of_tokens = brain.compute_forward(batch, None)
        loss = brain.compute_objectives((of_steps, of_tokens), batch, None)
        loss.backward()
    assert sums.loss / sums.tokens == pytest.approx(loss.item(), rel=tolerance)

    audio = given.audio.to(next(model.parameters()).dtype) / 32768.0
    with torch.no_grad():
        encoded = model.encoded(*model.log_mel(audio, given.lengths))
        bos = torch.cat([torch.zeros_like(given.targets[:, :1]), given.targets], dim=1)
        for ours, theirs in (
            (log_softmax(model.ctc_logits(encoded)), of_steps), (log_softmax(model.decoded(bos, encoded)), of_tokens),
        ):  # fmt: skip
            torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * float(theirs.abs().max()))

    pairs = {name: (ours.grad / sums.tokens, theirs.grad) for name, ours, theirs in same_parameters(model, brain)}
    assert set(WITHOUT_GRADIENT) <= pairs.keys()
    largest = max(float(theirs.abs().max()) for _, theirs in pairs.values())
    for name, (ours, theirs) in pairs.items():
        if name in WITHOUT_GRADIENT:
            assert max(float(ours.abs().max()), float(theirs.abs().max())) < tolerance * largest, name
            continue
        allowed = of_convolutions if name.startswith("encoder.CNN") else tolerance
        assert float(theirs.abs().max()) > 0, name
        assert float((ours - theirs).abs().max()) <= allowed * float(theirs.abs().max()), name
