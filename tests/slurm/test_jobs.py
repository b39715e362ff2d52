"""The job scripts on a real Slurm: each ends with what it is for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from slurm_cluster import Cluster
from speechmill.metrics import read_metrics
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


def test_a_job_of_a_missing_recipe_fails_with_the_line_that_says_so(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.submit("slurm/train.sbatch", tmp_path / "none.yaml", "--run", tmp_path / "run", folder=tmp_path)
    assert set(cluster.wait(job).values()) == {"FAILED"}
    assert "none.yaml: no such file" in log(tmp_path)


def log(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("slurm-*.out")))
