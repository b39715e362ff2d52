"""What a result file says of where it was made."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

_LIBRARIES = ("torch", "numpy", "polars", "pyarrow", "soundfile", "sentencepiece", "speechbrain")


def machine(command: list[str] | None = None) -> dict[str, Any]:
    """Command, commit, date, hardware and versions."""
    return {
        "command": " ".join(["python", "-m", *(command or _command())]),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "load": [round(load, 2) for load in os.getloadavg()],  # of the last 1, 5 and 15 minutes, of all that ran
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def _command() -> list[str]:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return [spec.name if spec else sys.argv[0], *sys.argv[1:]]


def _commit() -> str:
    """Of the checkout, with a + where its sources were changed since; "unknown" where there is none."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    try:
        named = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src", "hparams", "benchmarks/*.py"])
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return named.stdout.strip() + "+" * bool(changed.returncode)


def _cpu() -> str:
    with open("/proc/cpuinfo") as stream:
        return next((line.partition(":")[2].strip() for line in stream if line.startswith("model name")), "unknown")
