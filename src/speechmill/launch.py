"""Start the processes of a group on this machine, by torchrun's own launcher, and hear how they ended."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from speechmill.artefact import read_json, write_json
from speechmill.errors import PeerLost, SpeechmillError

_WORD = "SPEECHMILL_LAUNCH"  # the folder where launched processes leave word
_COMMAND = "SPEECHMILL_COMMAND"  # what the user typed
_STARTER = os.getppid()  # another one later: that has died
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def launch(module: str, arguments: Sequence[str], processes: int, restarts: int) -> dict[str, Any]:
    """Run `python -m module arguments` in so many processes; returns what rank 0 left (see `leave_word`).

    A process that dies ends the others, and all are started again, at most `restarts` times. SIGINT, SIGTERM and
    SIGUSR1 are passed on to the processes, which have a session of their own.
    Raises SpeechmillError with the message of a rank that left an error, or where the processes kept dying.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory(prefix="speechmill-") as folder, _elastic_quiet():
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
            rdzv_endpoint="localhost:0", local_addr="localhost", max_restarts=restarts,
            logs_specs=DefaultLogsSpecs(log_dir=f"{folder}/logs"),
            signals_to_handle="SIGHUP,SIGQUIT",  # the others are ours: torchrun kills after 30 seconds
        )  # fmt: skip
        word = Path(folder)
        command = json.dumps(sys.argv)
        with _environment(_WORD, folder), _environment(_COMMAND, command), _passing_signals_on(word):
            try:
                elastic_launch(config, sys.executable)("-m", module, *arguments)
            except ChildFailedError as error:
                rank, failure = error.get_first_failure()
                raise _error(word) or SpeechmillError(
                    f"rank {rank} ended with status {failure.exitcode} after {restarts} restarts; its last lines are "
                    f"above. The last checkpoint stands: run the same command to go on from it."
                ) from error
            except SignalException as error:
                raise KeyboardInterrupt from error
        failed = _error(word)
        if failed:
            raise failed
        return dict(read_json(word / "rank0.json"))


def launched() -> bool:
    """Whether `launch` started this process."""
    return _WORD in os.environ


def command() -> list[str]:
    """The command line that this process goes back to."""
    return list(json.loads(os.environ[_COMMAND])) if launched() else sys.argv


def leave_word(word: dict[str, Any]) -> bool:
    """In a launched process: tell the command that started it; False where `launch` did not."""
    if not launched():
        return False
    write_json(Path(os.environ[_WORD]) / f"rank{os.environ['RANK']}.json", word)
    return True


def run_rank(work: Any) -> int:
    """A launched process's main: call `work`, leave word of what it returns or why it failed; the exit status.

    Once a rank has left an error, those that are started again leave at once: it would only come again.
    """
    folder = Path(os.environ[_WORD])
    (folder / f"pid-{os.getpid()}").touch()
    end_with_starter()
    if _error(folder):
        return 0
    try:
        word = work()
    except PeerLost as error:
        sys.stderr.write(f"speechmill: {error}\n")
        return 1
    except SpeechmillError as error:
        leave_word({"error": str(error)})
        return 1
    if os.environ["RANK"] == "0":
        leave_word(word)
    return 0


def not_again() -> None:
    """In a rank of torchrun's own, whose reason to end would only come again: have torchrun end, not start it anew.

    Whoever starts torchrun on several machines ends the others with it (srun --kill-on-bad-exit).
    """
    tried, most = (int(os.environ.get(f"TORCHELASTIC_{name}", "0")) for name in ("RESTART_COUNT", "MAX_RESTARTS"))
    if not launched() and tried < most and os.getppid() == _STARTER != 1:
        with suppress(OSError):
            os.kill(_STARTER, signal.SIGTERM)


def asked_to_stop() -> str:
    """The signal that the command had been sent before this process could hear it; empty where none was."""
    path = Path(os.environ.get(_WORD, os.devnull)) / "stop"
    return path.read_text() if path.is_file() else ""


def end_with_starter() -> None:
    """Leave as soon as the process that started this one is gone, even killed."""
    starter = os.getppid()

    def watch() -> None:
        while os.getppid() == starter:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _is_ours(process: int) -> bool:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return not Path("/proc/self/stat").exists()
    return int(fields[1]) == os.getpid()


def _error(folder: Path) -> SpeechmillError | None:
    for path in sorted(folder.glob("rank*.json")):
        with suppress(json.JSONDecodeError):
            word = json.loads(path.read_text())
            if "error" in word:
                return SpeechmillError(word["error"])
    return None


@contextmanager
def _passing_signals_on(folder: Path) -> Iterator[None]:
    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        (folder / "stop").write_text(signal.Signals(number).name)
        for path in folder.glob("pid-*"):
            process = int(path.name.removeprefix("pid-"))
            with suppress(ProcessLookupError):
                if _is_ours(process):  # one that was started again has left its number to anybody
                    os.kill(process, number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, pass_on) for number in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _environment(key: str, value: str) -> Iterator[None]:
    before = os.environ.get(key)
    os.environ[key] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


@contextmanager
def _elastic_quiet() -> Iterator[None]:
    """Torchrun logs every signal and restart at length; what matters is told by us."""
    logger = logging.getLogger("torch.distributed.elastic")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
