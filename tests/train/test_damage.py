"""Damaged utterances while training: left out, counted once, named, and too many stop it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from speechmill.config import override_recipe
from speechmill.errors import SpeechmillError
from speechmill.loader import Damage
from speechmill.metrics import read_metrics
from speechmill.settings import Recipe
from speechmill.shards.index import Index, open_index
from speechmill.train.checkpoint import TrainState, checkpoints, read_state
from speechmill.train.damage import name_damage
from speechmill.train.loop import train
from trained import tiny_recipe


@pytest.fixture
def spoiled(shards: Path, tmp_path: Path) -> Index:
    return open_index(Path(shutil.copytree(shards, tmp_path / "spoiled")))


def spoil(index: Index, row: int) -> str:
    with index.shard_path(int(index.shard[row])).open("r+b") as stream:
        stream.seek(int(index.offset[row]) + int(index.size[row]) // 2)
        stream.write(bytes(40))
    return index.id(row)


def recipe_of(index: Index, tokenizer_path: Path, *overrides: str) -> Recipe:
    return override_recipe(tiny_recipe(index.folder, tokenizer_path), ["train.updates=12", *overrides])


def test_each_utterance_counts_once_however_often_it_comes_by(tmp_path: Path) -> None:
    state = TrainState(update=7)
    seen = [Damage("a", "s.tar: a is damaged."), Damage("b", "s.tar: b is damaged."), Damage("a", "s.tar: again.")]
    records = list(name_damage(seen, state, 2, tmp_path))
    assert [(record["event"], record["update"], record["id"]) for record in records] == [
        ("damaged", 7, "a"),
        ("damaged", 7, "b"),
    ]
    assert state.damaged == ["a", "b"]
    assert list(name_damage(seen, state, 2, tmp_path)) == []


def test_one_more_than_allowed_is_named_and_then_told(tmp_path: Path) -> None:
    state = TrainState(damaged=["a"])
    found = name_damage([Damage("b", "s.tar: b is damaged.")], state, 1, tmp_path)
    assert next(found)["id"] == "b"
    with pytest.raises(
        SpeechmillError, match=r"2 utterances cannot be read, train\.max_damaged allows 1.*b is damaged"
    ):
        next(found)


@pytest.mark.parametrize(
    "how",
    [
        ["train.loader_workers=0"],
        ["train.loader_workers=1"],
        ["train.strategy=ddp", "train.processes=2"],
        ["train.strategy=local_sgd", "train.processes=2", "train.average_every=2"],
        ["train.strategy=hogwild", "train.processes=2"],
    ],
)
def test_training_goes_on_without_what_is_damaged(
    spoiled: Index, tokenizer_path: Path, tmp_path: Path, how: list[str]
) -> None:
    names = {spoil(spoiled, int(spoiled.rows("train")[k])) for k in (1, 9)} | {
        spoil(spoiled, int(spoiled.rows("valid")[0]))
    }
    run = tmp_path / "run"
    train(recipe_of(spoiled, tokenizer_path, *how), run)
    records = read_metrics(run)
    named = [record for record in records if record["event"] == "damaged"]
    assert {record["id"] for record in named} == names
    assert len(named) == 3
    assert all("is damaged" in record["reason"] for record in named)
    assert [record["damaged"] for record in records if record["event"] == "train"][-1] == 3
    valid = [record["utterances"] for record in records if record["event"] == "valid"]
    assert set(valid) == {len(spoiled.rows("valid")) - 1}


def test_stopped_in_between_it_is_the_same_training(spoiled: Index, tokenizer_path: Path, tmp_path: Path) -> None:
    for k in range(0, 30, 3):
        spoil(spoiled, int(spoiled.rows("train")[k]))
    recipe = recipe_of(spoiled, tokenizer_path, "optim.schedule=constant")
    train(recipe, tmp_path / "at_once")
    train(override_recipe(recipe, ["train.updates=4"]), tmp_path / "twice")
    train(recipe, tmp_path / "twice")
    states = [read_state(checkpoints(tmp_path / name)[-1]) for name in ("at_once", "twice")]
    assert states[0].damaged == states[1].damaged
    assert len(states[0].damaged) == 10
    models = [(checkpoints(tmp_path / name)[-1] / "model.pt").read_bytes() for name in ("at_once", "twice")]
    assert models[0] == models[1]


def test_too_much_damage_stops_and_can_be_gone_on_from(spoiled: Index, tokenizer_path: Path, tmp_path: Path) -> None:
    for path in spoiled.folder.glob("train-*.tar"):
        path.write_bytes(path.read_bytes()[:3000])
    run, recipe = tmp_path / "run", recipe_of(spoiled, tokenizer_path, "train.max_damaged=5")
    with pytest.raises(SpeechmillError, match=r"6 utterances cannot be read, train\.max_damaged allows 5; mend"):
        train(recipe, run)
    assert len([record for record in read_metrics(run) if record["event"] == "damaged"]) == 6
    assert train(override_recipe(recipe, ["train.max_damaged=100"]), run).finished
