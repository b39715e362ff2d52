"""Two commands on one artefact: the second is told so in one line; a dead one holds nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from speechmill.artefact import locked, tidy
from speechmill.cli import main
from speechmill.errors import SpeechmillError

_HOLD = """
import sys
from pathlib import Path
from speechmill.artefact import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
_HOLD_AND_FORK = """
import os, sys, time
from pathlib import Path
from speechmill.artefact import locked
with locked(Path(sys.argv[1])):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
    sys.stdin.read()
"""
_POOL = """
import multiprocessing, sys, time
from concurrent.futures import ProcessPoolExecutor
from speechmill.workers import end_with_parent
if __name__ == "__main__":
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=end_with_parent) as pool:
        pool.submit(print, "at work", flush=True).result()
        pool.submit(time.sleep, 60).result()
"""


@contextmanager
def _python(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_second_process_is_told_in_one_line(tmp_path: Path) -> None:
    with _python(_HOLD, str(tmp_path / "run")) as process:
        assert _line(process) == "held"
        with pytest.raises(SpeechmillError, match="another command is working on it"), locked(tmp_path / "run"):
            pytest.fail("two hold it")


def test_lock_ends_with_its_block_and_leaves_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path / "new" / "run"):
            assert [path.name for path in (tmp_path / "new").iterdir()] == [".run.lock"]
        assert list((tmp_path / "new").iterdir()) == []


def test_killed_process_holds_nothing(tmp_path: Path) -> None:
    with _python(_HOLD, str(tmp_path / "run")) as process:
        assert _line(process) == "held"
        process.kill()
        process.wait()
        assert (tmp_path / ".run.lock").exists()
        with locked(tmp_path / "run"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_orphan_holds_nothing(tmp_path: Path) -> None:
    with _python(_HOLD_AND_FORK, str(tmp_path / "run")) as process:
        orphan = int(_line(process))
        process.kill()
        process.wait()
        try:
            with locked(tmp_path / "run"):
                os.kill(orphan, 0)  # raises if it had ended
        finally:
            os.kill(orphan, signal.SIGKILL)


def test_worker_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "pool.py").write_text(_POOL)
    with subprocess.Popen([sys.executable, str(tmp_path / "pool.py")], stdout=subprocess.PIPE, text=True) as process:
        assert _line(process) == "at work"
        process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == ""  # returns when the worker, which holds the pipe as well, is gone


def test_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _python(_HOLD, str(tmp_path / "corpus")) as process:
        assert _line(process) == "held"
        assert main(["demo-corpus", str(tmp_path / "corpus"), "--calls", "2", "--hours", "0.05"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "another command is working on it" in error


def test_lock_lies_inside_a_folder_whose_parent_may_not_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)  # permissions do not bind root
    with locked(run):
        assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == [Path("run"), Path("run/.lock")]
    assert list(run.iterdir()) == []


def test_a_lock_that_a_killed_command_left_is_tidied_and_one_that_is_held_stays(tmp_path: Path) -> None:
    out, lock = tmp_path / "a.parquet", tmp_path / ".a.parquet.lock"
    tidy(out)
    lock.touch()
    tidy(out)
    assert not lock.exists()
    with _python(_HOLD, str(out)) as process:
        assert _line(process) == "held"
        tidy(out)
        assert lock.exists()
        process.kill()
