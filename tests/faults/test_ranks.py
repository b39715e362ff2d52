"""What clusters do to ranks: killed, stuck, asked to stop, gone on with by others. Whole commands, real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml

from speechmill.config import override_recipe
from speechmill.metrics import read_metrics
from speechmill.settings import Recipe
from speechmill.train.checkpoint import checkpoints, find_checkpoint, read_state
from speechmill.train.loop import train
from trained import assert_names_the_last_batches, tiny_recipe

PATIENCE = 240.0
DDP = ["train.strategy=ddp", "train.processes=2"]
# A test sees the sixth update, looks for the ranks and hits one: by then 48 tiny updates may be over.
SLOWLY = "slowly"


@pytest.fixture(scope="module")
def recipe(shards: Path, tokenizer_path: Path) -> Recipe:
    """Two batches an update: two numbers have the same sum in either order, so two ranks make `single`'s bits."""
    return override_recipe(tiny_recipe(shards, tokenizer_path), ["train.updates=48", "train.validate_every=24"])


@pytest.fixture(scope="module")
def undisturbed(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    train(recipe, run)
    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(find_checkpoint(run, "last") / "model.pt", weights_only=True)
    return loaded


def assert_same(run: Path, other: Path) -> None:
    expected, found = weights(other), weights(run)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    curves = [
        [[r.get(name) for name in ("event", "loss", "wer", "cer_p", "utterances")] for r in read_metrics(folder)]
        for folder in (run, other)
    ]
    assert curves[0] == curves[1]


@contextmanager
def command(recipe: Recipe, run: Path, *settings: str, program: str = "speechmill") -> Iterator[subprocess.Popen[str]]:
    path = run.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(override_recipe(recipe, settings).plain()), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", program, "train", str(path), "--run", str(run)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=with_this_folder(),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def with_this_folder() -> dict[str, str]:
    """The environment in which Python finds `slowly`."""
    known = [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    return os.environ | {"PYTHONPATH": os.pathsep.join([*known, str(Path(__file__).parent)])}


def wait_for_update(run: Path, update: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not any(record["update"] >= update for record in read_metrics(run)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def ranks_of(process: subprocess.Popen[str], module: str = "speechmill.train.worker") -> list[int]:
    """The ranks that a command has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            words = (stat.parent / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if int(fields[1]) == process.pid and module in words:
            found.append(int(stat.parent.name))
    return sorted(found)


def test_a_killed_rank_is_started_again_and_the_run_is_the_same(
    recipe: Recipe, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with command(recipe, run, *DDP, program=SLOWLY) as process:
        wait_for_update(run, 6, process)
        before = ranks_of(process, SLOWLY)
        os.kill(before[-1], signal.SIGKILL)
        out, err = process.communicate(timeout=PATIENCE)
    assert len(before) == 2
    assert process.returncode == 0, err
    assert "48 updates" in out
    assert "another rank has gone" in err, "it ended before the kill"
    assert_same(run, undisturbed)


def test_a_stuck_rank_ends_the_job_by_its_name(recipe: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    endless = ["train.updates=100000", "optim.schedule=constant", "train.timeout=5"]
    with command(recipe, run, *DDP, *endless) as process:
        wait_for_update(run, 6, process)
        stuck = ranks_of(process)[-1]
        os.kill(stuck, signal.SIGSTOP)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert f"(process {stuck} on " in err
    assert "has given no sign of life for" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_stop_saves_and_another_strategy_walks_the_same_updates(
    number: signal.Signals, recipe: Recipe, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with command(recipe, run, *DDP, program=SLOWLY) as process:
        wait_for_update(run, 6, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert f"stopped by {number.name}" in out
    assert read_state(checkpoints(run)[-1]).update < 48
    assert train(recipe, run).finished  # by `single`
    assert_same(run, undisturbed)


def test_bad_input_of_the_ranks_is_told_once(recipe: Recipe, tmp_path: Path) -> None:
    with command(recipe, tmp_path / "run", *DDP, "data.tokenizer=nowhere") as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert [line for line in err.splitlines() if "nowhere" in line] == [err.strip().splitlines()[-1]]
    assert "no such tokenizer" in err


def under_torchrun(recipe: Recipe, run: Path, *settings: str, program: str = "speechmill") -> list[str]:
    path = run.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(override_recipe(recipe, settings).plain()), encoding="utf-8")
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=3"]
    return [sys.executable, "-m", *torchrun, "-m", "--", program, "train", str(path), "--run", str(run)]


def test_torchrun_does_not_start_again_what_would_end_so_again(recipe: Recipe, tmp_path: Path) -> None:
    for settings, line in [
        (["data.tokenizer=nowhere"], "no such tokenizer"),
        (["schedule.batches_per_update=1"], "an update has 1 batch: 1 would have nothing to do"),
        (["optim.lr=1e30", "optim.clip_norm=0", "train.max_nonfinite=2"], "updates in a row had a loss or gradient"),
    ]:
        words = under_torchrun(recipe, tmp_path / "run", "train.strategy=ddp", *settings)
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode
        told = [told for told in done.stderr.splitlines() if told.startswith("speechmill train: ") and line in told]
        assert 1 <= len(told) <= 2, done.stderr  # once from each rank at most
    assert_names_the_last_batches(told[0], recipe)


def test_a_stop_of_torchruns_ranks_is_the_end(recipe: Recipe, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = under_torchrun(recipe, run, "train.strategy=ddp", program=SLOWLY)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": with_this_folder()}
    with subprocess.Popen(words, **pipes) as process:
        wait_for_update(run, 6, process)
        ranks = ranks_of(process, SLOWLY)
        assert len(ranks) == 2
        for rank in ranks:
            os.kill(rank, signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode, err
    assert out.count("stopped by SIGTERM") == 1
    assert read_state(checkpoints(run)[-1]).update < 48
    assert train(recipe, run).finished
    assert_same(run, undisturbed)
