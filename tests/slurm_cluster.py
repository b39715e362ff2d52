"""A one-machine Slurm cluster for the tests; where Slurm is absent they skip and say so."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
_PATIENCE = 600.0  # seconds for a job; one that needs longer hangs


def _slurm_here() -> ModuleType:
    spec = importlib.util.spec_from_file_location("slurm_here", ROOT / "tools" / "slurm_here.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


UNFINISHED = {"PENDING", "RUNNING", "COMPLETING", "REQUEUED", "CONFIGURING"}


class Cluster:
    """Submits jobs from the project's folder and waits for them."""

    def __init__(self, conf: Path, environment: dict[str, str]) -> None:
        self._environment = environment | {"SPEECHMILL": str(Path(sys.executable).with_name("speechmill"))}
        self.conf = conf

    def submit(self, *words: object, folder: Path) -> str:
        """sbatch WORDS with its output under `folder`; returns the job's number."""
        log = f"--output={folder}/slurm-%A_%a.out"
        done = self.ask("sbatch", "--parsable", log, *words)
        return done.split(";")[0].strip()

    def ask(self, *words: object) -> str:
        """The output of one of Slurm's commands."""
        done = subprocess.run(
            [str(word) for word in words], env=self._environment, cwd=ROOT, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def states(self, job: str) -> dict[str, str]:
        """State of each task of a job: {"12_1": "COMPLETED"}, {"12": "RUNNING"}."""
        shown = self.ask("squeue", "--noheader", "--states=all", "--array", f"--jobs={job}", "--format=%i %T")
        return dict(line.split() for line in shown.splitlines())

    def wait(self, job: str) -> dict[str, str]:
        """Wait until every task has ended; returns their last states."""
        deadline = time.monotonic() + _PATIENCE
        states = self.states(job)
        while UNFINISHED.intersection(states.values()):
            assert time.monotonic() < deadline, f"job {job} is still {states}"
            time.sleep(0.5)
            states = self.states(job)
        return states


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    slurm = _slurm_here()
    if slurm.missing():
        pytest.skip(f"Slurm is not installed ({', '.join(slurm.missing())}); apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("a Slurm cluster of one machine is started by root")
    folder = tmp_path_factory.mktemp("slurm")
    folder.parent.parent.chmod(0o755)
    conf = slurm.start(folder, nodes=2)
    try:
        yield Cluster(conf, slurm.surroundings(conf))
    finally:
        slurm.stop(folder)
