"""The steps of an alignment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from speechmill.score.counts import Counts

Operation = Literal["=", "S", "I", "D"]


class Edit(NamedTuple):
    """One step: `=` equal, `S` substituted, `I` inserted (no reference token), `D` deleted (no hypothesis token).

    A tuple, so that JSON writes it as `[op, reference, hypothesis]`.
    """

    op: Operation
    reference: str | None
    hypothesis: str | None


def tally(alignment: Iterable[Edit]) -> Counts:
    """Count the errors of an alignment by kind."""
    kinds = Counter(edit.op for edit in alignment)
    words = kinds["="] + kinds["S"] + kinds["D"]
    return Counts(words, insertions=kinds["I"], deletions=kinds["D"], substitutions=kinds["S"])
