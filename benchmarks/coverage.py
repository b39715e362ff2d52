"""How often intervals hold the truth, and how often a difference is found where there is none, on simulated calls.

    python -m benchmarks.coverage [--quick] [--json -]

Calls of unequal length (about 3,000 words) have error rates that scatter log-normally about a known one, as calls
of a corpus do. For each number of calls: the share of 95 % intervals that hold the known rate, by
`speechmill.score.intervals`, by the plain percentiles of the same bootstrap, and by the binomial formula over words,
which takes every word for independent; and the share of p-values below 0.05 for two systems that are equally good.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import speechmill.score.intervals as intervals
from benchmarks.machine import machine
from speechmill.artefact import write_json
from speechmill.score.intervals import Sums, difference, gap, rate_interval

RATE = 0.15
CALLS = (2, 3, 5, 11, 30, 100)
SPREADS = (0.15, 0.5)  # standard deviation of the logarithm of a call's rate; of Eval-10's calls by Google 0.14
RESAMPLES = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer trials, for a look")
    parser.add_argument("--json", default="benchmarks/results/coverage.json", metavar="FILE", help="- prints")
    args = parser.parse_args()
    trials = 100 if args.quick else 1_500
    intervals.RESAMPLES = RESAMPLES  # the default's ten thousand only smooth what a trial more would
    rows = [measure(calls, spread, trials) for spread in SPREADS for calls in CALLS]
    record = machine() | {
        "rate": RATE,
        "level": intervals.LEVEL,
        "trials": trials,
        "resamples": RESAMPLES,
        "rows": rows,
    }
    if args.json == "-":
        print(json.dumps(record, indent=1))
    else:
        write_json(Path(args.json), record)


def measure(calls: int, spread: float, trials: int) -> dict[str, Any]:
    rng = np.random.default_rng([calls, round(100 * spread)])
    held = {"ours": 0, "percentile": 0, "binomial over words": 0, "gap": 0}
    alarms, width = 0, 0.0
    for trial in range(trials):
        blocks = draw(rng, calls, spread)
        table = np.array([(b.errors, b.words) for b in blocks], dtype=float)
        ours = rate_interval(blocks, trial)
        assert ours is not None
        held["ours"] += ours.low <= RATE <= ours.high
        width += (ours.high - ours.low) / trials
        low, high = percentiles(rng, table)
        held["percentile"] += low <= RATE <= high
        rate = table[:, 0].sum() / table[:, 1].sum()
        held["binomial over words"] += abs(rate - RATE) <= 1.96 * math.sqrt(rate * (1 - rate) / table[:, 1].sum())
        none = [Sums(0, 0)] * calls
        between = gap([*blocks, *none], [*none, *draw(rng, calls, spread)], trial).interval
        assert between is not None
        held["gap"] += between.low <= 0 <= between.high
        p = difference(*equal_systems(rng, calls, spread), trial).p
        assert p is not None
        alarms += p < 0.05
    return {
        "calls": calls,
        "spread": spread,
        "held": {name: round(count / trials, 4) for name, count in held.items()},
        "mean_width": round(width, 4),
        "false_alarms": round(alarms / trials, 4),
    }


def draw(rng: np.random.Generator, calls: int, spread: float) -> list[Sums]:
    words = rng.lognormal(8, 0.5, calls).astype(int)
    return errors_of(rng, words, rates(rng, calls, spread))


def equal_systems(rng: np.random.Generator, calls: int, spread: float) -> tuple[list[Sums], list[Sums]]:
    """Two systems that find the same calls hard and are better on some by chance alone."""
    words = rng.lognormal(8, 0.5, calls).astype(int)
    common = rates(rng, calls, spread)
    first, second = (np.minimum(1.0, common * rng.lognormal(0, 0.1, calls)) for _ in range(2))
    return errors_of(rng, words, first), errors_of(rng, words, second)


def rates(rng: np.random.Generator, calls: int, spread: float) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.minimum(1.0, RATE * rng.lognormal(-(spread**2) / 2, spread, calls))
    return found


def errors_of(rng: np.random.Generator, words: NDArray[np.int64], found: NDArray[np.float64]) -> list[Sums]:
    return [Sums(int(e), int(w)) for e, w in zip(rng.binomial(words, found), words, strict=True)]


def percentiles(rng: np.random.Generator, table: NDArray[np.float64]) -> tuple[float, float]:
    drawn = table[rng.integers(len(table), size=(RESAMPLES, len(table)))].sum(axis=1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
