"""slurm/job.sh without a cluster: what it makes of Slurm's variables, and what becomes of a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bash(code: str, path: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    kept["PATH"] = f"{path}:{kept['PATH']}" if path else kept["PATH"]
    return subprocess.run(
        ["bash", "-c", f"source slurm/job.sh\n{code}"], env=kept | variables, cwd=ROOT, check=False,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "slurm").iterdir()))
def test_bash_parses_it(script: str) -> None:
    subprocess.run(["bash", "-n", ROOT / "slurm" / script], check=True)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "0"),
        ({"SLURM_GPUS": "8"}, "4"),
        ({"SLURM_GPUS": "h100:8"}, "4"),
        ({"SLURM_GPUS_PER_NODE": "v100:3", "SLURM_GPUS": "6"}, "3"),
        ({"SLURM_GPUS_ON_NODE": "8"}, "8"),  # --gres=gpu:8
        ({"SLURM_GPUS": "8", "SLURM_GPUS_ON_NODE": "5"}, "4"),
    ],
)
def test_gpus_of_a_node(variables: dict[str, str], expected: str) -> None:
    assert bash("gpus_of_node", SLURM_JOB_NUM_NODES="2", **variables).stdout.strip() == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [("recipe.yaml a=1", "--run runs/job-7"), ("recipe.yaml --run there", ""), ("--run=there recipe.yaml", "")],
)
def test_a_job_without_a_run_folder_has_one_that_stays_its_own(words: str, expected: str) -> None:
    assert bash(f"run_folder {words}", SLURM_JOB_NAME="job", SLURM_JOB_ID="7").stdout.strip() == expected


def test_torchrun_has_the_cores_of_all_its_ranks(tmp_path: Path) -> None:
    for name, says in {
        "srun": 'printf "%s\\n" "$@"', "scontrol": '[ "$2" = hostnames ] && echo n1 || echo NodeAddr=10.0.0.1 x=y',
    }.items():  # fmt: skip
        (tmp_path / name).write_text(f"#!/bin/bash\n{says}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"SLURM_NTASKS_PER_NODE": "3", "SLURM_CPUS_PER_TASK": "4", "SLURM_JOB_NUM_NODES": "2",
                 "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "job", "SLURM_JOB_NODELIST": "n[1-2]"}  # fmt: skip
    words = bash("run_ranks 3 ddp recipe.yaml", path=str(tmp_path), **variables).stdout.splitlines()
    assert {"--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=12", "--nproc-per-node=3", "--nnodes=2"} < set(words)
    assert "--rdzv-endpoint=10.0.0.1:20007" in words
    assert words[-8:] == ["speechmill", "train", "--strategy", "ddp", "recipe.yaml", "--run", "runs/job-7", "--requeue"]


def test_a_command_on_the_path_is_found_and_one_that_is_not_is_named(tmp_path: Path) -> None:
    (tmp_path / "speechmill").write_text("#!/bin/bash\n")
    (tmp_path / "speechmill").chmod(0o755)
    assert bash('echo "$program"', path=str(tmp_path), SPEECHMILL="speechmill").stdout.strip().startswith(str(tmp_path))
    done = bash("true", SPEECHMILL="./nowhere")
    assert (done.returncode, done.stderr.startswith("./nowhere: no such command")) == (2, True)


@pytest.mark.parametrize(("node", "host"), [("0", "true"), ("1", "false")])
def test_the_first_node_keeps_the_rendezvous(node: str, host: str) -> None:
    words = bash("on_node echo --nnodes=2", SLURM_NODEID=node).stdout.split()
    assert words == [f"--rdzv-conf=is_host={host}", "--nnodes=2"]


def test_slurms_warning_goes_to_the_ranks_and_leaves_torchrun_alone(tmp_path: Path) -> None:
    assert warned(tmp_path, before="") == ["heard", "status 5"]


def test_ranks_that_were_not_ready_hear_the_warning_later(tmp_path: Path) -> None:
    assert warned(tmp_path, before="time.sleep(2)") == ["heard", "status 5"]  # Python alone would be deaf to it


def warned(folder: Path, before: str) -> list[str]:
    """What a job prints that is warned when its rank has come to `before`."""
    rank, torchrun = folder / "rank.py", folder / "torchrun"
    rank.write_text(
        "import pathlib, signal, sys, time\n"
        "listen = lambda: signal.signal(signal.SIGUSR1, lambda *_: sys.exit(print('heard')))\n"
        f"{'' if before else 'listen()'}\n"
        "pathlib.Path('started').touch()\n"
        f"{before}\n"
        "listen()\n"
        "while True: time.sleep(0.05)\n"
    )
    torchrun.write_text(f"#!/bin/bash\n{sys.executable} {rank} &\nwait $!\nexit 5\n")  # no handler, as the true one
    torchrun.chmod(0o755)
    code = f"source {ROOT}/slurm/job.sh; set +e; on_node {torchrun}; echo status $?"
    with subprocess.Popen(["bash", "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True,
                          env=os.environ | {"SPEECHMILL": "true"}) as job:  # fmt: skip
        deadline = time.monotonic() + 60
        while not (folder / "started").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        job.send_signal(signal.SIGUSR1)
        out, _ = job.communicate(timeout=60)
    return out.splitlines()
