from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from speechmill.settings import Recipe, TrainSettings
from speechmill.workers import cores, signals_held, threads_of


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores")
def test_only_the_cores_that_the_process_may_use_are_counted() -> None:
    program = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    program += "from speechmill.workers import cores, signals_held\nprint(cores())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "1\n"
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_what_starts_in_the_block_is_deaf_to_the_group_and_the_starter_hears_afterwards() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        with signals_held():
            child = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"],
                                     stdout=subprocess.PIPE)  # fmt: skip
            # To this thread: one to the process is taken by any other thread there may be (polars has some).
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
            assert not heard
        assert heard == [signal.SIGUSR1]
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGUSR1)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.5)
        child.kill()
        child.communicate()
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize(("told", "setting", "expected"), [
    ("", 0, 4), ("1", 0, 1), ("3,1", 0, 3), ("many", 0, 4), ("0", 0, 4), ("1", 2, 2), ("", 2, 2),
])  # fmt: skip
def test_threads_are_the_recipes_or_what_the_environment_says_or_all(
    monkeypatch: pytest.MonkeyPatch, told: str, setting: int, expected: int
) -> None:
    monkeypatch.setattr("speechmill.workers.cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert threads_of(Recipe(train=TrainSettings(threads=setting)), 2) == expected
