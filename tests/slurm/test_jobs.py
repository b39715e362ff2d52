"""The job scripts on a real Slurm: each ends with what it is for."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from conftest import SHARD_SETTINGS
from slurm_cluster import Cluster
from speechmill.artefact import sha256_file
from speechmill.metrics import read_metrics
from speechmill.train.checkpoint import checkpoints, read_state
from speechmill.train.runlog import read_config
from trained import tiny_recipe


def recipe_file(folder: Path, shards: Path, tokenizer_path: Path, **train: Any) -> Path:
    plain = tiny_recipe(shards, tokenizer_path).plain()
    plain["train"] |= train
    plain["optim"] |= {"schedule": "constant"}  # so that a run may go on to more updates, or end with fewer
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def test_the_training_job_ends_with_a_recognizer_that_can_be_scored(
    cluster: Cluster, shards: Path, tokenizer_path: Path, tmp_path: Path
) -> None:
    recipe = recipe_file(tmp_path, shards, tokenizer_path)
    job = cluster.submit("slurm/train.sbatch", recipe, "--run", tmp_path / "run", folder=tmp_path)
    assert set(cluster.wait(job).values()) == {"COMPLETED"}, log(tmp_path)
    assert_can_be_scored(tmp_path / "run")


def assert_can_be_scored(run: Path) -> None:
    assert read_metrics(run)[-1]["event"] == "end"
    speechmill = Path(sys.executable).with_name("speechmill")
    done = subprocess.run(
        [speechmill, "evaluate", run, "--split", "test", "--json", "-"], check=True, capture_output=True
    )
    assert json.loads(done.stdout)["utterances"] > 0


def test_the_tasks_of_an_array_share_the_writing_of_shards(
    cluster: Cluster, manifest: Path, shards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    asked = [f"shard.{name}={value}" for name, value in SHARD_SETTINGS.model_dump().items()]
    job = cluster.submit(
        "--array=0-2", "--cpus-per-task=1", "slurm/prepare.sbatch", manifest, out, *asked,
        f"features.sample_rate={SHARD_SETTINGS.sample_rate}", folder=tmp_path,
    )  # fmt: skip
    assert set(cluster.wait(job).values()) == {"COMPLETED"}, log(tmp_path)
    assert sums(out) == sums(shards)


def sums(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in folder.iterdir() if not path.name.startswith("tokens-")}


def test_a_job_of_a_missing_recipe_fails_with_the_line_that_says_so(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.submit("slurm/train.sbatch", tmp_path / "none.yaml", "--run", tmp_path / "run", folder=tmp_path)
    assert set(cluster.wait(job).values()) == {"FAILED"}
    assert "none.yaml: no such file" in log(tmp_path)


@pytest.mark.parametrize(
    ("job", "nodes", "strategy"),
    [
        ("train_ddp.sbatch", ["--nodes=2", "--ntasks-per-node=1"], "ddp"),
        ("train_ddp.sbatch", ["--gpus=2"], "ddp"),
        ("train_ddp_gpu.sbatch", ["--gpus-per-node=2", "--cpus-per-task=2"], "ddp"),
        ("train_gpu.sbatch", ["--cpus-per-task=1"], "single"),
        ("train_hogwild.sbatch", [], "hogwild"),
    ],
)
def test_the_other_jobs_end_with_a_recognizer_that_can_be_scored(
    job: str, nodes: list[str], strategy: str, cluster: Cluster, shards: Path, tokenizer_path: Path, tmp_path: Path
) -> None:
    processes = 1 if strategy == "single" else 2
    recipe = recipe_file(tmp_path, shards, tokenizer_path, strategy=strategy, processes=processes)
    number = cluster.submit(*nodes, f"slurm/{job}", recipe, "--run", tmp_path / "run", folder=tmp_path)
    assert set(cluster.wait(number).values()) == {"COMPLETED"}, log(tmp_path)
    assert_can_be_scored(tmp_path / "run")
    assert read_config(tmp_path / "run").train.processes == processes


@pytest.mark.parametrize(
    ("job", "how"), [("train.sbatch", {}), ("train_ddp.sbatch", {"strategy": "ddp", "processes": 2})]
)
def test_a_job_whose_time_runs_out_goes_back_and_ends_with_the_same_weights(
    job: str, how: dict[str, Any], cluster: Cluster, shards: Path, tokenizer_path: Path, tmp_path: Path
) -> None:
    def recipe(updates: int) -> Path:
        rare = {"validate_every": 1_000_000, "checkpoint_every": 1_000_000}
        return recipe_file(tmp_path, shards, tokenizer_path, updates=updates, **rare, **how)

    begun = time.monotonic()
    limit = ["--time=30", "--signal=USR1@60"]
    cut = cluster.submit(*limit, f"slurm/{job}", recipe(1_000_000), "--run", tmp_path / "cut", folder=tmp_path)
    until(lambda: '"train"' in text_of(tmp_path / "cut" / "metrics.jsonl"))
    # A limit counts in minutes, and Slurm looks at it twice a minute: the next but one that has not come yet.
    cluster.ask("scontrol", "update", f"jobid={cut}", f"timelimit={int((time.monotonic() - begun) / 60) + 2}")
    until(lambda: cluster.states(cut) == {cut: "PENDING"} and checkpoints(tmp_path / "cut"))
    assert f"job {cut} is requeued" in log(tmp_path)
    updates = read_state(checkpoints(tmp_path / "cut")[-1]).update + 100
    recipe(updates)  # what the job goes on to, from where it stood
    # Slurm lets it wait two minutes; some of that it needs, or the first start's credentials spoil the next.
    cluster.ask("scontrol", "update", f"jobid={cut}", "starttime=now+15", "timelimit=30")
    assert set(cluster.wait(cut).values()) == {"COMPLETED"}, log(tmp_path)
    whole = cluster.submit(f"slurm/{job}", recipe(updates), "--run", tmp_path / "whole", folder=tmp_path)
    assert set(cluster.wait(whole).values()) == {"COMPLETED"}, log(tmp_path)
    expected, found = (load_weights_of(tmp_path / name) for name in ("whole", "cut"))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert read_state(checkpoints(tmp_path / "cut")[-1]).update == updates


def text_of(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300
    while not true():
        assert time.monotonic() < deadline, "this should have come long ago"
        time.sleep(0.2)


def load_weights_of(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoints(run)[-1] / "model.pt", weights_only=True)


def log(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("slurm-*.out")))
