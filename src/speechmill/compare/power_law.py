"""How errors fall with hours of training audio: error = a + b * hours^-c, with intervals.

The form is that of Hestness et al., "Deep Learning Scaling Is Predictable, Empirically" (2017): `a` is what no amount
of such data would mend, `c` how steeply the rest falls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_EXPONENTS = np.linspace(0.02, 2.0, 199)
_RESAMPLES = 1000
_LEVEL = 0.95


@dataclass(frozen=True)
class PowerLaw:
    """a and b in the unit of the error rate, c without one; each with its bootstrap interval (low, high)."""

    a: float
    b: float
    c: float
    a_interval: tuple[float, float]
    b_interval: tuple[float, float]
    c_interval: tuple[float, float]
    level: float = _LEVEL

    def at(self, hours: float) -> float:
        """The error rate expected with so many hours; outside those measured it is a guess."""
        return float(self.a + self.b * hours**-self.c)


def fit_power_law(hours: Sequence[float], rates: Sequence[float], seed: int = 0) -> PowerLaw | None:
    """Least squares of the relative error over runs; None with fewer than three different amounts of data.

    Intervals come from resampling the runs of each amount: with one seed of each they have no width.
    """
    x, y = np.asarray(hours, dtype=np.float64), np.asarray(rates, dtype=np.float64)
    amounts = np.unique(x)
    if len(amounts) < 3:
        return None
    random = np.random.default_rng(seed)
    runs = [np.flatnonzero(x == amount) for amount in amounts]
    best = _fit(x, y)
    drawn = np.array([
        _fit(x[chosen], y[chosen])
        for chosen in (
            np.concatenate([random.choice(of, len(of)) for of in runs]) for _ in range(_RESAMPLES)
        )
    ])  # fmt: skip
    low, high = np.quantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], axis=0)
    a, b, c = ((float(bottom), float(top)) for bottom, top in zip(low, high, strict=True))
    return PowerLaw(*best, a, b, c)


def _fit(x: Floats, y: Floats) -> tuple[float, float, float]:
    """The best a, b >= 0 for each exponent (a line through weighted points), then the best exponent."""
    shapes = x[None, :] ** -_EXPONENTS[:, None]  # [exponents, runs]
    weights = 1.0 / np.maximum(y, 1e-9)  # relative errors: ten per cent of a small rate counts like ten of a large one
    u, v, target = weights[None, :], shapes * weights, np.ones_like(y)
    uu, uv, vv = (u * u).sum(1), (u * v).sum(1), (v * v).sum(1)
    ut, vt = (u * target).sum(1), (v * target).sum(1)
    determinant = np.maximum(uu * vv - uv * uv, 1e-300)
    a, b = (ut * vv - vt * uv) / determinant, (vt * uu - ut * uv) / determinant
    # A negative coefficient lies outside: the best point of the quadrant is then on one of its edges.
    a, b = np.where(a < 0, 0.0, a), np.where(a < 0, vt / vv, b)
    a, b = np.where(b < 0, ut / uu, a), np.maximum(b, 0.0)
    error = np.square(a[:, None] * u + b[:, None] * v - target).sum(1)
    place = int(error.argmin())
    return float(a[place]), float(b[place]), float(_EXPONENTS[place])
