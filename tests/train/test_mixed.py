"""The whole way with several shard folders: train, stop, resume, evaluate."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from conftest import SHARD_SETTINGS
from speechmill.config import load_recipe, override_recipe
from speechmill.errors import SpeechmillError
from speechmill.evaluate import evaluate
from speechmill.settings import Recipe
from speechmill.shards.write import shard_manifest
from speechmill.train.checkpoint import find_checkpoint
from speechmill.train.loop import train
from speechmill.train.runlog import read_config
from trained import tiny_recipe


@pytest.fixture(scope="module")
def other(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed") / "other"
    shard_manifest(manifest, folder, SHARD_SETTINGS.model_copy(update={"seed": 7}), processes=1)
    return folder


@pytest.fixture(scope="module")
def recipe(shards: Path, other: Path, tokenizer_path: Path) -> Recipe:
    alone = tiny_recipe(shards, tokenizer_path)
    return override_recipe(
        alone, [f"data.shards=[{{path: {shards}}}, {{path: {other}, weight: 0.5}}]", "optim.schedule=constant"]
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(find_checkpoint(run, "last") / "model.pt", weights_only=True)
    return loaded


def test_several_folders_are_trained_on_resumed_and_evaluated(
    recipe: Recipe, shards: Path, other: Path, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.plain()))
    whole = override_recipe(load_recipe(path), ["train.updates=16"])
    assert train(whole, tmp_path / "whole").finished
    assert train(override_recipe(whole, ["train.updates=7"]), tmp_path / "parts").updates == 7
    assert train(whole, tmp_path / "parts").updates == 16
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(first[name], second[name]) for name in first)
    kept = read_config(tmp_path / "whole").data.shards
    assert [(folder.path, folder.weight) for folder in kept if not isinstance(folder, str)] == [
        (str(shards.resolve()), 1.0), (str(other.resolve()), 0.5)
    ]  # fmt: skip
    done = evaluate(tmp_path / "whole", split="test")
    assert done.scores["utterances"] == 2 * 12


def test_a_run_is_not_continued_with_another_mix(recipe: Recipe, shards: Path, tmp_path: Path) -> None:
    train(override_recipe(recipe, ["train.updates=4"]), tmp_path / "run")
    for mix in (str(shards), f"[{{path: {shards}, weight: 3}}]"):
        with pytest.raises(SpeechmillError, match="was trained on other shards"):
            train(override_recipe(recipe, [f"data.shards={mix}"]), tmp_path / "run")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[]", "data.shards is not set"),
        ("[{path: a, weight: 0}]", "greater than 0"),
        ("[{weight: 1}]", r"data\.shards\.0\.path: Field required"),
        ("[{path: a, wieght: 1}]", r"data\.shards\.0\.wieght: Extra inputs are not permitted"),
        ("3", r"data\.shards: Input should be a valid string"),
        ("[a, b]", r"data\.shards\.0: .*'a'"),
    ],
)
def test_folders_that_make_no_sense(value: str, message: str, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match=message):
        train(override_recipe(recipe, [f"data.shards={value}"]), tmp_path / "run")


def test_a_folder_that_is_gone(recipe: Recipe, other: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(other, tmp_path / "copy"))
    next(copy.glob("*.tar")).unlink()
    with pytest.raises(SpeechmillError, match="this shard of the index is gone"):
        train(override_recipe(recipe, [f"data.shards=[{{path: {other}}}, {{path: {copy}}}]"]), tmp_path / "run")
