"""Intervals hold the truth as often as they say, agree with values known otherwise, and admit where there are none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechmill.errors import SpeechmillError
from speechmill.score.intervals import Sums, difference, gap, rate_interval

BLOCKS = st.lists(
    st.integers(0, 60).flatmap(lambda words: st.tuples(st.integers(0, words), st.just(words))), min_size=0, max_size=16
).map(lambda rows: [Sums(*row) for row in rows])


def calls(rng: np.random.Generator, count: int, rate: float, spread: float = 0.3) -> list[Sums]:
    """Calls of unequal length whose rates vary about `rate`."""
    words = rng.lognormal(7, 0.4, count).astype(int)
    rates = np.minimum(1.0, rate * rng.lognormal(-(spread**2) / 2, spread, count))
    return [Sums(int(e), int(w)) for e, w in zip(rng.binomial(words, rates), words, strict=True)]


@pytest.mark.parametrize(("count", "least"), [(3, 0.86), (11, 0.87), (40, 0.90)])
def test_rate_intervals_hold_the_truth(count: int, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechmill.score.intervals.RESAMPLES", 1_000)
    rng = np.random.default_rng(5)
    found = [rate_interval(calls(rng, count, 0.2), seed) for seed in range(300)]
    held = np.mean([interval is not None and interval.low <= 0.2 <= interval.high for interval in found])
    assert least <= held <= 0.99


def test_drawing_words_instead_of_calls_would_promise_too_much() -> None:
    """The reason for blocks: the binomial interval of the same data is several times shorter."""
    blocks = calls(np.random.default_rng(1), 30, 0.2)
    errors, words = sum(b.errors for b in blocks), sum(b.words for b in blocks)
    binomial = 2 * 1.96 * math.sqrt(errors / words * (1 - errors / words) / words)
    interval = rate_interval(blocks)
    assert interval is not None
    assert interval.high - interval.low > 3 * binomial


def test_known_value() -> None:
    """Many blocks of one length: the interval of a mean, 1.96 standard errors each way."""
    rng = np.random.default_rng(2)
    errors = rng.binomial(100, 0.3, 400)
    interval = rate_interval([Sums(int(e), 100) for e in errors])
    assert interval is not None
    mean, half = errors.mean() / 100, 1.96 * errors.std(ddof=1) / 100 / 20
    assert (interval.low, interval.high) == pytest.approx((mean - half, mean + half), abs=half * 0.05)
    assert (interval.blocks, interval.level) == (400, 0.95)


def test_deterministic_by_seed() -> None:
    blocks = calls(np.random.default_rng(3), 12, 0.2)
    assert rate_interval(blocks) == rate_interval(blocks)
    assert rate_interval(blocks, seed=1) != rate_interval(blocks)
    wider, narrower = rate_interval(blocks, level=0.99), rate_interval(blocks, level=0.9)
    assert wider is not None
    assert narrower is not None
    assert wider.low < narrower.low < narrower.high < wider.high


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        [Sums(5, 100)],
        [Sums(0, 100), Sums(0, 50)],
        [Sums(1, 10), Sums(2, 20)],
        [Sums(0, 0), Sums(0, 0)],
        [Sums(3, 0), Sums(1, 0)],
        [Sums(5, 100), Sums(0, 0)],
    ],
)
def test_no_interval_can_be_had(blocks: list[Sums]) -> None:
    assert rate_interval(blocks) is None


@given(BLOCKS)
def test_interval_is_in_order_and_never_below_zero(blocks: list[Sums]) -> None:
    interval = rate_interval(blocks)
    if interval is not None:
        assert 0 <= interval.low <= interval.high
        assert len([b for b in blocks if b.words or b.errors]) == interval.blocks


def test_few_blocks_are_students() -> None:
    """Two calls of equal length: the mean, and 12.7 standard errors each way."""
    interval = rate_interval([Sums(20, 100), Sums(22, 100)])
    assert interval is not None
    assert interval.high == pytest.approx(0.21 + 12.706 * 0.01, rel=0.02)
    assert interval.low == pytest.approx(0.21 - 12.706 * 0.01, rel=0.1)


def test_blocks_without_words_count_their_errors() -> None:
    assert rate_interval([Sums(5, 100), Sums(9, 80), Sums(4, 0)]) is not None


def test_difference_of_matched_systems_sees_what_intervals_apart_do_not() -> None:
    """Calls differ much, the two systems on a call little: the pair is what is drawn."""
    rng = np.random.default_rng(4)
    first = calls(rng, 30, 0.2, spread=0.5)
    second = [Sums(b.errors - round(0.02 * b.words) + int(rng.integers(-3, 4)), b.words) for b in first]
    one, two, both = rate_interval(first), rate_interval(second), difference(first, second)
    assert one is not None
    assert two is not None
    assert both.interval is not None
    assert one.low < two.high, "the intervals overlap"
    assert 0.017 < both.interval.low < 0.02 < both.interval.high < 0.023
    assert both.p == pytest.approx(1 / 10_001)


def test_permutation_is_exact_with_few_calls() -> None:
    """Four calls, the second system better on each: 2 of 16 exchanges differ as much, all or none."""
    first, second = [Sums(20 + k, 100) for k in range(4)], [Sums(10 + k, 100) for k in range(4)]
    assert difference(first, second).p == 2 / 16
    assert difference(second, first).p == 2 / 16
    assert difference(second, first).value == pytest.approx(-0.1)
    assert difference([Sums(9, 100)], [Sums(3, 100)]).p == 1.0
    assert difference([Sums(9, 100)], [Sums(3, 100)]).interval is None


def test_p_values_are_uniform_where_nothing_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechmill.score.intervals.RESAMPLES", 1_000)
    rng = np.random.default_rng(6)
    ps = []
    for seed in range(200):
        words, rates = rng.integers(200, 2000, 20), rng.uniform(0.1, 0.3, 20)
        one, two = (
            [Sums(int(e), int(w)) for e, w in zip(rng.binomial(words, rates), words, strict=True)] for _ in "12"
        )
        ps.append(difference(one, two, seed).p)
    assert 0.02 <= np.mean(np.array(ps) < 0.1) <= 0.16
    assert 0.4 <= np.mean(ps) <= 0.6


def test_equal_systems_do_not_differ() -> None:
    blocks = calls(np.random.default_rng(7), 20, 0.2)
    same = difference(blocks, blocks)
    assert (same.value, same.p, same.interval) == (0.0, 1.0, None)
    assert same.as_dict() == {"difference": 0.0, "interval": None, "p": 1.0, "blocks": 20}


def test_denominators_may_differ() -> None:
    """Each system has the path through the alternatives that it took."""
    found = difference([Sums(10, 100), Sums(20, 100)], [Sums(10, 90), Sums(20, 110)])
    assert found.value == 0.0


def test_gap_of_native_and_other_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechmill.score.intervals.RESAMPLES", 1_000)
    rng, none = np.random.default_rng(8), Sums(0, 0)
    held = []
    for seed in range(150):
        native, other = calls(rng, 25, 0.10), calls(rng, 12, 0.16)
        found = gap([none] * 25 + other, native + [none] * 12, seed)
        assert found.interval is not None
        assert (found.blocks, found.p) == (37, None)
        held.append(found.interval.low <= 0.06 <= found.interval.high)
    assert 0.88 <= np.mean(held) <= 0.99


def test_gap_within_calls_is_matched() -> None:
    rng = np.random.default_rng(9)
    prepared = calls(rng, 30, 0.2, spread=0.5)
    answers = [Sums(b.errors + round(0.03 * b.words), b.words) for b in prepared]
    found = gap(answers, prepared)
    assert found.interval is not None
    assert found.value == pytest.approx(0.03, abs=0.001)
    assert found.interval.high - found.interval.low < 0.002


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        ([Sums(5, 50), Sums(0, 0)], [Sums(0, 0), Sums(1, 50)], 0.08),
        ([Sums(0, 0)], [Sums(1, 50)], None),
        ([Sums(3, 0), Sums(0, 0)], [Sums(0, 0), Sums(1, 50)], None),
        ([], [], None),
    ],
)
def test_gap_without_interval(first: list[Sums], second: list[Sums], value: float | None) -> None:
    found = gap(first, second)
    assert found.value == pytest.approx(value) if value is not None else found.value is None
    assert found.interval is None


def test_unequal_blocks_are_refused() -> None:
    with pytest.raises(SpeechmillError, match="2 blocks against 1"):
        difference([Sums(1, 2), Sums(1, 2)], [Sums(1, 2)])
    with pytest.raises(SpeechmillError, match="0 blocks against 1"):
        gap([], [Sums(1, 2)])


def test_many_blocks_stay_quick_and_small() -> None:
    """Ten thousand recordings: fewer resamples, drawn in pieces."""
    interval = rate_interval([Sums(k % 7, 40) for k in range(10_000)])
    assert interval is not None
    assert interval.high - interval.low < 0.01
