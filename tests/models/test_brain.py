"""Training here and under SpeechBrain's Brain follow the same losses, from the same weights on the same batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.brain import brain_batch, build_brain, exact_attention, give_weights

from speechmill.config import load_recipe
from speechmill.loader import Batch
from speechmill.models import build_model
from speechmill.models.crdnn import CrdnnRecognizer
from speechmill.settings import Recipe
from speechmill.strategies.single import Single
from speechmill.train.optim import build_optimizer

HPARAMS = Path(__file__).resolve().parents[2] / "hparams"
UPDATES = 50
TOKENS = 5


def recipe() -> Recipe:
    """The demo's attention recipe without what the comparison has to be free of."""
    return load_recipe(
        HPARAMS / "demo_aed.yaml",
        [
            "model.dropout=0", "model.mask_padding=false", "train.precision=float64", "train.device=cpu",
            "optim.schedule=constant", "optim.warmup_updates=0", "augment.time_masks=0", "augment.frequency_masks=0",
        ],
    )  # fmt: skip


def batch(number: int, pieces: int) -> Batch:
    """Two utterances of one length, as SpeechBrain hears padding: tones of their tokens."""
    rng = np.random.default_rng([3, number % 10])
    samples = 16 * 160 * TOKENS
    targets = rng.integers(1, pieces, (2, TOKENS))
    time = np.arange(samples) / 16000
    pitch = np.repeat(100.0 + 50.0 * targets, samples // TOKENS, axis=1)
    audio = 8000 * np.sin(2 * np.pi * pitch * time) + 300 * rng.standard_normal((2, samples))
    parts = audio.astype(np.int16), np.full(2, samples), targets, np.full(2, TOKENS)
    return Batch(number, ["a", "b"], *(torch.from_numpy(part) for part in parts))


def test_fifty_updates_have_the_same_losses() -> None:
    settings = recipe()
    pieces = settings.tokenizer.size
    torch.manual_seed(0)
    model = build_model(settings, pieces).double().train()
    assert isinstance(model, CrdnnRecognizer)
    model.log_mel.set_statistics(torch.full((40,), -20.0), torch.full((40,), 15.0))
    brain = build_brain(settings, pieces)
    give_weights(model, brain)
    brain.modules.double()
    # SpeechBrain's features are float32 only; that they are the same is tests/exchange/test_export.py's to show.
    brain.hparams.compute_features = lambda audio: model.log_mel.log_mel(audio, torch.full((2,), audio.shape[1]))[0]
    brain.modules["normalize"].glob_mean = model.log_mel.mean.clone()
    brain.modules["normalize"].glob_std = model.log_mel.deviation.clone()
    strategy = Single(model, build_optimizer(model.parameters(), settings.optim), settings, torch.device("cpu"))
    found, expected = [], []
    with exact_attention():
        for number in range(UPDATES):
            given = batch(number, pieces)
            stats = strategy.update([given], number)
            found.append(stats.loss / stats.tokens)
            expected.append(float(brain.fit_batch(brain_batch(given, torch.float64))))
    assert found == pytest.approx(expected, rel=1e-6)
    assert found[-1] < 0.8 * found[0], "it does not learn, so the losses would not show much"
