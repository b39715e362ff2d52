"""Training that is killed, asked to stop or runs out of disk, and resumed: it is the same training."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from speechmill.config import override_recipe
from speechmill.errors import SpeechmillError
from speechmill.metrics import read_metrics
from speechmill.recognize import Audio, Recognizing
from speechmill.score import Rates
from speechmill.settings import CrdnnSettings, Recipe
from speechmill.strategies.base import UpdateStats
from speechmill.strategies.single import Single
from speechmill.tokenizer import load_tokenizer
from speechmill.train import validation
from speechmill.train.checkpoint import checkpoints, find_checkpoint, read_state, read_weights
from speechmill.train.loop import train
from speechmill.train.prepare import TOKENIZER_NAME
from speechmill.train.weights import open_weights
from trained import (
    augmented_recipe,
    logged,
    same_weights,
    stopped_run,
    undisturbed_run,
    write_recipe,
)

CRDNN = CrdnnSettings(
    cnn_channels=[4], rnn_layers=1, rnn_size=6, dnn_blocks=2, dnn_size=8, embedding_size=6, decoder_size=8,
    attention_size=8, attention_channels=2, attention_kernel=5,
)  # fmt: skip

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


@pytest.fixture(scope="module")
def recipe(shards: Path, tokenizer_path: Path) -> Recipe:
    return augmented_recipe(shards, tokenizer_path)


@pytest.fixture(scope="module")
def undisturbed(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed_run(recipe, tmp_path_factory)


@pytest.fixture
def unfinished(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return stopped_run(recipe, tmp_path / "run", monkeypatch)


def test_killed_and_resumed_is_the_same_training(recipe: Recipe, undisturbed: Path, tmp_path: Path) -> None:
    run, recipe_path = tmp_path / "run", write_recipe(recipe, tmp_path / "recipe.yaml")
    for moment, at in [("update", 7), ("checkpoint", 12), ("prune", 16), ("validate", 24)]:
        command = [sys.executable, "-c", KILLED, str(recipe_path), str(run), moment, str(at)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert checkpoints(run), moment
    assert train(recipe, run).finished
    assert logged(run) == logged(undisturbed)
    assert same_weights(run, undisturbed)
    assert [path.name for path in checkpoints(run)] == [path.name for path in checkpoints(undisturbed)]
    assert not list(run.rglob(".*partial")), "a killed run's leavings"


def test_asked_to_stop_and_resumed_is_the_same_training(recipe: Recipe, unfinished: Path, undisturbed: Path) -> None:
    assert checkpoints(unfinished)[-1].name == "step_00000010"
    with (unfinished / "metrics.jsonl").open("a", encoding="utf-8") as stream:  # as if killed a little later
        stream.write('{"event": "train", "update": 12, "loss": 99.0}\n{"event": "tr')
    with_worker = override_recipe(recipe, ["train.loader_workers=1"])
    assert train(with_worker, unfinished).finished
    assert logged(unfinished) == logged(undisturbed)
    assert same_weights(unfinished, undisturbed)


def test_a_checkpoint_made_for_a_stop_recognizes_as_one_with_statistics(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override_recipe(recipe.model_copy(update={"model": CRDNN}), ["train.keep_last=9"])
    stopped = stopped_run(recipe, tmp_path / "stopped", monkeypatch)
    whole = train(override_recipe(recipe, ["train.checkpoint_every=10"]), tmp_path / "whole").run
    asis, refreshed = (find_checkpoint(run, "10") for run in (stopped, whole))
    assert (read_state(asis).refreshed, read_state(refreshed).refreshed) == (False, True)
    tokenizer = load_tokenizer(stopped / TOKENIZER_NAME)
    found, expected = (
        open_weights(run, recipe, "10", tokenizer, torch.device("cpu")).state_dict() for run in (stopped, whole)
    )
    saved = read_weights(asis, recipe.model_fingerprint())
    statistics = [name for name in expected if "running_" in name]
    assert statistics
    assert not any(torch.equal(saved[name], expected[name]) for name in statistics)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


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
    assert logged(run) == logged(undisturbed)
    assert same_weights(run, undisturbed)
    assert [path.name for path in checkpoints(run)] == [path.name for path in checkpoints(undisturbed)]


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
    assert logged(disk / "run") == logged(undisturbed)
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
