"""What malloc keeps."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from speechmill.heap import give_back, keep_freed

def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident() -> int:
    return int(open("/proc/self/statm").read().split()[1])

kept = keep_freed() if sys.argv[1] == "kept" else 0
np.ones(16 << 20)
before, standing = faults(), resident()
for _ in range(10):
    np.ones(16 << 20)
touched = faults() - before
give_back()
print(kept, touched, standing - resident())
"""


def pages(how: str) -> tuple[int, int, int]:
    """Bytes that are kept, pages that ten arrays of 128 MiB one after the other had filled, and those given back."""
    environment = os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"}
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    kept, touched, given = map(int, done.stdout.split())
    return kept, touched, given


def test_what_is_freed_stays_until_it_is_given_back() -> None:
    kept, ours, given = pages("kept")
    if kept < 128 << 20:
        pytest.skip(f"malloc keeps pieces of up to {kept} bytes here")
    _, of_glibc, nothing = pages("glibc's")
    assert of_glibc > 500  # where all pages are huge; 327,680 of the usual ones
    assert ours < of_glibc / 10
    assert nothing < 1000
    assert given > 30000  # of 32,768: nearly all of one array
