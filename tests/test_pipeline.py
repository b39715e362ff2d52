"""The whole way on the tests' corpus: what it leaves and shows, and that a second run does nothing twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import TEST_CALLS, VALID_CALLS
from speechmill import cli
from speechmill.errors import SpeechmillError
from speechmill.evaluate import evaluate
from speechmill.pipeline import Also, Stages, pipeline
from speechmill.progress import Progress
from speechmill.settings import Recipe, SearchSettings, SelectSettings
from speechmill.shards.mixture import open_data
from speechmill.train.runlog import read_config
from trained import tiny_recipe

STAGES = ["import", "select", "shard", "tokenizer", "train", "evaluate", "compare"]


@pytest.fixture(scope="module")
def recipe(shards: Path, tokenizer_path: Path) -> Recipe:
    tiny = tiny_recipe(shards, tokenizer_path)
    wish = SelectSettings(min_seconds=0.2, valid_calls=VALID_CALLS, test_calls=TEST_CALLS)
    return tiny.model_copy(update={"select": wish})


@pytest.fixture(scope="module")
def shown(corpus: Path, recipe: Recipe, folder: Path) -> str:
    return pipeline("bizspeech", corpus, folder, recipe)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipeline") / "demo"


def scores(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return loaded


def test_scores_and_what_is_shown(shown: str, folder: Path) -> None:
    found = scores(folder)
    assert set(found) == {"test", "seconds"}
    assert {"wer", "wer_p", "cer", "cer_p", "utterances", "by"} <= set(found["test"])
    assert found["test"]["utterances"] == 12
    assert list(found["seconds"]) == STAGES
    assert found["test"] == json.loads((folder / "run" / "scores" / "test.json").read_text(encoding="utf-8"))
    assert shown.count("as written:  ") == shown.count("recognized:  ") == 3
    report = folder / "report" / "compare.html"
    assert shown.splitlines()[-1] == f"report: {report}"
    assert "<html" in report.read_text(encoding="utf-8")


def test_a_second_run_repeats_nothing(
    shown: str, corpus: Path, recipe: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    before = scores(folder)["test"]
    work: list[str] = []
    monkeypatch.setattr(Progress, "advance", lambda self, *_, **__: work.append(self.name))
    again = pipeline("bizspeech", corpus, folder, recipe)
    assert set(work) <= {"import"}
    assert scores(folder)["test"] == before
    assert again.splitlines()[:-2] == shown.splitlines()[:-2]
    changed = {str(path.relative_to(folder)) for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert changed == {"scores.json", "stages.json"}


@pytest.mark.usefixtures("shown")
def test_scores_of_another_search_are_not_taken_for_the_recipes(corpus: Path, recipe: Recipe, folder: Path) -> None:
    before = scores(folder)["test"]
    beam = SearchSettings(kind="beam", beam=2)
    other = evaluate(folder / "run", search=beam)
    assert other.name != "test"
    pipeline("bizspeech", corpus, folder, recipe)
    assert scores(folder)["test"] == before
    pipeline("bizspeech", corpus, folder, recipe.model_copy(update={"search": beam}))
    assert scores(folder)["test"]["search"]["kind"] == "beam"
    pipeline("bizspeech", corpus, folder, recipe)
    assert scores(folder)["test"] == before


@pytest.mark.usefixtures("shown")
def test_another_split(corpus: Path, recipe: Recipe, folder: Path) -> None:
    shown = pipeline("bizspeech", corpus, folder, recipe, split="valid")
    assert set(scores(folder)) == {"valid", "seconds"}
    assert "Scores on valid" in shown


def test_seconds_add_up_over_runs_and_over_failures(tmp_path: Path) -> None:
    assert Stages(tmp_path).run("train", lambda: 7) == 7
    (tmp_path / "stages.json").write_text('{"train": 5.0, "import": 1.0}')

    def fail() -> None:
        raise SpeechmillError("no")

    with pytest.raises(SpeechmillError, match="no"):
        Stages(tmp_path).run("train", fail)
    seconds = json.loads((tmp_path / "stages.json").read_text())
    assert seconds["import"] == 1.0
    assert seconds["train"] >= 5.0


def test_a_second_corpus_is_trained_on_and_nothing_else(corpus: Path, recipe: Recipe, tmp_path: Path) -> None:
    more = Also("bizspeech", corpus, 0.5)  # the same calls again: all of them are training here
    pipeline("bizspeech", corpus, tmp_path / "mixed", recipe, also=[more])
    data = read_config(tmp_path / "mixed" / "run").data
    assert [(Path(part.path).parent.name, part.weight) for part in data.shards if not isinstance(part, str)] == [
        ("mixed", 1.0), ("also-1", 0.5),
    ]  # fmt: skip
    assert scores(tmp_path / "mixed")["test"]["utterances"] == 12
    index = open_data(data.shards)
    assert [len(index.rows(split)) for split in ("train", "valid", "test")] == [48 + 72, 12, 12]


def test_what_is_no_second_corpus_is_told_in_one_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["pipeline", "bizspeech", str(corpus), str(tmp_path), "--also", "elsewhere"]) == 2
    assert "--also elsewhere: KIND:SOURCE or KIND:SOURCE:WEIGHT was expected" in capsys.readouterr().err
