"""Averages of weights: over checkpoints, and along training; what they recognize with, and that training goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from speechmill.config import override_recipe
from speechmill.errors import SpeechmillError
from speechmill.evaluate import evaluate, open_recognizer
from speechmill.metrics import read_metrics
from speechmill.models import build_model
from speechmill.settings import Recipe
from speechmill.strategies.base import Frozen, UpdateStats
from speechmill.strategies.single import Single
from speechmill.train.average import MovingAverage, average_weights, checkpoints_to_average, decay_at
from speechmill.train.checkpoint import TrainState, checkpoints, read_state, read_weights, save_checkpoint
from speechmill.train.loop import train
from speechmill.train.runlog import read_config
from trained import tiny_recipe

RECIPE = Recipe()


@pytest.fixture(scope="module")
def recipe(shards: Path, tokenizer_path: Path) -> Recipe:
    return override_recipe(tiny_recipe(shards, tokenizer_path), ["train.keep_best=3", "train.average_decay=0.8"])


@pytest.fixture(scope="module")
def run(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("averaged") / "run"
    train(recipe, folder)
    return folder


def saved(run: Path, update: int, wer: float | None, value: float) -> None:
    model = torch.nn.Linear(2, 1)
    model.weight.data.fill_(value)
    model.register_buffer("count", torch.tensor(update))
    save_checkpoint(run, TrainState(update=update, valid_wer=wer), Frozen(model, dict), RECIPE)  # type: ignore[arg-type]


def test_last_and_best(tmp_path: Path) -> None:
    for update, wer in [(10, 0.5), (20, 0.2), (30, 0.3), (40, None)]:
        saved(tmp_path, update, wer, float(update))
    fingerprint = RECIPE.model_fingerprint()

    def mean(which: str) -> float:
        weights = average_weights(checkpoints_to_average(tmp_path, which), fingerprint)
        assert weights["weight"].dtype == torch.float32
        return float(weights["weight"][0, 0])

    assert mean("last-2") == pytest.approx(35.0)
    assert mean("best-2") == pytest.approx(25.0)
    assert mean("best-3") == pytest.approx(20.0)
    assert int(average_weights(checkpoints_to_average(tmp_path, "last-3"), fingerprint)["count"]) == 40


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("best-4", r"--average best-4, but 3 validated checkpoints are there; train\.keep_best says"),
        ("last-9", r"but 4 checkpoints are there; train\.keep_last"),
        ("best-1", "K of at least 2"),
        ("mean-3", "expected last-K or best-K"),
    ],
)
def test_what_cannot_be_averaged(which: str, message: str, tmp_path: Path) -> None:
    for update, wer in [(10, 0.5), (20, 0.2), (30, 0.3), (40, None)]:
        saved(tmp_path, update, wer, 0.0)
    with pytest.raises(SpeechmillError, match=message):
        checkpoints_to_average(tmp_path, which)


def test_the_moving_average_by_hand(recipe: Recipe) -> None:
    model = build_model(recipe, 9)
    average = MovingAverage(model, 0.9, 0)
    expected = [parameter.detach().clone().double() for parameter in model.parameters()]
    for update in range(1, 6):
        for parameter in model.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        if update == 3:
            continue  # two updates at once, as under local SGD: the old average has waned twice
        keep = decay_at(0.9, update - 1) * (decay_at(0.9, update - 2) if update == 4 else 1.0)
        expected = [
            keep * old + (1 - keep) * new.double() for old, new in zip(expected, model.parameters(), strict=True)
        ]
        average.follow(model, update)
    for mine, true in zip(average.model.parameters(), expected, strict=True):
        torch.testing.assert_close(mine.double(), true, atol=1e-5, rtol=0)
        assert not mine.requires_grad


def test_at_first_the_start_is_forgotten() -> None:
    assert decay_at(0.999, 0) == pytest.approx(0.1)
    assert decay_at(0.999, 10**6) == 0.999


def test_the_average_is_what_is_validated_and_recognizes(run: Path, recipe: Recipe) -> None:
    last = checkpoints(run)[-1]
    averaged = read_weights(last, recipe.model_fingerprint())
    trained = read_weights(last, recipe.model_fingerprint(), trained=True)
    assert not torch.equal(averaged["head.weight"], trained["head.weight"])
    opened = open_recognizer(run, read_config(run), "last").model
    assert torch.equal(opened.state_dict()["head.weight"], averaged["head.weight"])
    wer = evaluate(run, split="valid", checkpoint="last").scores["wer"]
    assert wer == pytest.approx(read_state(last).wers[-1])


def test_training_is_what_it_is_without(run: Path, recipe: Recipe, tmp_path: Path) -> None:
    train(override_recipe(recipe, ["train.average_decay=0"]), tmp_path / "plain")
    last = checkpoints(run)[-1], checkpoints(tmp_path / "plain")[-1]
    fingerprint = recipe.model_fingerprint()
    mine, plain = (read_weights(path, fingerprint, trained=True) for path in last)
    assert all(torch.equal(mine[name], value) for name, value in plain.items())


class Interrupted(Exception):
    pass


@pytest.mark.parametrize(
    "settings", [[], ["optim.schedule=newbob", "optim.anneal_below=0.9", "train.validate_every=4"]]
)
def test_an_interrupted_run_goes_on_bit_for_bit(
    settings: list[str], recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its moving average too, and the learning rate that hangs on validations."""
    recipe = override_recipe(recipe, settings)
    true_update = Single.update

    def update(self: Single, batches: Any, number: int, *stop: Any) -> UpdateStats:
        if number == 14:
            raise Interrupted
        return true_update(self, batches, number, *stop)

    with monkeypatch.context() as patched:
        patched.setattr(Single, "update", update)
        with pytest.raises(Interrupted):
            train(recipe, tmp_path / "run")
    train(recipe, tmp_path / "run")
    train(recipe, tmp_path / "whole")
    fingerprint = recipe.model_fingerprint()
    found, whole = (checkpoints(tmp_path / name)[-1] for name in ("run", "whole"))
    for trained in (False, True):
        expected = read_weights(whole, fingerprint, trained=trained)
        mine = read_weights(found, fingerprint, trained=trained)
        assert all(torch.equal(mine[name], value) for name, value in expected.items())
    rates = [[record["lr"] for record in read_metrics(tmp_path / name) if record["event"] == "train"]
             for name in ("run", "whole")]  # fmt: skip
    assert rates[0] == rates[1]
    assert not settings or rates[0][-1] < 0.5 * max(rates[0])


def test_evaluate_averages(run: Path) -> None:
    done = evaluate(run, average="best-3")
    assert done.name == "test-best-3"
    assert done.scores["checkpoint"] == "best-3"
    best = evaluate(run)
    assert done.written != best.written
    assert done.scores["utterances"] == best.scores["utterances"]


def test_an_average_of_batch_normalisation_has_statistics_of_its_own(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from speechmill.train import weights

    crdnn = ["model.kind=crdnn", "model.cnn_channels=[4]", "model.rnn_layers=1", "model.rnn_size=8",
             "model.dnn_blocks=1", "model.dnn_size=8", "model.embedding_size=6", "model.decoder_size=8",
             "model.attention_size=8", "model.attention_channels=2", "model.attention_kernel=3",
             "train.updates=4", "train.validate_every=2", "train.checkpoint_every=2", "loss.ctc_epochs=0"]  # fmt: skip
    made = override_recipe(recipe, [*crdnn, "train.average_decay=0"])
    train(made, tmp_path / "run")
    asked: list[str] = []
    true = weights.refresh
    monkeypatch.setattr(weights, "refresh", lambda *args: (asked.append("refresh"), true(*args)))
    model = open_recognizer(tmp_path / "run", read_config(tmp_path / "run"), "last-2").model
    assert asked == ["refresh"]
    means = [module.running_mean for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    assert means
    ends = [read_weights(path, made.model_fingerprint()) for path in checkpoints(tmp_path / "run")[-2:]]
    name = next(name for name in ends[0] if name.endswith("running_mean"))
    middle = (ends[0][name] + ends[1][name]) / 2
    assert not torch.allclose(means[0], middle, atol=1e-7)


def test_newbob_and_early_stopping_in_training(recipe: Recipe, tmp_path: Path) -> None:
    settings = ["optim.schedule=newbob", "optim.lr=1.0e-9", "optim.anneal_factor=0.5", "train.updates=40",
                "train.validate_every=4", "train.stagnant_validations=3", "train.average_decay=0"]  # fmt: skip
    stopping = override_recipe(recipe, settings)
    report = train(stopping, tmp_path / "run")
    # At such a learning rate nothing changes: the first validation is the best one.
    assert (report.finished, report.updates) == (True, 16)
    assert "3 validations" in report.early
    rates = [record["lr"] for record in read_metrics(tmp_path / "run") if record["event"] == "train"]
    assert rates[-1] < rates[2]
    assert read_metrics(tmp_path / "run")[-1]["early"] == report.early
    again = train(stopping, tmp_path / "run")
    assert (again.already_whole, again.early) == (True, report.early)
    more = train(override_recipe(stopping, ["train.stagnant_validations=5"]), tmp_path / "run")
    assert (more.already_whole, more.updates) == (False, 24)
