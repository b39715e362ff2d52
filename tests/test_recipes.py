"""The recipes after the thesis: each trains some updates on a small demo corpus, and recognizes with its own search.

And the program that compares variants of them: which commands it runs, with which settings.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("espeakng_loader", reason="needs speechmill[demo]")

from benchmarks import recipes

from speechmill.artefact import read_json, write_json
from speechmill.config import load_recipe
from speechmill.corpora import import_corpus
from speechmill.corpora.demo import make_demo_corpus
from speechmill.evaluate import evaluate
from speechmill.metrics import read_metrics
from speechmill.select import select_manifest
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
    calls = carried_out(tmp_path, monkeypatch, "demo", ["base", "average best-5", "beam 8"])
    run = recipes.Run("demo", recipes.named("base", "demo"), 1)
    folder, data = run.folder(tmp_path), tmp_path / "demo"
    written = folder.parent / f"{folder.name}.yaml"
    assert load_recipe(written) == run.recipe(), "all settings but seeds and places"
    train = ["train", written, "--run", folder, "train.seed=1", "schedule.seed=1",
             f"data.shards={data / 'all' / 'shards'}", f"data.tokenizer={data / 'tokenizer.model'}"]  # fmt: skip
    evaluate = ["evaluate", folder, "--split", "test"]
    assert calls == [
        train, evaluate, train, [*evaluate, "--average", "best-5"],
        [*train, "search.kind=beam", "search.beam=8"], evaluate,
    ]  # fmt: skip
    assert {path.name.partition("-")[0] for path in (data / "records").glob("*.json")} == {"base", "average", "beam"}


def test_a_variant_of_the_text_has_a_tokenizer_of_its_own_and_each_seed_its_test_speaker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, train, evaluate = carried_out(tmp_path, monkeypatch, "digits", ["normalised text"])
    run = recipes.Run("digits", recipes.named("normalised text", "digits"), 1)
    data, folder = tmp_path / "digits-jackson", run.folder(tmp_path)
    model = data / "tokenizer-normalised-text.model"
    assert tokenizer == ["tokenizer", data / "all" / "selected.parquet", model, "--recipe", train[1],
                         "tokenizer.text=normalized", "tokenizer.size=24"]  # fmt: skip
    assert set(train[4:]) == {
        "train.seed=1", "schedule.seed=1", f"data.shards={data / 'all' / 'shards'}", f"data.tokenizer={model}",
        "select.test_where={speaker: [jackson]}", "select.shares={train: 0.9, valid: 0.1, test: 0.0}",
    }  # fmt: skip
    assert evaluate == ["evaluate", folder, "--split", "test"]


def test_rooms_are_those_of_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, _ = carried_out(tmp_path, monkeypatch, "digits", ["rooms"])
    assert train[-1] == f"augment.reverb_folder={tmp_path / 'rooms' / '8000'}"


def carried_out(work: Path, patched: pytest.MonkeyPatch, corpus: str, names: list[str]) -> list[list[object]]:
    """The commands of a job of seed 1, which do nothing; where scores go is left out of them."""
    calls: list[list[object]] = []

    def speechmill(*words: object) -> None:
        if words[0] == "evaluate":
            assert words[-2] == "--json"
            write_json(Path(str(words[-1])), {})
            words = words[:-2]
        calls.append(list(words))

    patched.setattr(recipes, "speechmill", speechmill)
    patched.setattr(recipes, "of_calls", lambda _: {})
    patched.setattr(recipes, "record", lambda run, *_: {"variant": run.variant.name})
    job = [recipes.Run(corpus, recipes.named(name, corpus), 1) for name in names]
    recipes.carry_out(job, work, at_once=2)
    for run in job:
        assert read_json(run.note(work)) == {"variant": run.variant.name, "at_once": 2}
    return calls
