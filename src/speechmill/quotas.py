"""How many seconds of each kind (native or not, Q&A or not) a training set of a given size takes."""

from __future__ import annotations

from collections.abc import Mapping

Cell = tuple[bool | None, bool | None]  # (native, q-and-a); None where no share is asked for

_TINY = 1e-9


def quotas(
    available: Mapping[Cell, float], native_share: float | None, qa_share: float | None, wanted: float | None
) -> dict[Cell, float]:
    """Seconds to take from each cell, `wanted` in all (or all there is that keeps the shares, where it is None).

    No quota shrinks as `wanted` grows, so a small set lies inside a large one. Cells fill side by side at rates that
    keep both shares; when one is used up the rates are solved anew without it. When no rates keep the shares any more,
    hours go before shares: the other cells fill on. A share of 0 or 1 is never given up: it is a filter.
    """
    taken = dict.fromkeys(available, 0.0)
    total, goal = 0.0, float("inf") if wanted is None else wanted
    while total < goal - _TINY:
        active = {cell for cell, seconds in available.items() if taken[cell] < seconds - _TINY}
        rates = _rates(active, native_share, qa_share)
        if not rates:
            if wanted is None:
                break
            rates = _fallback(active, native_share, qa_share)
        if not rates:
            break
        step = min((available[cell] - taken[cell]) / rate for cell, rate in rates.items())
        step = min(step, goal - total)
        for cell, rate in rates.items():
            # Land on the edge exactly: a rest of rounding would never be used up.
            filled = taken[cell] + rate * step
            taken[cell] = available[cell] if available[cell] - filled < _TINY else filled
        total = sum(taken.values())
    return taken


def _rates(active: set[Cell], native_share: float | None, qa_share: float | None) -> dict[Cell, float]:
    """Rates over the active cells that keep the shares; empty where there are none."""
    if native_share is None or qa_share is None:
        rates = _independent(native_share, qa_share)
    else:
        rates = _both(active, native_share, qa_share)
    rates = {cell: rate for cell, rate in rates.items() if rate > _TINY}
    return rates if rates.keys() <= active else {}


def _both(active: set[Cell], p: float, q: float) -> dict[Cell, float]:
    """Two shares leave one number free, the rate x of native Q&A; p * q unless a cell that is used up settles it."""
    settled = {(True, True): 0.0, (True, False): p, (False, True): q, (False, False): p + q - 1}
    values = [x for cell, x in settled.items() if cell not in active]
    x = values[0] if values else p * q
    rates: dict[Cell, float] = {
        (True, True): x,
        (True, False): p - x,
        (False, True): q - x,
        (False, False): 1 - p - q + x,
    }
    return {} if min(rates.values()) < -_TINY else rates


def _independent(native_share: float | None, qa_share: float | None) -> dict[Cell, float]:
    native: dict[bool | None, float] = {None: 1.0}
    session: dict[bool | None, float] = {None: 1.0}
    if native_share is not None:
        native = {True: native_share, False: 1 - native_share}
    if qa_share is not None:
        session = {True: qa_share, False: 1 - qa_share}
    return {(n, s): a * b for n, a in native.items() for s, b in session.items()}


def _fallback(active: set[Cell], native_share: float | None, qa_share: float | None) -> dict[Cell, float]:
    rates = {c: rate for c, rate in _independent(native_share, qa_share).items() if c in active and rate > _TINY}
    total = sum(rates.values())
    return {cell: rate / total for cell, rate in rates.items()}
