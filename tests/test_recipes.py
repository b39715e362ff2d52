"""The recipes after the thesis: each trains some updates on a small demo corpus, and recognizes with its own search."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("espeakng_loader", reason="needs speechmill[demo]")

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
