"""The account of a recording: every second is kept, rejected with a reason, untranscribed speech, or silence."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from speechmill.errors import SpeechmillError

KEPT, REJECTED, UNTRANSCRIBED, SILENCE = "kept", "rejected", "untranscribed-speech", "silence-or-music"
HEARD = "heard"  # the reason of what is kept though nothing is written
KINDS = (KEPT, REJECTED, UNTRANSCRIBED, SILENCE)
SPANS: dict[str, pl.DataType] = {
    "recording": pl.String(),
    "start": pl.Float64(),
    "end": pl.Float64(),
    "kind": pl.String(),
    "reason": pl.String(),  # of what is rejected; HEARD; empty else
}
_SLACK = 1e-3  # seconds by which the sums of a recording may differ from its length


@dataclass(frozen=True)
class Span:
    """A stretch of a recording, seconds."""

    start: float
    end: float
    kind: str
    reason: str = ""

    @property
    def seconds(self) -> float:
        return self.end - self.start


def account(
    seconds: float,
    kept: Sequence[tuple[float, float]],
    rejected: Sequence[tuple[float, float, str]],
    speech: Sequence[tuple[float, float]],
    heard: Sequence[tuple[float, float]] = (),
) -> list[Span]:
    """Part the seconds from 0 to `seconds`: what is kept goes before what is `heard` and kept for that, that before
    what is rejected, that before speech, the rest is silence. The spans follow each other without a gap; neighbours of
    one kind are one span.
    """
    layers = [
        *((start, end, SILENCE, "") for start, end in [(0.0, seconds)]),
        *((start, end, UNTRANSCRIBED, "") for start, end in speech),
        *((start, end, REJECTED, reason) for start, end, reason in rejected),
        *((start, end, KEPT, HEARD) for start, end in heard),
        *((start, end, KEPT, "") for start, end in kept),
    ]
    clipped = [(max(0.0, start), min(seconds, end), kind, reason) for start, end, kind, reason in layers]
    clipped = [layer for layer in clipped if layer[1] > layer[0]]
    events = sorted({time for start, end, _, _ in clipped for time in (start, end)})
    opening: dict[float, list[int]] = {}
    closing: dict[float, list[int]] = {}
    for number, (start, end, _, _) in enumerate(clipped):
        opening.setdefault(start, []).append(number)
        closing.setdefault(end, []).append(number)
    spans: list[Span] = []
    active: set[int] = set()
    for time, following in itertools.pairwise(events):
        active |= set(opening.get(time, ()))
        active -= set(closing.get(time, ()))
        _, _, kind, reason = clipped[max(active)]  # later layers lie over earlier ones
        if spans and (spans[-1].kind, spans[-1].reason) == (kind, reason):
            spans[-1] = Span(spans[-1].start, following, kind, reason)
        else:
            spans.append(Span(time, following, kind, reason))
    return spans


def check(name: str, seconds: float, spans: Sequence[Span], sentences: int, reasons: Sequence[str]) -> None:
    """Raise SpeechmillError where the account of a recording does not add up: a fault of this program."""
    total = sum(span.seconds for span in spans)
    gaps = [span.start - before.end for before, span in itertools.pairwise(spans)]
    if abs(total - seconds) > _SLACK or any(abs(gap) > 1e-9 for gap in gaps):
        raise SpeechmillError(f"{name}: the account has {total:.3f} of {seconds:.3f} s; please report this.")
    if len(reasons) != sentences or not all(reasons):
        raise SpeechmillError(f"{name}: {len(reasons)} of {sentences} sentences have a reason; please report this.")
