"""How far a rate, a difference or a gap may be trusted: bootstrap over blocks, permutation over matched pairs.

Errors come in clusters: the words of one call share a speaker, a microphone and a topic. So the *block*, a call or a
speaker, is what is drawn, and never the word or the utterance (Bisani and Ney, "Bootstrap estimates for confidence
intervals in ASR performance evaluation", ICASSP 2004; Liu and Peng, "Statistical testing on ASR performance via
blockwise bootstrap", Interspeech 2020). A rate is the ratio of two sums, and both are drawn together.

The percentile interval of n blocks is too short by about sqrt((n - 1) / n) and by what Student's t is wider than the
normal. It is expanded by both (Hesterberg, "What teachers should know about the bootstrap", The American Statistician
69, 2015). Below `FEW` blocks there are too few distinct draws for percentiles, and the interval is Student's, with the
bootstrap's standard error. `benchmarks/coverage.py` measures how often such intervals hold the truth.

Two systems on the same blocks are *matched*: both are drawn together, and the p-value asks how often exchanging the two
systems' results within blocks would make so large a difference (Fisher's permutation, in this form Noreen, "Computer-
intensive methods for testing hypotheses", 1989); with few blocks every exchange is tried and the value is exact.

Everything here is a pure function of sums by block and a seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechmill.errors import SpeechmillError

LEVEL = 0.95
RESAMPLES = 10_000
FEW = 5
"""Below so many blocks the interval is Student's."""

_DRAWS = 20_000_000  # of blocks for one interval; with more than 2,000 blocks fewer resamples are drawn, at least 1,000
_EXACT = 13  # up to so many blocks every exchange is tried: 8,192 of them
_CHUNK = 1 << 20  # draws held at a time

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sums:
    """Errors and reference words of one block (a call, a speaker), for one system."""

    errors: int
    words: int


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the value lies with probability `level` in repeated sampling of blocks."""

    low: float
    high: float
    blocks: int
    level: float = LEVEL

    def as_list(self) -> list[float]:
        return [self.low, self.high]


@dataclass(frozen=True, slots=True)
class Difference:
    """Rate of the first minus rate of the second: a fraction, as rates are.

    `value` is None where a rate is undefined, `interval` where none can be had; `p` is the two-sided p-value of "the
    two do not differ", None for the gap of two groups, which are not matched.
    """

    value: float | None
    interval: Interval | None
    p: float | None
    blocks: int

    def as_dict(self) -> dict[str, Any]:
        interval = self.interval.as_list() if self.interval else None
        return {"difference": self.value, "interval": interval, "p": self.p, "blocks": self.blocks}


def rate_interval(blocks: Sequence[Sums], seed: int = 0, level: float = LEVEL) -> Interval | None:
    """Return the interval of the error rate over all blocks; a fraction.

    None where no interval can be had: no reference words, a single block, or blocks whose rates are all the same (none
    has an error, say), which show nothing of how much rates vary.

    Args:
        blocks: in an order that does not depend on chance (by name): the draws go by position.
    """
    table = _table(blocks)
    table = table[table.any(axis=1)]
    total = table.sum(axis=0)
    if len(table) < 2 or not total[1]:
        return None
    value = float(total[0] / total[1])
    drawn = _draw(table, np.random.default_rng(seed))
    replicates = _ratio(drawn[:, 0], drawn[:, 1])
    found = _interval(value, replicates, [_Spread(_variance(table, value), len(table))], level)
    return found and Interval(max(0.0, found.low), found.high, found.blocks, level)


def difference(first: Sequence[Sums], second: Sequence[Sums], seed: int = 0, level: float = LEVEL) -> Difference:
    """Compare two systems on the same blocks: rate of the first minus rate of the second.

    Args:
        first: sums of the first system, by block.
        second: those of the second, the same blocks in the same order. Words may differ: where a reference has
            alternatives, each system has the path that it took.

    Raises:
        SpeechmillError: the two have not the same number of blocks.
    """
    if len(first) != len(second):
        raise SpeechmillError(
            f"comparing two systems: {len(first)} blocks against {len(second)}; score both on the same references"
        )
    one, two = _table(first), _table(second)
    kept = one.any(axis=1) | two.any(axis=1)
    one, two = one[kept], two[kept]
    blocks = len(one)
    totals = one.sum(axis=0), two.sum(axis=0)
    if not totals[0][1] or not totals[1][1]:
        return Difference(None, None, None, blocks)
    rates = float(totals[0][0] / totals[0][1]), float(totals[1][0] / totals[1][1])
    value = rates[0] - rates[1]
    rng = np.random.default_rng(seed)
    p = _permutation(one, two, rng)
    if blocks < 2:
        return Difference(value, None, p, blocks)
    drawn = _draw(np.hstack([one, two]), rng)
    replicates = _ratio(drawn[:, 0], drawn[:, 1]) - _ratio(drawn[:, 2], drawn[:, 3])
    spread = _Spread(_variance_of_residuals(_residuals(one, rates[0]) - _residuals(two, rates[1])), blocks)
    return Difference(value, _interval(value, replicates, [spread], level), p, blocks)


def gap(first: Sequence[Sums], second: Sequence[Sums], seed: int = 0, level: float = LEVEL) -> Difference:
    """Compare one system on two groups of utterances: rate in the first minus rate in the second.

    Args:
        first: sums over the first group's utterances, for every block of the corpus; zeros where a block has none.
        second: those of the second group, the same blocks in the same order.

    Where each block belongs to one group (a call is native or it is not), each group's blocks are drawn among
    themselves, so that the groups keep their sizes. Where blocks hold utterances of both (sessions of a call), whole
    blocks are drawn, and what the two groups share in a call does not count as noise.

    Raises:
        SpeechmillError: the two have not the same number of blocks.
    """
    if len(first) != len(second):
        raise SpeechmillError(
            f"the gap of two groups: {len(first)} blocks against {len(second)}; give each block twice"
        )
    one, two = _table(first), _table(second)
    if (one.any(axis=1) & two.any(axis=1)).any():
        found = difference(first, second, seed, level)
        return Difference(found.value, found.interval, None, found.blocks)
    one, two = one[one.any(axis=1)], two[two.any(axis=1)]
    blocks = len(one) + len(two)
    totals = one.sum(axis=0), two.sum(axis=0)
    if not totals[0][1] or not totals[1][1]:
        return Difference(None, None, None, blocks)
    rates = float(totals[0][0] / totals[0][1]), float(totals[1][0] / totals[1][1])
    value = rates[0] - rates[1]
    if min(len(one), len(two)) < 2:
        return Difference(value, None, None, blocks)
    rng = np.random.default_rng(seed)
    count = min(_resamples(len(one)), _resamples(len(two)))
    drawn = [_draw(table, rng, count) for table in (one, two)]
    replicates = _ratio(drawn[0][:, 0], drawn[0][:, 1]) - _ratio(drawn[1][:, 0], drawn[1][:, 1])
    spreads = [_Spread(_variance(table, rate), len(table)) for table, rate in zip((one, two), rates, strict=True)]
    return Difference(value, _interval(value, replicates, spreads, level), None, blocks)


@dataclass(frozen=True, slots=True)
class _Spread:
    """The variance of a rate over `blocks` blocks, linearised, with the divisor n - 1."""

    variance: float
    blocks: int


def _table(blocks: Sequence[Sums]) -> Array:
    """Return [blocks, 2]: errors, words."""
    return np.array([(block.errors, block.words) for block in blocks], dtype=np.float64).reshape(-1, 2)


def _resamples(blocks: int) -> int:
    return int(np.clip(_DRAWS // max(blocks, 1), 1_000, RESAMPLES))


def _draw(table: Array, rng: np.random.Generator, count: int = 0) -> Array:
    """Return [resamples, columns]: the sums of as many rows as there are, drawn with replacement."""
    rows = len(table)
    sums = []
    for size in _chunks(count or _resamples(rows), rows):
        drawn = rng.integers(rows, size=(size, rows))
        sums.append(np.stack([column[drawn].sum(axis=1) for column in table.T], axis=1))
    return np.concatenate(sums)


def _chunks(count: int, width: int) -> Iterator[int]:
    step = max(1, _CHUNK // max(width, 1))
    for start in range(0, count, step):
        yield min(step, count - start)


def _ratio(errors: Array, words: Array) -> Array:
    """Errors per word; NaN for a draw without words, which is left out further on."""
    return np.divide(errors, words, out=np.full_like(errors, np.nan), where=words > 0)


def _residuals(table: Array, rate: float) -> Array:
    residuals: Array = (table[:, 0] - rate * table[:, 1]) / table[:, 1].sum()
    return residuals


def _variance(table: Array, rate: float) -> float:
    return _variance_of_residuals(_residuals(table, rate))


def _variance_of_residuals(residuals: Array) -> float:
    blocks = len(residuals)
    return float((residuals**2).sum() * blocks / (blocks - 1))


def _interval(value: float, replicates: Array, spreads: Sequence[_Spread], level: float) -> Interval | None:
    """The expanded percentile interval; Student's with the bootstrap's standard error where a group has few blocks.

    The degrees of freedom of two groups are Welch's.
    """
    from scipy.special import ndtr, stdtrit

    replicates = replicates[np.isfinite(replicates)]
    variance = sum(spread.variance for spread in spreads)
    if not len(replicates) or variance < 1e-18 or np.ptp(replicates) < 1e-12:
        return None
    freedom = variance**2 / sum(spread.variance**2 / (spread.blocks - 1) for spread in spreads)
    widened = np.sqrt(variance / sum(s.variance * (s.blocks - 1) / s.blocks for s in spreads))
    reach = float(widened * -stdtrit(freedom, (1 - level) / 2))
    blocks = sum(spread.blocks for spread in spreads)
    if min(spread.blocks for spread in spreads if spread.variance) < FEW:
        half = reach * float(replicates.std())
        return Interval(value - half, value + half, blocks, level)
    tail = float(ndtr(-reach))
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Interval(float(low), float(high), blocks, level)


def _permutation(one: Array, two: Array, rng: np.random.Generator) -> float:
    """The share of exchanges within blocks whose difference is at least as large, either way."""
    blocks = len(one)
    moves = np.hstack([two - one, one - two])  # what exchanging a block adds to [errors, words, errors, words]
    base = np.concatenate([one.sum(axis=0), two.sum(axis=0)])
    observed = abs(_of_exchanges(base[None])[0])
    exact = blocks <= _EXACT
    count = 2**blocks if exact else _resamples(blocks)
    larger, done = 0, 0
    for size in _chunks(count, blocks):
        if exact:
            exchanged = (np.arange(done, done + size)[:, None] >> np.arange(blocks)) & 1
        else:
            exchanged = rng.integers(2, size=(size, blocks))
        differences = _of_exchanges(base + exchanged @ moves)
        larger += int(np.count_nonzero(np.abs(differences) >= observed - 1e-12))
        done += size
    return larger / count if exact else (larger + 1) / (count + 1)


def _of_exchanges(sums: Array) -> Array:
    """The differences of two rates; one that is undefined counts as none."""
    return np.nan_to_num(_ratio(sums[:, 0], sums[:, 1]) - _ratio(sums[:, 2], sums[:, 3]), nan=0.0)
