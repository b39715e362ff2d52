"""Progress with time left, on standard error so that standard output stays data."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")

_LINE_EVERY = 10.0  # seconds between lines where standard error is a file (a Slurm log)


class Progress:
    """A bar on a terminal, a line every ten seconds elsewhere; nothing for work that ends before that."""

    def __init__(self, name: str, total: float | None, unit: str = "") -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0.0
        self._note = ""
        self._start = self._shown = time.monotonic()
        self._first = 0.0
        self._tty = sys.stderr.isatty()
        self._printed = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tty and self._printed:
            self._show()
            sys.stderr.write("\n")
            sys.stderr.flush()

    def resume_at(self, done: float) -> None:
        """Say what an earlier run did: it counts as done but not for the speed."""
        self.done = self._first = done

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Count `amount` more as done; shown twice a second on a terminal, a line every ten seconds elsewhere."""
        self.done += amount
        self._note = note or self._note
        now = time.monotonic()
        if now - self._shown >= (0.5 if self._tty else _LINE_EVERY):
            self._shown = now
            self._show()

    def _show(self) -> None:
        elapsed = time.monotonic() - self._start
        text = f"{self.name}: {self.done:.0f}"
        if self.total:
            share = min(1.0, self.done / self.total)
            speed = (self.done - self._first) / max(elapsed, 1e-9)
            left = max(0.0, self.total - self.done) / speed if speed > 0 else float("nan")
            text += f"/{self.total:.0f} {self.unit} {share:4.0%}, {clock(elapsed)} gone, {clock(left)} left"
            if self._tty:
                filled = int(20 * share)
                text = f"[{'#' * filled}{'.' * (20 - filled)}] {text}"
        else:
            text += f" {self.unit}, {clock(elapsed)} gone"
        if self._note:
            text += f", {self._note}"
        sys.stderr.write(f"\r\x1b[K{text}" if self._tty else f"{text}\n")
        sys.stderr.flush()
        self._printed = True


def clock(seconds: float) -> str:
    """4242 -> '1:10:42'; a number that is not known yet -> '?'."""
    if seconds != seconds:
        return "?"
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{whole // 60}:{whole % 60:02d}"


def track(items: Iterable[T], name: str, total: int, unit: str = "") -> Iterator[T]:
    """Iterate with a progress bar."""
    with Progress(name, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()
