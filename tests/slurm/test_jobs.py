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
from speechmill.train.checkpoint import checkpoints
from speechmill.train.runlog import read_config
from trained import tiny_recipe


def recipe_file(folder: Path, shards: Path, tokenizer_path: Path, **train: Any) -> Path:
    plain = tiny_recipe(shards, tokenizer_path).plain()
    plain["train"] |= train
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def test_the_training_job_ends_with_a_recognizer_that_can_be_scored(
    cluster: Cluster, shards: Path, tokenizer_path: Path, tmp_path: Path
) -> None:
    recipe = recipe_file(tmp_path, shards, tokenizer_path)
    job = cluster.submit("slurm/train.sbatch", recipe, "--run", tmp_path / "run", folder=tmp_path)
    assert set(cluster.wait(job).values()) == {"COMPLETED"}, log(tmp_path)
    assert read_metrics(tmp_path / "run")[-1]["event"] == "end"
    speechmill = Path(sys.executable).with_name("speechmill")
    done = subprocess.run(
        [speechmill, "evaluate", tmp_path / "run", "--split", "test", "--json", "-"], check=True, capture_output=True
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
        ("train_hogwild.sbatch", [], "hogwild"),
    ],
)
def test_jobs_of_several_processes_end_with_a_recognizer(
    job: str, nodes: list[str], strategy: str, cluster: Cluster, shards: Path, tokenizer_path: Path, tmp_path: Path
) -> None:
    recipe = recipe_file(tmp_path, shards, tokenizer_path, strategy=strategy, processes=2)
    number = cluster.submit(*nodes, f"slurm/{job}", recipe, "--run", tmp_path / "run", folder=tmp_path)
    assert set(cluster.wait(number).values()) == {"COMPLETED"}, log(tmp_path)
    assert read_metrics(tmp_path / "run")[-1]["event"] == "end"
    assert read_config(tmp_path / "run").train.processes == 2


def test_a_job_whose_time_runs_out_goes_back_and_ends_with_the_same_weights(
    cluster: Cluster, shards: Path, tokenizer_path: Path, tmp_path: Path
) -> None:
    recipe = recipe_file(tmp_path, shards, tokenizer_path, updates=600, validate_every=600, checkpoint_every=600)
    undisturbed = cluster.submit("slurm/train.sbatch", recipe, "--run", tmp_path / "whole", folder=tmp_path)
    assert set(cluster.wait(undisturbed).values()) == {"COMPLETED"}, log(tmp_path)
    job = cluster.submit("slurm/train.sbatch", recipe, "--run", tmp_path / "cut", folder=tmp_path)
    until(lambda: has_begun(tmp_path / "cut"))
    cluster.ask("scancel", "--signal=USR1", job)  # as Slurm does before the time limit, which counts in minutes
    until(lambda: cluster.states(job) == {job: "PENDING"})
    # Slurm lets a requeued job wait two minutes; some of that it needs, or the credentials of the first start spoil it.
    cluster.ask("scontrol", "update", f"jobid={job}", "starttime=now+15")
    assert set(cluster.wait(job).values()) == {"COMPLETED"}, log(tmp_path)
    assert "is requeued" in log(tmp_path)
    whole, cut = (load_weights_of(tmp_path / name) for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def has_begun(run: Path) -> bool:
    path = run / "metrics.jsonl"
    return path.is_file() and '"train"' in path.read_text()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline, "this should have come long ago"
        time.sleep(0.1)


def load_weights_of(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoints(run)[-1] / "model.pt", weights_only=True)


def log(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("slurm-*.out")))
