"""slurm/prepare.sbatch and align.sbatch: run as Slurm runs them, with the variables of an array's tasks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from conftest import SHARD_SETTINGS
from speechmill.artefact import sha256_file
from speechmill.manifest import read_manifest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT, ALIGN = ROOT / "slurm" / "prepare.sbatch", ROOT / "slurm" / "align.sbatch"
SETTINGS = [f"shard.sample_rate={SHARD_SETTINGS.sample_rate}", f"shard.shard_seconds={SHARD_SETTINGS.shard_seconds}",
            f"shard.group_shards={SHARD_SETTINGS.group_shards}",
            f"features.sample_rate={SHARD_SETTINGS.sample_rate}"]  # fmt: skip


def sums(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in folder.iterdir() if not path.name.startswith("tokens-")}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The command `speechmill` of this very source, as the job finds it."""
    command = tmp_path / "bin" / "speechmill"
    command.parent.mkdir()
    code = "import sys; from speechmill.cli import main; sys.exit(main())"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    command.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return kept | {"SPEECHMILL": str(command), "PYTHONPATH": str(ROOT / "src")}


@pytest.mark.parametrize("script", [SCRIPT, ALIGN], ids=lambda script: script.stem)
def test_bash_parses_it(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "#SBATCH --array=" in script.read_text()


@pytest.mark.parametrize("script", [SCRIPT, ALIGN], ids=lambda script: script.stem)
def test_without_arguments_it_says_how(script: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: sbatch --array=")


@pytest.mark.parametrize("first", [0, 1])
def test_the_tasks_of_an_array_write_the_bytes_of_one_command(
    tmp_path: Path, environment: dict[str, str], manifest: Path, shards: Path, first: int
) -> None:
    out = tmp_path / "shards"
    for task in range(first, first + 3):
        slurm = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_CPUS_PER_TASK": "1"}
        command = ["bash", str(SCRIPT), str(manifest), str(out), *SETTINGS]
        done = subprocess.run(command, env=environment | slurm, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert ("other workers still have" in done.stdout) == (task < first + 2)
    assert sums(out) == sums(shards)


def test_the_tasks_of_an_array_align_all_recordings(
    tmp_path: Path, environment: dict[str, str], manifest: Path
) -> None:
    out = tmp_path / "aligned.parquet"
    for task in range(2):
        slurm = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_CPUS_PER_TASK": "1"}
        command = ["bash", str(ALIGN), str(manifest), str(out)]
        done = subprocess.run(command, env=environment | slurm, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert out.exists() == (task == 1)
    recordings = read_manifest(manifest)["recording"].unique()
    spans = pl.read_parquet(tmp_path / "aligned.spans.parquet")
    assert sorted(spans["recording"].unique()) == sorted(recordings)
