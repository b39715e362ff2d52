"""What an alignment got right, for `benchmarks.align`: counts over recordings, as JSON and back, and their figures."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from benchmarks.damage import Said, Written
from speechmill.align.recording import Outcome
from speechmill.text import normalize

FAR = 3.0  # seconds from where it was said at which a kept sentence counts as not kept
BINS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)


@dataclass
class Tally:
    """Counts over recordings. `judged` has an entry per kept sentence: its confidence, 1 where it is true and in its
    place, its words as written, the errors in them against what was said, its seconds.
    """

    true: int = 0
    kept_true: int = 0
    misplaced: int = 0  # true ones that were kept `FAR` from where they were said, or further
    false: int = 0
    kept_false: int = 0
    harmed: int = 0
    kept_harmed: int = 0
    marked: int = 0  # harmed words marked as not heard
    marks: int = 0  # words so marked in all, of harmed sentences
    harmed_words: int = 0
    seconds: float = 0.0
    work: float = 0.0
    edges: list[float] = field(default_factory=list)
    words: list[float] = field(default_factory=list)
    judged: list[tuple[float, int, int, int, float]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, written: Sequence[Written], outcomes: Sequence[Outcome]) -> None:
        """Compare what was found with what is true."""
        for one, outcome in zip(written, outcomes, strict=True):
            self.reasons[outcome.reason] += 1
            right = one.said is not None and outcome.kept and abs((outcome.start or 0.0) - one.said.start) < FAR
            if outcome.kept:
                self.judged.append(_judged(one, outcome, right))
            if one.said is None:
                self.false += 1
                self.kept_false += outcome.kept
                continue
            self.true += 1
            self.kept_true += right
            self.misplaced += outcome.kept and not right
            if one.damaged:
                self.harmed += 1
                self.kept_harmed += right
                self._marks(one, outcome)
            elif right:
                self.edges += [abs((outcome.start or 0.0) - one.said.start), abs((outcome.end or 0.0) - one.said.end)]
                self._words(one.said, outcome)

    def _marks(self, one: Written, outcome: Outcome) -> None:
        if outcome.tokens:
            unheard = {place for place, token in enumerate(outcome.tokens) if not token.heard}
            self.harmed_words += len(one.harmed)
            self.marked += len(unheard & set(one.harmed))
            self.marks += len(unheard)

    def _words(self, said: Said, outcome: Outcome) -> None:
        if len(said.words) == len(outcome.tokens):
            for (_, start, end), token in zip(said.words, outcome.tokens, strict=True):
                if token.start is not None and token.end is not None:
                    self.words += [abs(token.start - start), abs(token.end - end)]

    def record(self) -> dict[str, Any]:
        """The figures."""
        edges, words = np.array(self.edges or [np.nan]), np.array(self.words or [np.nan])
        return {
            "kept_true": _share(self.kept_true, self.true),
            "rejected_false": 1 - self.kept_false / max(self.false, 1),
            "boundary_median_seconds": _known(np.median(edges)),
            "boundary_p95_seconds": _known(np.percentile(edges, 95)),
            "boundary_max_seconds": _known(edges.max()),
            "realtime": self.seconds / self.work if self.work else None,
            "misplaced": self.misplaced,
            "true": self.true,
            "false": self.false,
            "kept_harmed": _share(self.kept_harmed, self.harmed),
            "harmed": self.harmed,
            "harmed_words_marked": _share(self.marked, self.harmed_words),
            "marks_that_are_right": _share(self.marked, self.marks),
            "word_median_seconds": _known(np.median(words)),
            "word_p95_seconds": _known(np.percentile(words, 95)),
            "hours": self.seconds / 3600,
            "hours_kept": sum(one[4] for one in self.judged) / 3600,
            "reasons": dict(self.reasons.most_common()),
        }

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"reasons": dict(self.reasons)}


def from_json(found: dict[str, Any]) -> Tally:
    """What `Tally.as_json` gave."""
    return Tally(**found | {"reasons": Counter(found["reasons"])})


def merged(tallies: Iterable[Tally]) -> Tally:
    """The sum of recordings."""
    total = Tally()
    for tally in tallies:
        for one in fields(Tally):
            setattr(total, one.name, getattr(total, one.name) + getattr(tally, one.name))
    return total


def reliability(judged: Sequence[Sequence[float]]) -> list[dict[str, float]]:
    """Confidence against the share of right words, and of sentences that are true and in their place."""
    rows = []
    for low, high in itertools.pairwise(BINS):
        inside = [one for one in judged if low <= one[0] < high or (high == BINS[-1] == one[0])]
        if inside:
            words = sum(one[2] for one in inside)
            wrong = sum(one[3] for one in inside)
            right = sum(one[1] for one in inside) / len(inside)
            rows.append(
                {"from": low, "to": high, "sentences": len(inside), "right": right, "words": words,
                 "right_words": 1 - wrong / max(words, 1)}
            )  # fmt: skip
    return rows


def curve(judged: Sequence[Sequence[float]]) -> list[dict[str, float]]:
    """Hours kept against word errors in the kept text, for each threshold of confidence that changes them."""
    rows = []
    for threshold in sorted({round(one[0], 2) for one in judged}):
        kept = [one for one in judged if one[0] >= threshold]
        if kept:
            errors = sum(one[3] for one in kept) / max(sum(one[2] for one in kept), 1)
            rows.append({"threshold": threshold, "hours": sum(one[4] for one in kept) / 3600, "word_errors": errors})
    return rows


def _judged(one: Written, outcome: Outcome, right: bool) -> tuple[float, int, int, int, float]:
    words = normalize(one.text).split()
    said = normalize(one.said.text).split() if one.said and right else []
    errors = min(Levenshtein.distance(words, said), len(words)) if said else len(words)
    return outcome.confidence, int(right), len(words), errors, (outcome.end or 0.0) - (outcome.start or 0.0)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _known(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
