from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from speechmill.config import override_recipe
from speechmill.errors import SpeechmillError
from speechmill.metrics import read_metrics
from speechmill.settings import Recipe
from speechmill.train.runlog import (
    RunLog,
    check_same_experiment,
    environment,
    read_config,
    write_config,
)

TRAIN = {"event": "train", "update": 1, "loss": 0.1 + 0.2}


def test_lines_survive_and_resume_drops_those_behind(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    for update in (1, 2, 3):
        log.write({"event": "train", "update": update, "loss": 1.0 / update})
    log.write({"event": "end", "update": 3})
    log.sync()
    log.close()
    before = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(before) == 4
    log = RunLog(tmp_path, 2)
    log.close()
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == before[:2]
    log = RunLog(tmp_path, 0)
    log.close()
    assert read_metrics(tmp_path) == []


def test_a_validation_that_is_still_due_is_dropped(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    for update in (1, 2):
        log.write(TRAIN | {"update": update})
        log.write({"event": "valid", "update": update, "wer": 0.5})
    log.close()
    RunLog(tmp_path, 2, validation_due=True).close()
    assert [(record["event"], record["update"]) for record in read_metrics(tmp_path)] == [
        ("train", 1), ("valid", 1), ("train", 2),
    ]  # fmt: skip


def test_the_end_is_dropped_when_training_goes_on(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    log.write(TRAIN)
    log.write({"event": "end", "update": 1})
    log.close()
    RunLog(tmp_path, 1).close()
    assert [record["event"] for record in read_metrics(tmp_path)] == ["train"]


def test_numbers_are_exact_and_go_to_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path, 0)
    log.write(TRAIN)
    log.close()
    assert read_metrics(tmp_path) == [TRAIN]
    log = RunLog(tmp_path, 1)
    log.write(TRAIN | {"update": 2, "loss": 7.0})
    log.close()
    log = RunLog(tmp_path, 1)  # goes on from before the second line, which is to be forgotten
    log.write(TRAIN | {"update": 2, "loss": 0.5})
    log.close()
    assert len(list((tmp_path / "events").iterdir())) == 3
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    scalars = events.Scalars("train/loss")
    assert [(scalar.step, scalar.value) for scalar in scalars] == [(1, pytest.approx(0.3)), (2, 0.5)]


def test_a_last_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(TRAIN) + "\n" + '{"event": "tra')
    assert read_metrics(tmp_path) == [TRAIN]
    path.write_text('{"event": "tra\n' + json.dumps(TRAIN) + "\n")
    with pytest.raises(SpeechmillError, match=r"metrics\.jsonl, line 1: not valid JSON"):
        read_metrics(tmp_path)


def test_config_round_trip(tmp_path: Path) -> None:
    recipe = override_recipe(Recipe(), ["name=één", "model.kind=ctc", "augment.noise_db=[5, 20]"])
    write_config(tmp_path, recipe)
    assert read_config(tmp_path) == recipe


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match="not a run folder"):
        read_config(tmp_path)
    for text, message in [("- a\n", "not a recipe"), ("a: [\n", "config.yaml.*not valid YAML")]:
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(SpeechmillError, match=message):
            read_config(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        "optim.lr=1",
        "schedule.seed=1",
        "train.seed=1",
        "train.precision=float64",
        "augment.gain_db=1",
        "model.rnn_size=8",
        "model.kind=ctc",
        "loss.ctc_weight=0.1",
        "tokenizer.size=10",
        "features.n_mels=80",
    ],
)
def test_another_experiment_is_refused(change: str, tmp_path: Path) -> None:
    write_config(tmp_path, Recipe())
    key = "model." if change == "model.kind=ctc" else change.partition("=")[0]
    with pytest.raises(SpeechmillError, match=f"was trained with another recipe: {key}"):
        check_same_experiment(tmp_path, override_recipe(Recipe(), [change]))


@pytest.mark.parametrize(
    "change",
    [
        "name=x",
        "train.updates=9",
        "train.log_every=9",
        "train.threads=1",
        "data.shards=there",
        "search.beam=3",
        "align.max_seconds=20",
    ],
)
def test_what_a_resumed_run_may_change(change: str, tmp_path: Path) -> None:
    write_config(tmp_path, Recipe())
    changed = override_recipe(Recipe(), [change])
    assert changed != Recipe()
    check_same_experiment(tmp_path, changed)


def test_environment_says_what_matters() -> None:
    found = environment(torch.device("cpu"))
    assert found["device"] == "cpu"
    assert found["torch"] == torch.__version__
    assert json.loads(json.dumps(found)) == found
