"""A place of a reference that several texts explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

Way = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """A place of the reference that several ways through explain, in order; the first is as written.

    `label` is the class of the entity that is there, empty where it is none.
    """

    ways: tuple[Way, ...]
    label: str = ""

    def __post_init__(self) -> None:
        if not self.ways:
            raise ValueError("a choice needs a way; as written is one")


class Span(NamedTuple):
    """The edits `first` to `last` (exclusive) that a choice took, insertions at its ends not included."""

    choice: Choice
    first: int
    last: int


class Fork(NamedTuple):
    """A choice, and those of its ways that are still in question, in their order."""

    choice: Choice
    ways: Sequence[Way]
