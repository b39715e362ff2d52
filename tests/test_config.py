from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from speechmill.config import default_recipe, load_recipe, override_recipe, recipe_from_plain
from speechmill.errors import SpeechmillError
from speechmill.settings import CrdnnSettings, CtcSettings, Recipe

HPARAMS = Path(__file__).parents[1] / "hparams"
Load = Callable[..., Recipe]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Write recipe files (`a` is the one that is loaded) and load them with overrides."""

    def loaded(a: str, overrides: tuple[str, ...] = (), **others: str) -> Recipe:
        for name, text in {"a": a, **others}.items():
            (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
        return load_recipe(tmp_path / "a.yaml", overrides)

    return loaded


def refusal(load: Load, *texts: str, **others: str) -> str:
    """The one line that a recipe is refused with, without the folders."""
    with pytest.raises(SpeechmillError) as caught:
        load(texts[0], texts[1:], **others)
    message = str(caught.value)
    assert "\n" not in message
    return re.sub(r"/\S*/", "", message)


@pytest.mark.parametrize("path", sorted(HPARAMS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_project_loads(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe_from_plain(yaml.safe_load(yaml.safe_dump(recipe.plain())), path) == recipe


def test_the_recipes_of_the_original_are_there() -> None:
    names = ["dataset", "tokenizer", "train", "train_ddp", "train_hogwild", "demo"]
    names += [f"dataset_{size}" for size in ("debug", 80, 200, 2000, 8000, 26000)]
    assert {f"{name}.yaml" for name in names} <= {path.name for path in HPARAMS.iterdir()}
    assert load_recipe(HPARAMS / "dataset_8000.yaml").select.hours == 8000
    train = load_recipe(HPARAMS / "train.yaml")
    assert isinstance(train.model, CrdnnSettings)
    assert (train.optim.lr, train.train.nominal_epoch, train.schedule.limit_seconds) == (1e-4, 5000, 240)


def test_an_empty_file_is_the_defaults(load: Load) -> None:
    assert load("") == load("{}\n") == Recipe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train:\n  updates: 5\n  udpates: 6\n", "line 3: unknown key 'train.udpates'; did you mean 'train.upd"),
        ("\ntrian:\n  updates: 5\n", "a.yaml, line 2: unknown key 'trian'; did you mean 'train'?"),
        ("train:\n  lr: 5\n", "a.yaml, line 2: unknown key 'train.lr'; did you mean 'optim.lr'?"),
        ("lr: 5\n", "a.yaml, line 1: unknown key 'lr'; did you mean 'optim.lr'?"),
        ("select:\n  shares: {trian: 1}\n", "unknown key 'select.shares.trian'; did you mean 'select.shares.train'?"),
        ("model:\n  kind: ctc\n  rnn_size: 5\n", "unknown key 'model.rnn_size'; it belongs to model.kind crdnn."),
        ("loss:\n  qqqq: 5\n", "line 2: unknown key 'loss.qqqq'; known here: ctc_weight, ctc_epochs, label_smoothing"),
        ("1: 2\n", "line 1: unknown key '1'; known here: name"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_named_with_its_line_and_the_nearest_known_one(load: Load, text: str, message: str) -> None:
    assert message in refusal(load, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train:\n  updates: many\n", "a.yaml, line 2: train.updates: Input should be a valid integer"),
        ("train:\n  updates: 1.5\n", "line 2: train.updates: Input should be a valid integer"),
        ("train:\n  updates: yes\n", "line 2: train.updates: found True, which is no value of this key."),
        ("train:\n  updates: 0\n", "line 2: train.updates: Input should be greater than or equal to 1, found 0."),
        ("optim:\n  lr: .inf\n", "line 2: optim.lr: Input should be a finite number, found inf."),
        ("optim:\n  lr: .nan\n", "line 2: optim.lr: Input should be a finite number, found nan."),
        ("train: 5\n", "line 1: train is a section with the keys strategy"),
        ("train:\n", "line 1: train is a section with the keys strategy"),
        ("schedule:\n  order: up\n", "line 2: schedule.order: Input should be 'random', 'ascending' or"),
        ("select:\n  exclude: [1001]\n", "line 2: select.exclude.0: Input should be a valid string (put it in quotes)"),
        ("select:\n  seed: null\n", "line 2: select.seed: Input should be a valid integer, found None."),
        ("optim:\n  betas: [0.9]\n", "line 2: optim.betas.1: Field required"),
        ("model:\n  kind: rnn\n", "line 1: model: kind is not known, expected 'crdnn', 'ctc' or 'conformer'."),
        ("model:\n  dropout: 0.3\n", "line 1: model: kind is missing, expected 'crdnn', 'ctc' or 'conformer'."),
        ("model: ctc\n", "line 1: model: "),
        ("select:\n  drop_text: ['(']\n", "line 1: select: drop_text: '(' is not a regular expression"),
        ("- a\n", "a.yaml: a mapping of sections was expected, found list."),
        ("train: [\n", "a.yaml, line 2: not valid YAML"),
        ("name: a\ntrain: {seed: 1}\ntrain: {seed: 2}\n", "a.yaml, line 3: train is there twice, first in line 2."),
        ("optim:\n  lr: 1\n  lr: 2\n", "a.yaml, line 3: optim.lr is there twice, first in line 2."),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_line(load: Load, text: str, message: str) -> None:
    assert message in refusal(load, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "shard:\n  sample_rate: 8000\nfeatures: {sample_rate: 16000}\n",
            "features.sample_rate 16000 is not shard.sample_rate 8000.",
        ),
        ("schedule:\n  limit_seconds: 3\n", "line 1: schedule: limit_seconds 3 is below target_seconds 180."),
        ("select:\n  min_seconds: 70\n", "line 1: select: min_seconds 70 is not below max_seconds 60."),
        ("select:\n  shares: {train: 0.5}\n", "line 2: select.shares: train + valid + test is 0.7, expected 1."),
        ("train: {processes: 2}\n", "train.strategy single has one process, train.processes is 2."),
        ("model: {kind: ctc}\nsearch: {kind: beam, ctc_weight: 0.3}\n", "search.ctc_weight is of attention models"),
    ],
)
def test_a_clash_names_both_sides(load: Load, text: str, message: str) -> None:
    assert message in refusal(load, text)


def test_features_take_the_rate_of_the_shards(load: Load) -> None:
    assert load("shard:\n  sample_rate: 8000\n").features.sample_rate == 8000
    assert default_recipe(["shard.sample_rate=8000"]).features.sample_rate == 8000
    with pytest.raises(SpeechmillError, match=r"^command line: unknown key 'shard\.sample_rat'"):
        default_recipe(["shard.sample_rat=8000"])


def test_numbers_with_an_exponent_need_no_point(load: Load) -> None:
    assert load("optim: {lr: 1e-3}").optim.lr == 1e-3  # YAML reads a text here
    assert load("", ("optim.lr=2e-3",)).optim.lr == 2e-3


def test_the_file_wins_over_what_it_includes_and_the_command_line_over_both(load: Load) -> None:
    others = {
        "b": "include: c.yaml\ntrain: {updates: 2, log_every: 2}\n",
        "c": "name: c\ntrain: {updates: 1, log_every: 1, seed: 1, validate_every: 1}\n",
    }
    recipe = load("include: b.yaml\ntrain:\n  updates: 3\n", ("train.seed=4",), **others)
    assert recipe.name == "c"
    train = recipe.train
    assert (train.updates, train.log_every, train.validate_every, train.seed) == (3, 2, 1, 4)
    assert load("train: {updates: 3}\ninclude: b.yaml\n", **others).train.updates == 3  # wherever `include` stands
    assert load("", ("train.seed=4", "train.seed=5")).train.seed == 5


def test_of_several_includes_the_later_wins(load: Load) -> None:
    recipe = load("include: [b.yaml, c.yaml]\n", b="optim: {lr: 1, clip_norm: 1}\n", c="optim: {lr: 2}\n")
    assert (recipe.optim.lr, recipe.optim.clip_norm) == (2, 1)


def test_an_error_in_an_included_file_names_that_file(load: Load) -> None:
    assert refusal(load, "include: b.yaml\n", b="\noptim: {rl: 1}\n").startswith(
        "b.yaml, line 2: unknown key 'optim.rl'"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("include: a.yaml\n", "includes itself"),
        ("include: b.yaml\n", "includes itself"),
        ("name: a\ninclude: nothere.yaml\n", "a.yaml, line 2: include: nothere.yaml: no such file."),
        ("include: 5\n", "a.yaml, line 1: include: a recipe file or a list of them was expected, found 5."),
        ("name: a\ninclude:\n", "a.yaml, line 2: include: a recipe file or a list of them was expected, found None."),
        ("include: [5]\n", "include: a recipe file or a list of them was expected, found [5]."),
    ],
)
def test_a_wrong_include_is_one_line(load: Load, text: str, message: str) -> None:
    assert message in refusal(load, text, b="include: a.yaml\n")


def test_the_same_file_may_be_included_twice(load: Load) -> None:
    assert load("include: [b.yaml, c.yaml]\n", b="include: c.yaml\n", c="name: c\n").name == "c"


def test_another_kind_of_model_drops_the_settings_of_the_included_one(load: Load) -> None:
    b = "model: {kind: crdnn, rnn_size: 3, dropout: 0.5}\n"
    assert load("include: b.yaml\nmodel: {kind: ctc, size: 7}\n", b=b).model == CtcSettings(size=7)
    assert load("include: b.yaml\nmodel: {dropout: 0.2}\n", b=b).model == CrdnnSettings(rnn_size=3, dropout=0.2)
    assert load(b, ("model.kind=ctc",)).model == CtcSettings()
    assert load(b, ("model={kind: ctc, size: 8}",)).model == CtcSettings(size=8)
    assert load(b, ("model.size=9", "model.kind=ctc")).model == CtcSettings(size=9)  # in any order


def test_a_fragment_without_a_kind_is_kept(load: Load) -> None:
    recipe = load("include: b.yaml\nmodel: {kind: ctc}\n", b="model: {size: 5}\n")
    assert recipe.model == CtcSettings(size=5)


def test_overrides_are_yaml(load: Load) -> None:
    recipe = load(
        "augment: {noise_db: [5, 20]}\nselect: {hours: 3}\n",
        ("select.include=[a, 'b c']", "select.hours=null", "augment.noise_db=null", "select.test_where={speaker: [x]}"),
    )
    assert recipe.select.include == ["a", "b c"]
    assert recipe.select.hours is None
    assert recipe.augment.noise_db is None
    assert recipe.select.test_where == {"speaker": ["x"]}
    assert load("", ("data.shards=a=b",)).data.shards == "a=b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train", "'train': an override is written key.path=value"),
        ("train.updates", "an override is written key.path=value"),
        ("=3", "an override is written key.path=value"),
        ("train.updates=[1", "'train.updates=[1': the value is not valid YAML."),
        ("train.udpates=3", "command line: unknown key 'train.udpates'; did you mean 'train.updates'?"),
        ("train.updates=x", "command line: train.updates: Input should be a valid integer"),
        ("train.updates.x=3", "command line: train.updates: Input should be a valid integer"),
        ("model.kind.x=ctc", "command line: model: kind is not known, expected 'crdnn', 'ctc' or 'conformer'."),
        ("train.=3", "command line: unknown key 'train.'"),
    ],
)
def test_a_wrong_override_is_one_line(load: Load, override: str, message: str) -> None:
    assert message in refusal(load, "name: a\n", override)


def test_override_recipe_changes_what_is_asked_and_nothing_else() -> None:
    recipe = Recipe(model=CtcSettings(size=8))
    changed = override_recipe(recipe, ["search.kind=beam", "model.dropout=0"])
    assert changed.search.kind == "beam"
    assert changed.model == CtcSettings(size=8, dropout=0)
    assert override_recipe(changed, ["search.kind=greedy", "model.dropout=0.1"]) == recipe


def test_the_model_fingerprint_names_what_weights_fit() -> None:
    recipe = Recipe()
    assert recipe.model_fingerprint() == override_recipe(recipe, ["train.updates=3", "optim.lr=1"]).model_fingerprint()
    for override in ("model.rnn_size=8", "features.n_mels=80", "tokenizer.size=7"):
        assert recipe.model_fingerprint() != override_recipe(recipe, [override]).model_fingerprint()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().train.updates = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("features.window_ms=32", "features: window_ms 32 is 512 samples, more than n_fft 400"),
        ("augment.speed=[1.1, 0.9]", "augment: speed: from 1.1 to 0.9; the lower number comes first"),
        ("augment.warp=[1.1, 0.9]", "augment: warp: from 1.1 to 0.9; the lower number comes first"),
        ("augment.noise_db=[20, 5]", "augment: noise_db: from 20 to 5; the lower number comes first"),
        ("augment.time_masks=2", "augment: time_masks 2 have no width; set time_mask_frames and time_mask_share"),
        ("augment.frequency_masks=2", "augment: frequency_masks 2 have no width; set frequency_mask_bins"),
        ("optim.warmup_updates=250000", "optim.warmup_updates 250000 is not below train.updates 250000"),
    ],
)
def test_settings_that_would_fail_or_have_no_effect_clash(load: Load, override: str, message: str) -> None:
    assert message in refusal(load, "name: a\n", override)


def test_the_settings_beside_those_clashes_are_taken() -> None:
    asked = ["features.window_ms=32", "features.n_fft=512", "augment.speed=[1.1, 1.1]", "augment.time_masks=2"]
    asked += ["augment.time_mask_frames=5", "optim.warmup_updates=9", "train.updates=10", "augment.time_mask_share=0.1"]
    assert override_recipe(Recipe(), asked).augment.speed == (1.1, 1.1)
