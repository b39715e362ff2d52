"""The recipes after the thesis: each trains some updates on a small demo corpus, and recognizes with its own search.

And the program that compares variants of them: which commands it runs, with which settings.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("espeakng_loader", reason="needs speechmill[demo]")

from benchmarks import recipes, recipes_plan

from speechmill.artefact import read_json, write_json
from speechmill.config import load_recipe
from speechmill.corpora import import_corpus
from speechmill.corpora.demo import make_demo_corpus
from speechmill.evaluate import evaluate
from speechmill.metrics import read_metrics
from speechmill.select import select_manifest
from speechmill.settings import recipe_text
from speechmill.shards.write import shard_manifest
from speechmill.tokenizer import train_tokenizer
from speechmill.train.loop import train

HPARAMS = Path(__file__).resolve().parents[1] / "hparams"
SMALL = [
    "select.shares={train: 0.6, valid: 0.2, test: 0.2}", "select.disjoint=[]", "shard.shard_seconds=60",
    "tokenizer.size=80", "features.statistics_batches=3", "train.updates=12", "train.validate_every=12",
    "train.checkpoint_every=12", "train.log_every=2", "optim.warmup_updates=3", "train.threads=1", "train.device=cpu",
    "train.validate_utterances=6",
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with shards and tokenizer of a demo corpus of nine minutes."""
    folder = tmp_path_factory.mktemp("recipes")
    make_demo_corpus(folder / "corpus", calls=6, hours=0.15, seed=1, workers=2)
    recipe = load_recipe(HPARAMS / "demo.yaml", SMALL)
    import_corpus("bizspeech", folder / "corpus", folder / "corpus.parquet")
    select_manifest(folder / "corpus.parquet", folder / "selected.parquet", recipe.select)
    shard_manifest(folder / "selected.parquet", folder / "shards", recipe.shard, processes=1)
    train_tokenizer(folder / "selected.parquet", folder / "tokenizer.model", recipe.tokenizer)
    return folder


@pytest.mark.parametrize("name", ["conformer", "ctc_small"])
def test_it_learns_in_a_few_updates(name: str, made: Path, tmp_path: Path) -> None:
    data = [f"data.shards={made / 'shards'}", f"data.tokenizer={made / 'tokenizer.model'}"]
    # Untrained decoders do not end: they are searched to the limit of their length.
    search = ["search.beam=2"] if name == "conformer" else []
    recipe = load_recipe(HPARAMS / f"{name}.yaml", [*SMALL, *data, *search])
    report = train(recipe, tmp_path / "run")
    assert report.finished
    losses = [record["loss"] for record in read_metrics(tmp_path / "run") if record["event"] == "train"]
    assert len(losses) == 6
    assert losses[-1] < 0.8 * losses[0]
    done = evaluate(tmp_path / "run")
    assert done.scores["search"] == recipe.search.model_dump(mode="json")
    lines = done.written.with_suffix(".utterances.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == done.scores["utterances"]
    for row in rows:
        words = [word for word, _, _, _ in row["times"]]
        assert words == row["hypothesis"].split()


def test_each_variant_is_trained_once_by_the_commands_that_users_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["constant", "constant, average best-5", "constant, stagnant validations 2"]
    calls = carried_out(tmp_path, monkeypatch, "demo", names)
    run = recipes_plan.Run("demo", recipes_plan.named("constant", "demo"), 1)
    folder, data = run.folder(tmp_path), tmp_path / "demo"
    written = folder.parent / f"{folder.name}.yaml"
    assert load_recipe(written) == run.recipe, "all settings but seeds and places"
    train = ["train", written, "--run", folder, "train.seed=1", "schedule.seed=1",
             f"data.shards={data / 'all' / 'shards'}", f"data.tokenizer={data / 'tokenizer.model'}"]  # fmt: skip
    shipped = ["search.beam=8", "search.ctc_weight=0.0", "search.kind=beam", "search.length_bonus=1.5",
               "search.lm_order=6", "search.lm_weight=0.8"]  # fmt: skip
    expected = [train]
    for which in (["--checkpoint", "best"], ["--average", "best-5"], ["--checkpoint", "600"]):
        both = [["evaluate", folder, "--split", split, *which] for split in ("valid", "test")]
        expected += [train, *both, [*train, *shipped], *both]
    assert calls == expected
    assert len(list((data / "records").glob("constant*.json"))) == 3


def test_a_variant_of_the_text_has_a_tokenizer_of_its_own_and_each_seed_its_test_speaker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, train, _, *evaluate = carried_out(tmp_path, monkeypatch, "digits", ["normalised text, 24 pieces"])
    run = recipes_plan.Run("digits", recipes_plan.named("normalised text, 24 pieces", "digits"), 1)
    data, folder = tmp_path / "digits-jackson", run.folder(tmp_path)
    model = data / "tokenizer-normalised-text-24-pieces.model"
    assert tokenizer == ["tokenizer", data / "all" / "selected.parquet", model, "--recipe", train[1],
                         "tokenizer.text=normalized", "tokenizer.size=24"]  # fmt: skip
    assert set(train[4:]) == {
        "train.seed=1", "schedule.seed=1", f"data.shards={data / 'all' / 'shards'}", f"data.tokenizer={model}",
        "select.test_where={speaker: [jackson]}", "select.shares={train: 0.9, valid: 0.1, test: 0.0}",
    }  # fmt: skip
    assert evaluate == [["evaluate", folder, "--split", split, "--checkpoint", "best"] for split in ("valid", "test")]


def test_rooms_are_those_of_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, *_ = carried_out(tmp_path, monkeypatch, "digits", ["rooms"])
    assert train[-1] == f"augment.reverb_folder={tmp_path / 'rooms' / '8000'}"


@pytest.mark.parametrize(
    ("wers", "update", "best"),
    [([0.9, 0.5, 0.6, 0.5, 0.4], 1200, "600"), ([0.9, 0.8, 0.7], 900, "900"), ([0.9, 0.8, 0.85, 0.7], 1200, "1200")],
)
def test_a_run_that_went_on_tells_where_it_would_have_ended(wers: list[float], update: int, best: str) -> None:
    recipe = recipes_plan.Run("demo", recipes_plan.named("constant", "demo"), 0).recipe
    patient = recipe.train.model_copy(update={"stagnant_validations": 2})
    losses = [1.0 / (1 + place) for place in range(len(wers))]
    assert recipes.ended(recipe.model_copy(update={"train": patient}), losses, wers) == (update, best)
    patient = recipe.train.model_copy(update={"stagnant_epochs": 1, "stagnant_share": 0.45})
    # Halved, then a third less: that is no longer enough.
    assert recipes.ended(recipe.model_copy(update={"train": patient}), losses, wers)[0] == 900


def test_no_two_variants_of_a_corpus_are_the_same_training() -> None:
    for corpus in recipes_plan.BASES:
        trained = [run for run in recipes_plan.planned([corpus], 1) if not run.variant.of]
        # Where settings are the base's own, the row would say what is only the noise of a machine.
        settings = [recipe_text(run.recipe.model_copy(update={"train": run.recipe.train.model_copy(
            update={"keep_best": 1, "keep_last": 2})})) for run in trained]  # fmt: skip
        assert len(set(settings)) == len(settings)


def carried_out(work: Path, patched: pytest.MonkeyPatch, corpus: str, names: list[str]) -> list[list[object]]:
    """The commands of a job of seed 1, which do nothing."""
    calls: list[list[object]] = []

    def speechmill(*words: object) -> None:
        calls.append(list(words))
        if words[0] == "evaluate":
            scores = Path(str(words[1])) / "scores"
            assert not scores.exists()
            write_json(scores / "test-x.json", dict.fromkeys(("wer", "wer_p", "errors", "words"), 0))
            (scores / "test-x.utterances.jsonl").touch()

    patched.setattr(recipes, "speechmill", speechmill)
    patched.setattr(recipes, "of_calls", lambda _: {})
    patched.setattr(recipes, "record", lambda run, *_: {"variant": run.variant.name})
    patched.setattr(recipes, "stopped", lambda run, _: (900, "600" if run.variant.stop else "best"))
    job = [recipes_plan.Run(corpus, recipes_plan.named(name, corpus), 1) for name in names]
    recipes.carry_out(job, work, at_once=2)
    for run in job:
        assert read_json(run.note(work)) == {"variant": run.variant.name, "at_once": 2}
    return calls
