"""The projection's arithmetic, on cases that can be done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.projection import PERIOD, longest, projected, projected_local


def test_a_message_that_fits_behind_the_backward_pass_costs_nothing() -> None:
    assert projected(0.3, 1.0, 0.2) == pytest.approx(1.0)
    assert projected(0.3, 1.0, 0.5) == pytest.approx(0.3 / (0.3 + 0.5 - 0.2))


def test_ranks_wait_for_the_longest_batch() -> None:
    seconds = np.array([1.0, 3.0, 2.0, 2.0])
    assert longest(seconds, 2) == pytest.approx((3 + 2) / 2 / 2)
    assert longest(seconds, 2, period=2) == pytest.approx(5 / 4)
    assert projected(0.3, 1.25, 0.0) == pytest.approx(0.8)


def test_parameters_that_travel_seldom_cost_little() -> None:
    assert projected_local(0.5, 1.0, 8.0) == pytest.approx(PERIOD * 0.5 / (PERIOD * 0.5 + 8.0))
