from __future__ import annotations

import os
import subprocess
import sys

import pytest

from speechmill.workers import cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores")
def test_only_the_cores_that_the_process_may_use_are_counted() -> None:
    program = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    program += "from speechmill.workers import cores\nprint(cores())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "1\n"
    assert 1 <= cores() <= (os.cpu_count() or 1)
