"""The whole way in one folder: import -> select -> shard -> tokenizer -> train -> evaluate -> compare.

Every stage finds its output when that is whole, so running it again does only what is missing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from speechmill.artefact import locked, read_json, write_json
from speechmill.compare import FILES, compare, read_run
from speechmill.compare.examples import examples
from speechmill.corpora import import_corpus
from speechmill.errors import SpeechmillError
from speechmill.evaluate import evaluate
from speechmill.score import Edit, scores_table, show_alignment
from speechmill.score.align import Operation
from speechmill.select import select_manifest
from speechmill.settings import DataSettings, Recipe, SelectSettings, ShardFolder, Shares
from speechmill.shards.write import shard_manifest
from speechmill.tokenizer import train_tokenizer
from speechmill.train.checkpoint import find_checkpoint
from speechmill.train.loop import train
from speechmill.train.runlog import read_config
from speechmill.workers import cores

T = TypeVar("T")


@dataclass(frozen=True)
class Also:
    """A second corpus to train on, all of it: `weight` passes over it in each pass over the first."""

    kind: str
    source: Path
    weight: float = 1.0


def pipeline(
    kind: str, source: Path, folder: Path, recipe: Recipe, split: str = "test",
    make_source: Callable[[], object] | None = None, also: Sequence[Also] = (),
) -> str:  # fmt: skip
    """Take a corpus to a scored recognizer in `folder`; returns what to show at the end.

    Args:
        split: that is scored.
        make_source: makes the corpus, where it is a made one.
        also: corpora that are trained on too; tokenizer, validation and scores are of the first one.
    """
    with locked(folder):
        return _pipeline(kind, source, folder, recipe, split, make_source, also)


def _pipeline(
    kind: str, source: Path, folder: Path, recipe: Recipe, split: str, make_source: Callable[[], object] | None,
    also: Sequence[Also],
) -> str:  # fmt: skip
    manifest, selected = folder / "corpus.parquet", folder / "selected.parquet"
    shards, tokenizer, run = folder / "shards", folder / "tokenizer.model", folder / "run"
    stages = Stages(folder)
    if make_source is not None:
        print(stages.run("demo-corpus", make_source))
    print(stages.run("import", lambda: import_corpus(kind, source, manifest)).text())
    print(stages.run("select", lambda: select_manifest(manifest, selected, recipe.select)).text())
    report = stages.run("shard", lambda: shard_manifest(selected, shards, recipe.shard, cores()))
    print(f"{shards}: {report.shards} shards, {report.utterances} utterances, {report.hours:.2f} h")
    more = [_also(one, folder / f"also-{place}", recipe, stages) for place, one in enumerate(also, 1)]
    folders: str | list[ShardFolder] = [ShardFolder(path=str(shards)), *more] if more else str(shards)
    data = DataSettings(shards=folders, tokenizer=str(tokenizer))
    recipe = recipe.model_copy(update={"data": data})
    made, _ = stages.run("tokenizer", lambda: train_tokenizer(selected, tokenizer, recipe.tokenizer))
    print(f"{tokenizer}: {len(made)} pieces, fingerprint {made.fingerprint}")
    trained = stages.run("train", lambda: train(recipe, run))
    if not trained.finished:
        raise SpeechmillError(f"{run}: training was stopped by {trained.stopped_by} after {trained.updates} updates; "
                              f"run the same command to go on.")  # fmt: skip
    scored = stages.run("evaluate", lambda: _evaluated(run, split))
    stages.run("compare", lambda: _compared(run, folder / "report"))
    write_json(folder / "scores.json", {split: scored, "seconds": stages.seconds})
    return summary(run, split, scored, folder, stages.seconds)


def _also(also: Also, folder: Path, recipe: Recipe, stages: Stages) -> ShardFolder:
    """Shards of a second corpus, all of it for training; their place in `data.shards`."""
    manifest, selected, shards = folder / "corpus.parquet", folder / "selected.parquet", folder / "shards"
    limits = {name: getattr(recipe.select, name) for name in ("min_seconds", "max_seconds", "drop_text")}
    settings = SelectSettings(shares=Shares(train=1.0, valid=0.0, test=0.0), **limits)
    print(stages.run("import", lambda: import_corpus(also.kind, also.source, manifest)).text())
    stages.run("select", lambda: select_manifest(manifest, selected, settings))
    report = stages.run("shard", lambda: shard_manifest(selected, shards, recipe.shard, cores()))
    print(f"{shards}: {report.shards} shards, {report.utterances} utterances, {report.hours:.2f} h")
    return ShardFolder(path=str(shards), weight=also.weight)


def _evaluated(run: Path, split: str) -> dict[str, Any]:
    """The scores of the best checkpoint with the recipe's search; those on disk when they are of these."""
    path = run / "scores" / f"{split}.json"
    if path.is_file():
        scores: dict[str, Any] = read_json(path)
        wanted = find_checkpoint(run, "best").name, read_config(run).search.model_dump(mode="json")
        if (scores.get("checkpoint"), scores.get("search")) == wanted:
            return scores
    return evaluate(run, split=split).scores


def _compared(run: Path, report: Path) -> None:
    """The report of a run, unless it is younger than all that it is made from."""
    made = [path.stat().st_mtime_ns for path in report.glob("compare.*")]
    sources = [run / "config.yaml", run / "environment.json", run / "metrics.jsonl", *(run / "scores").glob("*.json")]
    if len(made) < len(FILES) or min(made) < max(path.stat().st_mtime_ns for path in sources):
        compare([run], report)


def summary(run: Path, split: str, scored: dict[str, Any], folder: Path, seconds: dict[str, float]) -> str:
    """The scores, three examples, the times and the path of the report."""
    lines = ["", f"Scores on {split}", scores_table(scored), ""]
    shown = [example for example in examples([read_run(run)], split) if example.kind == "typical"]
    for example in shown:
        transcript = example.transcripts[0]
        aligned = (Edit(cast(Operation, op), ref or None, hyp or None) for op, ref, hyp in transcript.alignment)
        lines += [example.id, show_alignment(aligned)]
        lines += [f"as written:  {transcript.reference}", f"recognized:  {transcript.hypothesis}", ""]
    times = ", ".join(f"{name} {value:.0f}" for name, value in seconds.items())
    return "\n".join([*lines, f"seconds: {times}", f"report: {folder / 'report' / 'compare.html'}"])


class Stages:
    """Runs stages and adds up the wall-clock of each over all runs, in stages.json.

    What a stage took that was killed outright (SIGKILL, a power cut) is not in it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "stages.json"
        self.seconds: dict[str, float] = read_json(self._path) if self._path.is_file() else {}

    def run(self, name: str, stage: Callable[[], T]) -> T:
        print(f"-- {name}", file=sys.stderr)
        started = time.monotonic()
        try:
            return stage()
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - started, 3)
            write_json(self._path, self.seconds)
