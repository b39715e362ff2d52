"""How fast somebody speaks, in seconds a letter: how long words take that were not heard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_USUAL = 0.07  # where nothing was heard


def letters(words: Sequence[str]) -> int:
    """Letters of words, and one more for each: short words take longer than their letters."""
    return sum(len(word) + 1 for word in words)


def pace_of(heard: Iterable[tuple[str, float]]) -> float:
    """Seconds a letter, of words that were heard as written, each with its seconds."""
    there = list(heard)
    return sum(seconds for _, seconds in there) / max(letters([word for word, _ in there]), 1) or _USUAL
