"""Wall-clock of training, and where it went."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Clock:
    """Seconds of training over all its runs, and the shares of them that went elsewhere since the last line of the log.

    Args:
        before: seconds of earlier runs.
    """

    def __init__(self, before: float) -> None:
        self._start = time.monotonic() - before
        self._interval = time.monotonic()
        self._spent: dict[str, float] = {}

    def seconds(self, at: float = 0.0) -> float:
        """Until now, or until a moment of the monotonic clock."""
        return (at or time.monotonic()) - self._start

    @contextmanager
    def spending(self, on: str) -> Iterator[None]:
        since = time.monotonic()
        try:
            yield
        finally:
            self.add(on, time.monotonic() - since)

    def add(self, on: str, seconds: float) -> None:
        self._spent[on] = self._spent.get(on, 0.0) + seconds

    def shares(self, *names: str, without: Sequence[str] = ()) -> list[float]:
        """The share that each took of the time since the last call, what was spent on `without` left out."""
        now = time.monotonic()
        spent = self._spent
        interval = max(1e-9, now - self._interval - sum(spent.get(name, 0.0) for name in without))
        self._interval, self._spent = now, {}
        return [min(1.0, spent.get(name, 0.0) / interval) for name in names]
