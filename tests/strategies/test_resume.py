"""A checkpoint of one strategy goes on with another, or with another number of processes, over the same updates."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import on_ranks

from speechmill.config import override_recipe
from speechmill.group import Group
from speechmill.metrics import read_metrics
from speechmill.settings import Recipe
from speechmill.strategies.hogwild import Hogwild
from speechmill.train.checkpoint import checkpoints, find_checkpoint, read_state
from speechmill.train.loop import train
from speechmill.train.prepare import prepare
from trained import tiny_recipe

AVERAGING = ["train.strategy=local_sgd", "train.processes=2", "train.average_every=4"]
OUTER = [*AVERAGING, "train.outer_lr=0.7", "train.outer_momentum=0.9"]
DDP = ["train.strategy=ddp", "train.processes=2"]
HOGWILD = ["train.strategy=hogwild", "train.processes=2"]
SINGLE = ["train.strategy=single"]


@pytest.fixture(scope="module")
def recipe(shards: Path, tokenizer_path: Path) -> Recipe:
    return override_recipe(
        tiny_recipe(shards, tokenizer_path), ["optim.schedule=constant", "optim.warmup_updates=0", "train.log_every=8"]
    )


def carried_out(recipe: Recipe, run: Path, *, until: int, by: list[str]) -> None:
    assert train(override_recipe(recipe, [*by, f"train.updates={until}"]), run).updates == until


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (OUTER, SINGLE),
        (DDP, OUTER),
        (HOGWILD, DDP),
        (AVERAGING, HOGWILD),
    ],
    ids=lambda way: way[0].partition("=")[2],
)
def test_another_strategy_goes_on_over_the_same_updates(
    first: list[str], then: list[str], recipe: Recipe, tmp_path: Path
) -> None:
    carried_out(recipe, tmp_path / "run", until=8, by=first)
    saved = torch.load(find_checkpoint(tmp_path / "run", "last") / "optimizer.pt", weights_only=True)["state"]
    # Hogwild's is one worker's, who may have made any number of them.
    assert first == HOGWILD or {value["step"].item() for value in saved.values()} == {8.0}
    goes_on = override_recipe(recipe, [*then, "train.updates=16"])
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    size = 1 if then in (SINGLE, HOGWILD) else 2
    for states in on_ranks(size, optimizers, goes_on, tmp_path / "copy", folder=tmp_path):
        for state in states:
            assert_same_state(state, saved)
    carried_out(recipe, tmp_path / "run", until=16, by=then)
    carried_out(recipe, tmp_path / "single", until=16, by=SINGLE)
    found, expected = (read_state(checkpoints(tmp_path / run)[-1]) for run in ("run", "single"))
    assert (found.update, found.samples, found.lost) == (expected.update, expected.samples, 0), "each batch once"


def assert_same_state(found: dict[int, Any], expected: dict[int, Any]) -> None:
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert all(torch.equal(found[key][name], value) for name, value in values.items())


def optimizers(group: Group, recipe: Recipe, run: Path) -> list[dict[int, Any]]:
    """The state with which a process, or under Hogwild each of the workers, goes on."""
    strategy = prepare(recipe, run, group).strategy
    with closing(strategy):
        return strategy.shared.states() if isinstance(strategy, Hogwild) else [strategy.optimizer.state_dict()["state"]]


def test_local_sgd_goes_on_with_more_ranks_over_the_same_updates(recipe: Recipe, tmp_path: Path) -> None:
    four = override_recipe(recipe, ["schedule.batches_per_update=4"])
    carried_out(four, tmp_path / "run", until=8, by=AVERAGING)
    carried_out(four, tmp_path / "run", until=16, by=[*AVERAGING, "train.processes=4"])
    carried_out(four, tmp_path / "single", until=16, by=SINGLE)
    found, expected = (read_state(checkpoints(tmp_path / run)[-1]) for run in ("run", "single"))
    assert (found.update, found.samples) == (expected.update, expected.samples), "each batch once"


def test_local_sgd_goes_on_as_if_it_had_not_ended(recipe: Recipe, tmp_path: Path) -> None:
    carried_out(recipe, tmp_path / "twice", until=8, by=OUTER)
    carried_out(recipe, tmp_path / "twice", until=16, by=OUTER)
    carried_out(recipe, tmp_path / "once", until=16, by=OUTER)
    found, expected = (
        torch.load(find_checkpoint(tmp_path / run, "last") / "model.pt", weights_only=True) for run in ("twice", "once")
    )
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 2), (1, 4)])
def test_ddp_goes_on_with_another_number_of_ranks_to_rounding(
    before: int, after: int, accumulated: Path, exact: Recipe, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    carried_out(exact, run, until=8, by=["train.strategy=ddp", f"train.processes={before}"])
    carried_out(exact, run, until=16, by=["train.strategy=ddp", f"train.processes={after}"])
    found, expected = (
        torch.load(find_checkpoint(folder, "last") / "model.pt", weights_only=True) for folder in (run, accumulated)
    )
    for name, value in expected.items():
        if value.is_floating_point():
            near = 1e-8 * value.abs().max().item()
            torch.testing.assert_close(found[name], value, rtol=1e-8, atol=near, msg=lambda m, n=name: f"{n}: {m}")
    losses = [
        [record["loss"] for record in read_metrics(folder) if record["event"] == "train"]
        for folder in (run, accumulated)
    ]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-12, atol=0)


@pytest.fixture(scope="module")
def exact(recipe: Recipe) -> Recipe:
    """Four batches an update, in float64."""
    return override_recipe(recipe, ["train.precision=float64", "schedule.batches_per_update=4", "train.log_every=1"])


@pytest.fixture(scope="module")
def accumulated(exact: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("accumulated") / "run"
    carried_out(exact, run, until=16, by=SINGLE)
    return run
