"""What a comparison of two texts is counted in; counts add up over utterances, rates do not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """Errors of one alignment, or the sum over many; `words` is the number of reference words."""

    words: int = 0
    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0

    @property
    def errors(self) -> int:
        return self.insertions + self.deletions + self.substitutions

    @property
    def rate(self) -> float | None:
        """Errors per reference word (above 1 where much was inserted); None, undefined, without reference words."""
        return self.errors / self.words if self.words else None

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.words + other.words,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.substitutions + other.substitutions,
        )


@dataclass(frozen=True, slots=True)
class Total:
    """Errors without their operations: `length` reference characters (or words), the fewest `errors` that explain them.

    No one reads how many *characters* were substituted rather than deleted, and to know it costs an alignment, which
    for the 90,000 characters of an hour takes seconds where the distance takes a tenth of one.
    """

    length: int = 0
    errors: int = 0

    @property
    def rate(self) -> float | None:
        """Errors per reference character; None, undefined, without reference characters."""
        return self.errors / self.length if self.length else None

    def __add__(self, other: Total) -> Total:
        return Total(self.length + other.length, self.errors + other.errors)
