"""Which errors there are most of: words taken for others, left out, put in; and the words that are wrong most often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from speechmill.score.align import Edit
from speechmill.score.written import like_beside_like

Item = TypeVar("Item", str, tuple[str, str])

LISTED = 50
"""So many of each are listed in `scores.json`."""


@dataclass(frozen=True, slots=True)
class Confusions:
    """Errors of normalised words, counted. Every list is in one order: most often first, then by the words."""

    substitutions: Counter[tuple[str, str]]
    """(reference word, what was recognized)."""
    deletions: Counter[str]
    insertions: Counter[str]
    words: Counter[str]
    """How often each reference word occurs."""

    @property
    def errors(self) -> int:
        return self.substitutions.total() + self.deletions.total() + self.insertions.total()

    def frequent(self, count: int = LISTED) -> list[dict[str, Any]]:
        """Return the most frequent errors of any operation, with their share of all errors."""
        found: list[tuple[str, str | None, str | None, int]] = [
            ("S", *pair, n) for pair, n in self.substitutions.items()
        ]
        found += [("D", word, None, n) for word, n in self.deletions.items()]
        found += [("I", None, word, n) for word, n in self.insertions.items()]
        found.sort(key=lambda row: (-row[3], row[1] or "", row[2] or "", row[0]))
        return [
            {"op": op, "reference": reference, "hypothesis": hypothesis, "count": n, "share": n / self.errors}
            for op, reference, hypothesis, n in found[:count]
        ]

    def wrong_words(self, count: int = LISTED) -> list[dict[str, Any]]:
        """Return the reference words that were left out or taken for another most often, and how often they occur."""
        wrong = Counter(self.deletions)
        for (word, _), n in self.substitutions.items():
            wrong[word] += n
        return [{"word": word, "errors": n, "words": self.words[word]} for word, n in _most(wrong, count)]

    def as_dict(self, count: int = LISTED) -> dict[str, list[dict[str, Any]]]:
        """Return what `scores.json` holds: the `count` most frequent of each."""
        return {
            "substitutions": [
                {"reference": one, "hypothesis": other, "count": n}
                for (one, other), n in _most(self.substitutions, count)
            ],
            "deletions": [{"word": word, "count": n} for word, n in _most(self.deletions, count)],
            "insertions": [{"word": word, "count": n} for word, n in _most(self.insertions, count)],
            "frequent": self.frequent(count),
            "wrong_words": self.wrong_words(count),
        }


def confusions(alignments: Iterable[Iterable[Edit]]) -> Confusions:
    """Count the errors of some alignments, like words beside each other: the counts of each operation are theirs."""
    found = Confusions(Counter(), Counter(), Counter(), Counter())
    for alignment in alignments:
        for op, reference, hypothesis in like_beside_like(alignment):
            if reference is None or op == "I":
                found.insertions[hypothesis or ""] += 1
                continue
            found.words[reference] += 1
            if op == "D" or hypothesis is None:
                found.deletions[reference] += 1
            elif op == "S":
                found.substitutions[reference, hypothesis] += 1
    return found


def _most(counter: Counter[Item], count: int) -> list[tuple[Item, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:count]
