from __future__ import annotations

import numpy as np
import pytest

from speechmill.compare.power_law import fit_power_law


def test_it_finds_the_law_that_made_the_errors() -> None:
    hours = [1.0, 4.0, 16.0, 64.0]
    law = fit_power_law(hours, [0.05 + 0.4 * amount**-0.5 for amount in hours])
    assert law is not None
    assert (law.a, law.b, law.c) == pytest.approx((0.05, 0.4, 0.5), abs=1e-6)
    assert law.at(256) == pytest.approx(0.05 + 0.4 / 16)


def test_intervals_hold_the_truth_and_widen_with_the_spread_over_seeds() -> None:
    random = np.random.default_rng(1)
    hours = np.repeat([1.0, 4.0, 16.0], 5)

    def width(spread: float) -> float:
        rates = (0.05 + 0.4 * hours**-0.5) * np.exp(spread * random.standard_normal(len(hours)))
        law = fit_power_law(hours.tolist(), rates.tolist())
        assert law is not None
        assert law.c_interval[0] <= 0.5 <= law.c_interval[1]
        return law.c_interval[1] - law.c_interval[0]

    assert width(0.001) < width(0.05)


def test_errors_that_do_not_fall_have_no_slope() -> None:
    law = fit_power_law([1, 4, 16], [0.1, 0.11, 0.12])
    assert law is not None
    assert law.at(1) == pytest.approx(law.at(100))


def test_a_floor_is_never_negative() -> None:
    law = fit_power_law([1, 4, 16, 64], [0.4, 0.05, 0.006, 0.0007])
    assert law is not None
    assert law.a >= 0
    assert law.b > 0


def test_two_amounts_are_too_few() -> None:
    assert fit_power_law([1, 1, 4], [0.3, 0.31, 0.2]) is None
