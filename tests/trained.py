"""A recipe that trains in a second or two on the tests' corpus, and runs of it that the tests share."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml

from conftest import RATE, SHARD_SETTINGS, sound
from speechmill.config import override_recipe
from speechmill.metrics import read_metrics
from speechmill.settings import (
    CtcSettings,
    DataSettings,
    FeatureSettings,
    OptimSettings,
    Recipe,
    ScheduleSettings,
    TrainSettings,
)
from speechmill.strategies.base import UpdateStats
from speechmill.strategies.single import Single
from speechmill.tokenizer import load_tokenizer
from speechmill.train.checkpoint import find_checkpoint
from speechmill.train.data import open_dataset
from speechmill.train.loop import TrainReport, train

_RUNS: dict[Path, Path] = {}
_UNDISTURBED: dict[str, Path] = {}
_CLOCKED = {"seconds", "data_wait", "valid_seconds"}


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


def augmented_recipe(shards: Path, tokenizer_path: Path) -> Recipe:
    """The tiny recipe with random numbers on the device, whose state a resumed run must have."""
    masks = ["augment.gain_db=3", "augment.time_masks=1", "augment.time_mask_frames=5"]
    return override_recipe(tiny_recipe(shards, tokenizer_path), masks)


def undisturbed_run(recipe: Recipe, factory: pytest.TempPathFactory) -> Path:
    """A finished run of a recipe, made once; only read it."""
    key = repr(recipe.plain())
    if key not in _UNDISTURBED:
        report = train(recipe, factory.mktemp("undisturbed") / "run")
        assert (report.finished, report.already_whole, report.updates) == (True, False, recipe.train.updates)
        _UNDISTURBED[key] = report.run
    return _UNDISTURBED[key]


def stopped_run(recipe: Recipe, run: Path, patched: pytest.MonkeyPatch) -> Path:
    """A run that was asked to stop in the tenth of its updates, and left with ten."""
    with patched.context() as context:
        report = train_until(recipe, run, 10, context)
    assert (report.finished, report.stopped_by, report.updates) == (False, "SIGTERM", 10)
    return report.run


def train_until(recipe: Recipe, run: Path, after: int, patched: pytest.MonkeyPatch) -> TrainReport:
    """Train, with SIGTERM in update number `after`."""
    true_update = Single.update

    def update(self: Single, batches: Any, number: int, *stop: Any) -> UpdateStats:
        if number + 1 == after:
            os.kill(os.getpid(), signal.SIGTERM)
        return true_update(self, batches, number, *stop)

    patched.setattr(Single, "update", update)
    return train(recipe, run)


def assert_names_the_last_batches(error: str, recipe: Recipe) -> None:
    """A training that had to stop names utterances of the update that it tells, and no others."""
    told = re.search(r"the last, (\d+), with (.+?)\.\.\.", error)
    assert told, error
    dataset, per_update = open_dataset(recipe, [0]), recipe.schedule.batches_per_update
    last = range((int(told[1]) - 1) * per_update, int(told[1]) * per_update)
    assert set(told[2].split(", ")) <= {name for number in last for name in dataset[number].ids}, error


def write_recipe(recipe: Recipe, path: Path) -> Path:
    path.write_text(yaml.safe_dump(recipe.plain()), encoding="utf-8")
    return path


def logged(run: Path) -> list[dict[str, Any]]:
    """A run's metrics without what a clock says."""
    return [{k: v for k, v in record.items() if k not in _CLOCKED} for record in read_metrics(run)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(find_checkpoint(run, "last") / "model.pt", weights_only=True)
    return loaded


def same_weights(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def spoken(words: list[str]) -> npt.NDArray[np.float64]:
    """Words as in the corpus, with its noise: [samples] between -1 and 1."""
    clean = sound(words)
    return clean + 0.005 * np.random.default_rng(0).standard_normal(len(clean))
