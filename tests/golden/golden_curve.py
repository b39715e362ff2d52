"""The golden loss curve: what 100 updates gave, kept so that a change of the training shows.

    python tests/golden/golden_curve.py      writes tests/golden/loss_curve.json

float64, one thread; weights and inputs come from NumPy, and there is no dropout, so that no generator of PyTorch's is
in it. Update 1 to 10 are the same to 1e-6 on any machine; later ones where the CPU's capability is the file's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from speechmill.loader import Batch
from speechmill.models import build_model
from speechmill.settings import CrdnnSettings, CtcSettings, OptimSettings, Recipe, ScheduleSettings, TrainSettings
from speechmill.strategies.single import Single
from speechmill.train.optim import build_optimizer

PATH = Path(__file__).with_name("loss_curve.json")
UPDATES = 100
TOKENS = 12
_MODELS = {
    "crdnn": CrdnnSettings(
        cnn_channels=[4, 4], rnn_layers=1, rnn_size=8, dnn_blocks=1, dnn_size=8, embedding_size=6, decoder_size=8,
        attention_size=8, attention_channels=2, attention_kernel=3, dropout=0.0,
    ),
    "ctc": CtcSettings(size=12, layers=2, channels=4, dropout=0.0),
}  # fmt: skip


def recipe(kind: str) -> Recipe:
    return Recipe(
        model=_MODELS[kind],
        schedule=ScheduleSettings(batches_per_update=2),
        optim=OptimSettings(kind="adamw", lr=3e-3, weight_decay=0.01, schedule="cosine", warmup_updates=10),
        train=TrainSettings(precision="float64", updates=UPDATES),
    )


def set_weights(model: torch.nn.Module) -> None:
    """Every parameter from NumPy, at the scale that its initialisation has."""
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        fan = max(1, parameter[0].numel()) if parameter.dim() > 1 else 1
        drawn = rng.standard_normal(tuple(parameter.shape)) * (fan**-0.5 if parameter.dim() > 1 else 0.01)
        parameter.data.copy_(torch.from_numpy(drawn + (parameter.dim() == 1)))


def batch(number: int) -> Batch:
    """Two or three utterances of noisy tones, eight batches in turn, so that there is something to learn."""
    rng = np.random.default_rng([2, number % 8])
    size = 2 + number % 2
    lengths = rng.integers(3000, 5000, size)
    time = np.arange(lengths.max()) / 16000
    audio = np.zeros((size, int(lengths.max())), dtype=np.int16)
    targets = np.zeros((size, 3), dtype=np.int64)
    for row, length in enumerate(lengths):
        targets[row] = rng.integers(1, TOKENS, 3)
        tone = np.concatenate([np.sin(2 * np.pi * 250.0 * t * time[: length // 3 + 1]) for t in targets[row]])[:length]
        audio[row, :length] = 8000 * tone + 300 * rng.standard_normal(length)
    parts = (torch.from_numpy(part) for part in (audio, lengths, targets, np.full(size, 3)))
    return Batch(number, [f"g{number}-{row}" for row in range(size)], *parts)


def curve(kind: str, updates: int = UPDATES) -> list[float]:
    """Loss per target token of each update."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        settings = recipe(kind)
        model = build_model(settings, TOKENS).double().train()
        set_weights(model)
        strategy = Single(model, build_optimizer(model.parameters(), settings.optim), settings, torch.device("cpu"))
        found = []
        for number in range(updates):
            stats = strategy.update([batch(each) for each in strategy.mine(number)], number)
            found.append(stats.loss / stats.tokens)
        return found
    finally:
        torch.set_num_threads(threads)


def made() -> dict[str, Any]:
    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "curves": {kind: curve(kind) for kind in _MODELS},
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(made(), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{PATH}\n")
