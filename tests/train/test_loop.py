"""The training loop: killed and resumed it is the same training; what it refuses, and how it stops."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml

from conftest import SHARD_SETTINGS, tokenizer_settings
from speechmill.config import override_recipe
from speechmill.errors import SpeechmillError
from speechmill.losses import LossSum
from speechmill.metrics import read_metrics
from speechmill.models.ctc import CtcRecognizer
from speechmill.models.ngram import NgramModel
from speechmill.recognize import Audio, Recognizing
from speechmill.score import Rates
from speechmill.settings import Recipe
from speechmill.shards.write import shard_manifest
from speechmill.strategies.base import UpdateStats
from speechmill.strategies.single import Single
from speechmill.tokenizer import train_tokenizer
from speechmill.train import validation
from speechmill.train.checkpoint import checkpoints, find_checkpoint, read_state
from speechmill.train.language import LANGUAGE_MODEL_NAME
from speechmill.train.loop import TrainReport, train
from speechmill.train.runlog import read_config
from trained import tiny_recipe

CLOCKED = {"seconds", "data_wait", "valid_seconds"}

# Trains, and kills itself with SIGKILL at a moment: in an update, half through a checkpoint, while pruning, validating.
KILLED = """
import os, shutil, signal, sys
from pathlib import Path
import torch
import speechmill.train.checkpoint as checkpoint
import speechmill.train.loop as loop
import speechmill.train.validation as validation
from speechmill.config import load_recipe
from speechmill.strategies.single import Single

moment, at = sys.argv[3], int(sys.argv[4])
running = []

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def killing(true, before=True):
    def replacement(*args, **kwargs):
        if running and running[-1] + 1 >= at and before:
            die()
        result = true(*args, **kwargs)
        if running and running[-1] + 1 >= at:
            die()
        return result
    return replacement

true_update = Single.update
def update(self, batches, number, *stop):
    running.append(number)
    if moment == "update" and number + 1 == at:
        die()
    return true_update(self, batches, number, *stop)
Single.update = update
if moment == "checkpoint":
    checkpoint.torch.save = killing(torch.save, before=False)
if moment == "prune":
    checkpoint.shutil.rmtree = killing(shutil.rmtree, before=False)
if moment == "validate":
    validation.score_pairs = killing(validation.score_pairs)
loop.train(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def write_recipe(recipe: Recipe, path: Path) -> Path:
    path.write_text(yaml.safe_dump(recipe.plain()), encoding="utf-8")
    return path


def metrics(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k not in CLOCKED} for record in read_metrics(run)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(find_checkpoint(run, "last") / "model.pt", weights_only=True)
    return loaded


def same_weights(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def recipe(shards: Path, tokenizer_path: Path) -> Recipe:
    return override_recipe(
        tiny_recipe(shards, tokenizer_path), ["augment.gain_db=3", "augment.time_masks=1", "augment.time_mask_frames=5"]
    )


@pytest.fixture(scope="module")
def undisturbed(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; only read it."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    report = train(recipe, run)
    assert (report.finished, report.already_whole, report.updates) == (True, False, 24)
    return run


@pytest.fixture
def unfinished(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was asked to stop after ten of its updates."""
    with monkeypatch.context() as patched:
        report = stopped(recipe, tmp_path / "run", 10, patched)
    assert (report.finished, report.stopped_by, report.updates) == (False, "SIGTERM", 10)
    return report.run


def stopped(recipe: Recipe, run: Path, after: int, patched: pytest.MonkeyPatch) -> TrainReport:
    true_update = Single.update

    def update(self: Single, batches: Any, number: int, *stop: Any) -> UpdateStats:
        if number + 1 == after:
            os.kill(os.getpid(), signal.SIGTERM)
        return true_update(self, batches, number, *stop)

    patched.setattr(Single, "update", update)
    return train(recipe, run)


def test_killed_and_resumed_is_the_same_training(recipe: Recipe, undisturbed: Path, tmp_path: Path) -> None:
    run, recipe_path = tmp_path / "run", write_recipe(recipe, tmp_path / "recipe.yaml")
    for moment, at in [("update", 7), ("checkpoint", 12), ("prune", 16), ("validate", 24)]:
        command = [sys.executable, "-c", KILLED, str(recipe_path), str(run), moment, str(at)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert checkpoints(run), moment
    assert train(recipe, run).finished
    assert metrics(run) == metrics(undisturbed)
    assert same_weights(run, undisturbed)
    assert [path.name for path in checkpoints(run)] == [path.name for path in checkpoints(undisturbed)]
    assert not list(run.rglob(".*partial")), "a killed run's leavings"


def test_asked_to_stop_and_resumed_is_the_same_training(recipe: Recipe, unfinished: Path, undisturbed: Path) -> None:
    assert checkpoints(unfinished)[-1].name == "step_00000010"
    with (unfinished / "metrics.jsonl").open("a", encoding="utf-8") as stream:  # as if killed a little later
        stream.write('{"event": "train", "update": 12, "loss": 99.0}\n{"event": "tr')
    with_worker = override_recipe(recipe, ["train.loader_workers=1"])
    assert train(with_worker, unfinished).finished
    assert metrics(unfinished) == metrics(undisturbed)
    assert same_weights(unfinished, undisturbed)


def stop_when_scoring(patched: pytest.MonkeyPatch, at: int) -> None:
    """SIGTERM when the hypotheses of validation number `at` are there and the WER is not."""
    true_score, calls = validation.score_pairs, itertools.count(1)

    def score(references: list[str], hypotheses: list[str]) -> Rates:
        if next(calls) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return true_score(references, hypotheses)

    patched.setattr(validation, "score_pairs", score)


def validated(run: Path) -> dict[int, float]:
    """The WER of each validation by its update."""
    return {record["update"]: record["wer"] for record in read_metrics(run) if record["event"] == "valid"}


def test_a_stop_at_a_validation_keeps_its_wer(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_when_scoring(monkeypatch, 1)
    report = train(recipe, tmp_path / "run")
    assert (report.finished, report.stopped_by) == (False, "SIGTERM")
    state = read_state(checkpoints(report.run)[-1])
    assert ({8: state.valid_wer}, state.validation_due) == (validated(report.run), False)
    with monkeypatch.context() as patched:
        patched.setattr("speechmill.train.signals.asked_to_stop", lambda: "SIGUSR1")  # before its next update
        assert train(recipe, report.run).updates == 8
    assert read_state(checkpoints(report.run)[-1]) == state


def test_checkpoints_have_the_wer_of_their_own_update_alone(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override_recipe(recipe, ["train.keep_last=9"])
    stop_when_scoring(monkeypatch, 1)
    run = train(recipe, tmp_path / "run").run
    assert train(recipe, run).finished
    states = [read_state(path) for path in checkpoints(run)]
    assert len(states) > len(validated(run))
    assert {state.update: state.valid_wer for state in states if state.valid_wer is not None} == validated(run)


def test_a_stop_at_the_last_score_comes_too_late(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_when_scoring(monkeypatch, 3)
    report = train(recipe, tmp_path / "run")
    assert report.finished
    assert read_metrics(report.run)[-1]["event"] == "end"


@pytest.mark.parametrize("number", [1, 3])  # the last one, too: then only the validation is left to do
def test_a_stop_gives_a_long_validation_up_and_it_is_made_later(
    number: int, recipe: Recipe, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, true_batch, calls = tmp_path / "run", Recognizing.batch, itertools.count(1)
    monkeypatch.setattr("speechmill.recognize._PADDED_SECONDS", 0.1)  # each of the 12 utterances alone
    stop_at = (number - 1) * 12 + 2

    def batch(self: Recognizing, audio: list[Audio]) -> list[str]:
        if next(calls) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return true_batch(self, audio)

    with monkeypatch.context() as patched:
        patched.setattr(Recognizing, "batch", batch)
        report = train(recipe, run)
    assert (report.finished, report.stopped_by, report.updates) == (False, "SIGTERM", number * 8)
    assert next(calls) == stop_at + 1, "the validation went on"
    assert read_state(checkpoints(run)[-1]).validation_due
    assert sum(record["event"] == "valid" for record in read_metrics(run)) == number - 1
    assert train(recipe, run).finished
    assert metrics(run) == metrics(undisturbed)
    assert same_weights(run, undisturbed)
    assert [path.name for path in checkpoints(run)] == [path.name for path in checkpoints(undisturbed)]


def test_what_the_run_folder_holds(undisturbed: Path) -> None:
    records = read_metrics(undisturbed)
    assert [r["update"] for r in records if r["event"] == "train"] == list(range(3, 25, 3))
    assert [r["update"] for r in records if r["event"] == "valid"] == [8, 16, 24]
    assert set(records[0]) == {
        "event",
        "update",
        "seconds",
        "audio_seconds",
        "epoch",
        "loss",
        "lr",
        "grad_norm",
        "padding",
        "data_wait",
        "skipped",
        "damaged",
    }
    valid = next(r for r in records if r["event"] == "valid")
    assert set(valid) == {
        "event",
        "update",
        "seconds",
        "audio_seconds",
        "wer",
        "wer_p",
        "cer",
        "cer_p",
        "utterances",
        "valid_seconds",
    }
    best = min((r for r in records if r["event"] == "valid"), key=lambda r: r["wer"])
    end = records[-1]
    assert (end["event"], end["update"], end["best_update"], end["best_wer"]) == (
        "end",
        24,
        best["update"],
        best["wer"],
    )
    assert records[-3]["loss"] < records[0]["loss"], "it does not learn"
    assert all(0 <= r["padding"] < 0.5 and 0 <= r["data_wait"] <= 1 for r in records if r["event"] == "train")
    assert list((undisturbed / "events").glob("events.out.tfevents.*"))
    for name in ("config.yaml", "environment.json", "tokenizer.model", "tokenizer.model.json"):
        assert (undisturbed / name).is_file(), name


def test_the_last_and_the_best_are_kept(undisturbed: Path) -> None:
    best = read_metrics(undisturbed)[-1]["best_update"]
    assert [int(path.name[5:]) for path in checkpoints(undisturbed)] == sorted({best, 20, 24})
    assert find_checkpoint(undisturbed, "best").name == f"step_{best:08d}"


def test_a_finished_run_returns_at_once(recipe: Recipe, undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    monkeypatch.setattr("speechmill.train.loop.prepare", lambda *_: pytest.fail("nothing is left to do"))
    report = train(recipe, undisturbed)
    assert (report.finished, report.already_whole, report.updates) == (True, True, 24)
    assert report.best_wer == read_metrics(undisturbed)[-1]["best_wer"]
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path in before} == before


def test_a_finished_run_goes_on_to_more_updates(recipe: Recipe, tmp_path: Path) -> None:
    run, constant = tmp_path / "run", override_recipe(recipe, ["optim.schedule=constant", "train.updates=4"])
    assert train(constant, run).finished
    assert train(override_recipe(constant, ["train.updates=6"]), run).finished
    records = read_metrics(run)
    assert [r["update"] for r in records if r["event"] == "end"] == [6]
    assert [r["update"] for r in records if r["event"] == "train"] == [3, 6]


def test_updates_that_the_learning_rate_depends_on_stay(recipe: Recipe, undisturbed: Path, unfinished: Path) -> None:
    message = "was trained for 24 updates, train.updates is 27 here: with optim.schedule cosine"
    for run in (undisturbed, unfinished):
        with pytest.raises(SpeechmillError, match=message):
            train(override_recipe(recipe, ["train.updates=27"]), run)


def test_another_search_on_a_finished_run(recipe: Recipe, undisturbed: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    assert train(override_recipe(recipe, ["search.lm_order=2"]), run).already_whole
    assert read_config(run).search.lm_order == 2
    assert not (run / LANGUAGE_MODEL_NAME).exists(), "greedy search reads none"
    for order in (3, 2):
        other = override_recipe(recipe, ["search.kind=beam", f"search.lm_order={order}", "train.log_every=5"])
        assert train(other, run).already_whole
        assert NgramModel.load(run / LANGUAGE_MODEL_NAME).order == order
    assert read_config(run) == override_recipe(recipe, ["search.kind=beam", "search.lm_order=2"])
    assert metrics(run) == metrics(undisturbed)


def test_a_run_without_a_checkpoint_may_be_begun_anew(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, short = tmp_path / "run", override_recipe(recipe, ["train.max_nonfinite=1", "train.updates=4"])
    with monkeypatch.context() as patched:
        break_loss(patched, lambda call: call >= 0)
        with pytest.raises(SpeechmillError, match=r"lower optim\.lr in a new run folder"):
            train(override_recipe(short, ["search.kind=beam", "search.lm_order=2"]), run)
    assert (run / LANGUAGE_MODEL_NAME).is_file()
    assert train(override_recipe(short, ["optim.lr=0.001", "model.size=8"]), run).finished
    assert read_config(run).optim.lr == 0.001
    assert not (run / LANGUAGE_MODEL_NAME).exists(), "it was of another training"


def test_paths_in_the_run_folder_are_absolute(
    recipe: Recipe, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shards.parent)
    relative = override_recipe(recipe, [f"data.shards={shards.name}", "train.updates=4"])
    train(relative, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert Path(read_config(tmp_path / "run").data.shards) == shards.resolve()
    assert train(read_config(tmp_path / "run"), tmp_path / "run").already_whole


def test_another_recipe_is_refused_by_its_key(recipe: Recipe, undisturbed: Path) -> None:
    with pytest.raises(SpeechmillError, match=r"another recipe: optim\.lr is 0\.02 there and 0\.5 here"):
        train(override_recipe(recipe, ["optim.lr=0.5"]), undisturbed)


def test_another_tokenizer_is_refused(recipe: Recipe, unfinished: Path, manifest: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(manifest)
    longer = pl.col("text").str.replace_all("cost", "cost cost cost")  # the same characters, counted otherwise
    table.with_columns(longer).write_parquet(tmp_path / "other.parquet")
    other = tmp_path / "other.model"
    train_tokenizer(tmp_path / "other.parquet", other, tokenizer_settings(manifest))
    with pytest.raises(SpeechmillError, match="was trained with another tokenizer"):
        train(override_recipe(recipe, [f"data.tokenizer={other}"]), unfinished)


def test_a_tokenizer_that_is_not_the_recipes(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match=r"this tokenizer has kind char, the recipe's tokenizer\.kind is bpe"):
        train(override_recipe(recipe, ["tokenizer.kind=bpe"]), tmp_path / "run")


def test_a_checkpoint_of_another_recipe_is_refused(recipe: Recipe, unfinished: Path) -> None:
    other = override_recipe(recipe, ["model.size=24"])
    (unfinished / "config.yaml").unlink()
    with pytest.raises(SpeechmillError, match="step_00000010: a checkpoint of another recipe"):
        train(other, unfinished)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.shards=''", "data.shards is not set"),
        ("data.tokenizer=''", "data.tokenizer is not set"),
        ("data.shards=nowhere", "nowhere: no such folder of shards"),
        ("data.tokenizer=nowhere", "nowhere: no such tokenizer"),
    ],
)
def test_bad_input(recipe: Recipe, override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match=message):
        train(override_recipe(recipe, [override]), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_shards_of_another_rate(recipe: Recipe, tmp_path: Path) -> None:
    other = override_recipe(recipe, ["shard.sample_rate=16000", "features.sample_rate=16000", "features.n_fft=400"])
    with pytest.raises(SpeechmillError, match=r"holds audio at 8000 Hz, features\.sample_rate is 16000"):
        train(other, tmp_path / "run")


def test_no_validation_split_is_told_at_the_start(recipe: Recipe, manifest: Path, tmp_path: Path) -> None:
    pl.read_parquet(manifest).filter(pl.col("split") == "train").write_parquet(tmp_path / "train.parquet")
    shard_manifest(tmp_path / "train.parquet", tmp_path / "shards", SHARD_SETTINGS, 1)
    with pytest.raises(SpeechmillError, match="no split 'valid' here"):
        train(override_recipe(recipe, [f"data.shards={tmp_path / 'shards'}"]), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def break_loss(patched: pytest.MonkeyPatch, when: Any) -> None:
    true_loss, calls = CtcRecognizer.loss, iter(range(10**6))

    def loss(self: CtcRecognizer, *args: Any, **kwargs: Any) -> LossSum:
        found = true_loss(self, *args, **kwargs)
        return LossSum(found.sum * float("nan"), found.count) if when(next(calls)) else found

    patched.setattr(CtcRecognizer, "loss", loss)


def test_a_loss_that_is_not_finite_is_skipped_and_counted(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_loss(monkeypatch, lambda call: call in (3, 8))  # one of the two batches of updates 2 and 5
    assert train(override_recipe(recipe, ["train.updates=6"]), tmp_path / "run").finished
    records = [record for record in read_metrics(tmp_path / "run") if record["event"] == "train"]
    assert [record["skipped"] for record in records] == [1, 2]
    assert all(record["loss"] < 100 for record in records)
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())


def test_too_many_in_a_row_stop_training(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_loss(monkeypatch, lambda call: call >= 10)
    with pytest.raises(SpeechmillError, match="3 updates in a row had a loss or gradient that is not finite") as error:
        train(override_recipe(recipe, ["train.max_nonfinite=3"]), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert "optim.lr" in str(error.value)
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step_00000004"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a full disk needs a small tmpfs, and mounting one needs root")
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a full disk needs a small tmpfs, which cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("spare", [0, 16384])  # bytes: the log does not fit, or only the checkpoint does not
def test_a_full_disk(
    spare: int, recipe: Recipe, undisturbed: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_update, filler = Single.update, disk / "filler"

    def update(self: Single, batches: Any, number: int, *stop: Any) -> UpdateStats:
        if number + 1 == 7:
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
                while stream.write(bytes(4096)):
                    pass
            os.truncate(filler, max(0, filler.stat().st_size - spare))
        return true_update(self, batches, number, *stop)

    with monkeypatch.context() as patched:
        patched.setattr(Single, "update", update)
        with pytest.raises(SpeechmillError, match="the disk is full") as error:
            train(recipe, disk / "run")
    assert "\n" not in str(error.value)
    assert [path.name for path in checkpoints(disk / "run")] == ["step_00000004"]
    assert not list(disk.rglob(".step*"))
    filler.unlink()
    assert train(recipe, disk / "run").finished
    assert metrics(disk / "run") == metrics(undisturbed)
    assert same_weights(disk / "run", undisturbed)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 0), (signal.SIGINT, 1), (signal.SIGTERM, 1)])
def test_signals_save_and_leave(number: signal.Signals, workers: int, recipe: Recipe, tmp_path: Path) -> None:
    endless = override_recipe(
        recipe, ["optim.schedule=constant", "train.updates=100000", f"train.loader_workers={workers}"]
    )
    run, path = tmp_path / "run", write_recipe(endless, tmp_path / "recipe.yaml")
    command = [
        sys.executable,
        "-c",
        "import sys; from speechmill.cli import main; sys.exit(main())",
        "train",
        str(path),
        "--run",
        str(run),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while not checkpoints(run) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, number)  # as Ctrl-C and Slurm do: to the worker processes, too
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    state = read_state(checkpoints(run)[-1])
    assert f"stopped by {number.name} after {state.update} updates and saved; run the same command to go on" in out
    assert "Traceback" not in err
    assert all(record["update"] <= state.update for record in read_metrics(run))
    assert json.loads((run / "environment.json").read_text())["device"] == "cpu"
    assert train(override_recipe(endless, [f"train.updates={state.update + 2}"]), run).finished
