"""Put the Slurm job that runs this process back into the queue."""

from __future__ import annotations

import os
import shutil
import subprocess

from speechmill.errors import SpeechmillError


def requeue() -> str:
    """What was done, for the job's output. Raises SpeechmillError where this is no job, or Slurm refuses."""
    job, scontrol = os.environ.get("SLURM_JOB_ID"), shutil.which("scontrol")
    if not job or not scontrol:
        raise SpeechmillError(
            "--requeue: this is no Slurm job (SLURM_JOB_ID or scontrol is missing); training is saved, "
            "run the same command to go on."
        )
    done = subprocess.run([scontrol, "requeue", job], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SpeechmillError(
            f"scontrol requeue {job}: {done.stderr.strip() or 'failed'}; training is saved, "
            f"submit the job again to go on (sbatch --requeue allows it)."
        )
    return f"job {job} is requeued"
