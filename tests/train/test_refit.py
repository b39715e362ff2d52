"""A CTC head that training left behind is fitted anew before it is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from speechmill.config import override_recipe
from speechmill.evaluate import open_recognizer
from speechmill.group import ALONE
from speechmill.losses import ctc_loss, log_softmax
from speechmill.models import build_model
from speechmill.settings import Recipe
from speechmill.tokenizer import load_tokenizer
from speechmill.train.checkpoint import checkpoints, read_weights
from speechmill.train.data import batches_of, open_train_index
from speechmill.train.loop import train
from speechmill.train.refit import head_is_stale
from speechmill.train.runlog import read_config
from trained import tiny_recipe

SETTINGS = [
    "model.kind=conformer", "model.size=16", "model.heads=2", "model.layers=1", "model.feedforward=24",
    "model.kernel=5", "model.channels=4", "model.decoder_layers=1", "model.dropout=0", "train.updates=24",
    "train.nominal_epoch=2", "loss.ctc_epochs=1", "loss.refit_updates=60", "train.validate_every=24",
    "train.checkpoint_every=24", "optim.lr=0.01",
]  # fmt: skip


@pytest.fixture(scope="module")
def recipe(shards: Path, tokenizer_path: Path) -> Recipe:
    return override_recipe(tiny_recipe(shards, tokenizer_path), SETTINGS)


@pytest.fixture(scope="module")
def run(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refit") / "run"
    train(recipe, folder)
    return folder


def test_stale_is_what_training_left_behind(recipe: Recipe) -> None:
    assert [head_is_stale(recipe, update) for update in (0, 1, 2, 3, 24)] == [False, False, False, True, True]
    assert not head_is_stale(override_recipe(recipe, ["loss.ctc_epochs=0"]), 24)
    assert head_is_stale(override_recipe(recipe, ["loss.ctc_epochs=0", "loss.ctc_weight=0"]), 24)


def test_training_leaves_a_head_that_fits(run: Path, recipe: Recipe, tokenizer_path: Path) -> None:
    assert len(list((run / "ctc_heads").glob("*.pt"))) == 1
    opened = open_recognizer(run, read_config(run), "best").model
    before = read_weights(checkpoints(run)[-1], recipe.model_fingerprint())
    after = opened.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"ctc_head.w.weight", "ctc_head.w.bias"}

    dataset = batches_of(open_train_index(recipe), load_tokenizer(tokenizer_path), recipe, [0])

    def loss() -> float:
        total = 0.0
        for number in range(4):
            batch = dataset[number]
            with torch.inference_mode():
                encoded = opened.encoded(*opened.log_mel(batch.audio / 32768.0, batch.lengths))
                log_probs = log_softmax(opened.ctc_logits(encoded))
                total += ctc_loss(log_probs, encoded.steps, batch.targets, batch.target_lengths).sum.item()
        return total

    fitted = loss()
    opened.load_state_dict(before)
    assert fitted < 0.9 * loss()


def test_it_is_fitted_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from speechmill.train import weights

    monkeypatch.setattr(weights, "fit_head", lambda *_: pytest.fail("fitted again"))
    open_recognizer(run, read_config(run), "best")


def test_its_batches_are_of_the_whole_epoch(
    recipe: Recipe, tokenizer_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first batches may be the shortest."""
    from speechmill.train import refit

    asked: list[int] = []

    def none(_: object, numbers: list[int], *__: object, **___: object) -> Iterator[object]:
        asked.extend(numbers)
        yield from ()

    monkeypatch.setattr(refit, "batches", none)
    dataset = batches_of(open_train_index(recipe), load_tokenizer(tokenizer_path), recipe, [0])
    model = build_model(recipe, recipe.tokenizer.size)
    dataset.schedule.locate(0)
    epoch = dataset.schedule.epoch_starts[1]
    few = override_recipe(recipe, ["loss.refit_updates=3"])
    refit.fit_head(model, model.ctc_head_apart(), dataset, few, ALONE)
    assert sorted(asked) == [0, (epoch - 1) // 2, epoch - 1]
    asked.clear()
    refit.fit_head(model, model.ctc_head_apart(), dataset, recipe, ALONE)
    assert len(asked) == 60
    assert set(asked) == set(range(epoch))
    assert asked[:epoch] != sorted(asked[:epoch])
