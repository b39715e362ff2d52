"""What makes the ways of the laboratory comparable: each hears as much audio, with the settings of its own command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from benchmarks import lab

from speechmill.config import load_recipe, override_recipe
from speechmill.settings import Recipe
from speechmill.tokenizer import load_tokenizer
from speechmill.train.data import open_dataset
from trained import tiny_recipe, write_recipe

# Multiples of two periods of local SGD: an update of two batches is half as many of them.
LONG = ["train.updates=128", "train.validate_every=32", "train.checkpoint_every=32", "optim.warmup_updates=8",
        "schedule.batches_per_update=1", "select.max_seconds=2.5"]  # fmt: skip
Way = tuple[str, int]


@pytest.fixture(scope="module")
def recipe(shards: Path, tokenizer_path: Path) -> Recipe:
    return override_recipe(tiny_recipe(shards, tokenizer_path), LONG)


@pytest.fixture(scope="module")
def trained(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> dict[Way, Recipe]:
    """By way, the recipe that the command of a run would train."""
    work = tmp_path_factory.mktemp("lab")
    data = lab.place("all", work / "demo")
    shutil.copytree(recipe.data.shards, data / "shards")
    load_tokenizer(Path(recipe.data.tokenizer)).save(work / "demo" / "tokenizer.model")
    path = write_recipe(recipe, work / "recipe.yaml")
    found: dict[Way, Recipe] = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(lab.RECIPES, "demo", path)
        for way in lab.CONDITIONS:
            calls: list[tuple[object, ...]] = []
            patched.setattr(lab, "speechmill", lambda *words, calls=calls: calls.append(words))
            lab.carry_out(lab.Run("strategy", "demo", way, 3), work / "run", work, ["loss.ctc_weight=0.4"])
            train, evaluate = calls
            assert train[:4] == ("train", path, "--run", work / "run")
            assert evaluate == ("evaluate", work / "run", "--split", "test")
            found[way.name, way.processes] = load_recipe(path, [str(word) for word in train[4:]])
    return found


def samples_heard(recipe: Recipe) -> int:
    schedule = open_dataset(recipe, [0]).schedule
    return sum(schedule.samples(k)[0] for k in range(recipe.train.updates * recipe.schedule.batches_per_update))


def test_every_way_hears_as_much_audio(trained: dict[Way, Recipe]) -> None:
    heard = {way: samples_heard(recipe) for way, recipe in trained.items()}
    whole = heard["single", 1]
    for (name, processes), samples in heard.items():
        if "third" in name:  # up to the end of its last batch
            assert samples == pytest.approx(whole, rel=0.01), name
        else:
            assert samples == whole, (name, processes)
    updates = trained["single, a third of the batch", 1].train.updates
    assert updates != 3 * 128, "long utterances are batches by themselves: three times as many would be another amount"


def test_ways_differ_in_what_is_named_and_in_nothing_else(trained: dict[Way, Recipe]) -> None:
    single = trained["single", 1]
    assert (single.train.seed, single.schedule.seed, single.loss.ctc_weight) == (3, 3, 0.4)
    own = {"train.strategy", "train.processes", "train.hogwild_moments", "train.hogwild_alone",
           "schedule.batches_per_update", "schedule.target_seconds", "schedule.limit_seconds", "train.updates",
           "train.validate_every", "train.checkpoint_every", "optim.warmup_updates", "optim.lr"}  # fmt: skip
    for (name, processes), recipe in trained.items():
        assert differing(recipe, single) <= own, name
        assert recipe.train.processes == processes
    alone = trained["hogwild, an eighth alone", 2]
    assert differing(alone, trained["hogwild", 2]) == {"train.hogwild_alone"}
    assert alone.train.hogwild_alone == 16
    assert differing(trained["ddp", 2], trained["accumulation", 1]) == {"train.strategy", "train.processes"}


@pytest.mark.parametrize(
    ("way", "step"),
    [
        ("accumulation", 2.0),
        ("ddp", 2.0),
        ("hogwild", 1.0),
        ("local_sgd", 1.0),
        ("single, a third of the batch", 1 / 3),
    ],
)
def test_the_learning_rate_goes_with_the_root_of_the_audio_behind_a_step(
    way: str, step: float, trained: dict[Way, Recipe]
) -> None:
    found = next(recipe for (name, _), recipe in trained.items() if name == way)
    assert found.optim.lr == pytest.approx(trained["single", 1].optim.lr * step**0.5, rel=1e-3)


def differing(recipe: Recipe, other: Recipe) -> set[str]:
    """Settings in which two recipes differ."""
    plain, against = recipe.plain(), other.plain()
    return {
        f"{section}.{key}"
        for section, values in plain.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if value != against[section][key]
    }
