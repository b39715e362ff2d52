"""SIGINT, SIGTERM and SIGUSR1 ask training to save and leave; a second one is obeyed at once.

SIGUSR1 is what Slurm sends before a job's time is up, where the job asks for it (sbatch --signal).
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from speechmill.group import is_rank
from speechmill.launch import asked_to_stop


class StopRequest:
    """True once a signal has come; `name` is that signal's."""

    def __init__(self) -> None:
        self.name = asked_to_stop()

    def __bool__(self) -> bool:
        return bool(self.name)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """While the block runs, the first signal sets the request instead of ending the process.

    One of several ranks ignores what comes after it: the command that started them passes signals on, and Slurm sends
    them to both. It goes on to do so when the block has ended well: it still has to tell of its end, and a quicker rank
    may have had torchrun end the others.
    """
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if request and not is_rank():
            raise KeyboardInterrupt
        request.name = request.name or signal.Signals(number).name

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, handle) for number in numbers}
    ends = False
    try:
        yield request
        ends = is_rank()
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if ends else handler)
