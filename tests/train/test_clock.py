"""The share of the steps spent waiting for data: what comes between steps is no part of it."""

from __future__ import annotations

import pytest

from speechmill.train import clock as clock_module
from speechmill.train.clock import Clock


def test_the_share_is_of_the_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(clock_module.time, "monotonic", lambda: now)
    clock = Clock(before=7.0)
    for waited, worked, between in ((1.0, 3.0, 50.0), (0.0, 4.0, 0.0)):
        with clock.spending("data"):
            now += waited
        now += worked
        with clock.spending("validation"):
            now += between
    assert clock.shares("data", "sync", without=("validation",)) == [pytest.approx(1.0 / 8.0), 0.0]
    assert clock.shares("data") == [0.0], "each share begins anew"
    assert clock.seconds() == pytest.approx(7.0 + 58.0)
