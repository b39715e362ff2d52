from __future__ import annotations

import io
import sys

import pytest

from speechmill import progress
from speechmill.progress import Progress, clock, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set by the test."""
    time = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def shown_on(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.9, 61, 4242, float("nan"))] == ["0:00", "0:59", "1:01", "1:10:42", "?"]


def test_a_log_gets_a_line_every_ten_seconds(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shown_on(io.StringIO(), monkeypatch)
    with Progress("shard", 100, "h") as shown:
        for _ in range(50):
            now[0] += 1
            shown.advance(1, note="call 5")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0] == "shard: 10/100 h  10%, 0:10 gone, 1:30 left, call 5"


@pytest.mark.usefixtures("now")
def test_short_work_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shown_on(io.StringIO(), monkeypatch)
    assert list(track("abc", "letters", 3)) == ["a", "b", "c"]
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_and_an_end_of_line(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shown_on(Terminal(), monkeypatch)
    for _ in track(range(4), "import", 4, "calls"):
        now[0] += 1
    text = stream.getvalue()
    assert "[#####...............] import: 1/4 calls  25%, 0:01 gone, 0:03 left" in text
    assert text.endswith("100%, 0:04 gone, 0:00 left\n")


def test_what_an_earlier_run_did_counts_as_done_but_not_for_the_speed(
    now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = shown_on(io.StringIO(), monkeypatch)
    with Progress("train", 100, "updates") as shown:
        shown.resume_at(80)
        now[0] += 10
        shown.advance(10)
    assert stream.getvalue() == "train: 90/100 updates  90%, 0:10 gone, 0:10 left\n"


def test_more_than_the_total_leaves_no_negative_time(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shown_on(io.StringIO(), monkeypatch)
    with Progress("shard", 10, "h") as shown:
        now[0] += 10
        shown.advance(11)
    assert stream.getvalue() == "shard: 11/10 h 100%, 0:10 gone, 0:00 left\n"


def test_without_a_total_there_is_no_time_left(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shown_on(io.StringIO(), monkeypatch)
    with Progress("read", None, "files") as shown:
        now[0] += 12
        shown.advance(7)
    assert stream.getvalue() == "read: 7 files, 0:12 gone\n"
