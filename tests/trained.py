"""A recipe that trains in a second or two on the tests' corpus, and a run of it that the tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from conftest import RATE, SHARD_SETTINGS, sound
from speechmill.settings import (
    CtcSettings,
    DataSettings,
    FeatureSettings,
    OptimSettings,
    Recipe,
    ScheduleSettings,
    TrainSettings,
)
from speechmill.tokenizer import load_tokenizer
from speechmill.train.loop import train

_RUNS: dict[Path, Path] = {}


def tiny_recipe(shards: Path, tokenizer_path: Path) -> Recipe:
    return Recipe(
        name="tiny",
        data=DataSettings(shards=str(shards), tokenizer=str(tokenizer_path)),
        shard=SHARD_SETTINGS,
        tokenizer=load_tokenizer(tokenizer_path).settings,
        features=FeatureSettings(sample_rate=RATE, n_mels=16, n_fft=200, statistics_batches=3),
        model=CtcSettings(size=16, layers=1, stride=4, channels=4, dropout=0.1),
        schedule=ScheduleSettings(target_seconds=8, limit_seconds=12, window_shards=2, batches_per_update=2),
        optim=OptimSettings(kind="adamw", lr=0.02, schedule="cosine", warmup_updates=3, clip_norm=1.0),
        train=TrainSettings(
            updates=24, validate_every=8, checkpoint_every=4, log_every=3, loader_workers=0, threads=1, device="cpu"
        ),
    )


def trained_run(shards: Path, tokenizer_path: Path, folder: Path) -> Path:
    """A finished run that has learned some words, made once; only read it."""
    if shards not in _RUNS:
        recipe = tiny_recipe(shards, tokenizer_path)
        longer = {"updates": 120, "validate_every": 60, "checkpoint_every": 60}
        train(recipe.model_copy(update={"train": recipe.train.model_copy(update=longer)}), folder)
        _RUNS[shards] = folder
    return _RUNS[shards]


def spoken(words: list[str]) -> npt.NDArray[np.float64]:
    """Words as in the corpus, with its noise: [samples] between -1 and 1."""
    clean = sound(words)
    return clean + 0.005 * np.random.default_rng(0).standard_normal(len(clean))
