"""Worker processes that do not outlive the command that started them."""

from __future__ import annotations

import os
import threading
from multiprocessing.connection import wait
from multiprocessing.process import parent_process


def end_with_parent() -> None:
    """In a worker: leave as soon as the parent is gone.

    A worker of a killed command would otherwise take the next job from the queue, or wait for one for ever, and write
    beside the run that follows.
    """
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
