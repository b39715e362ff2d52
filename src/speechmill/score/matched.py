"""NIST's matched pairs test of two systems on the same reference (MAPSSWE).

The reference is cut wherever both systems have two words in a row right, and the two systems' errors in the segments
between are compared: Gillick and Cox, "Some statistical issues in the comparison of speech recognition algorithms",
ICASSP 1989; NIST's `sc_stats` in SCTK. Segments are taken as independent, which the segments of one speaker are not:
where calls are many, the test over calls (`speechmill.score.intervals.difference`) asks less. Where they are few (two
systems on one recording) this is the test that there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from speechmill.score.align import Edit, align

BUFFER = 2
"""So many words in a row that both systems have right end a segment."""


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """`z` is positive where the first system has more errors; None, with `p`, where fewer than two segments differ."""

    segments: int
    mean: float | None
    z: float | None
    p: float | None


def matched_pairs(segments: Sequence[tuple[int, int]]) -> MatchedPairs:
    """Test errors of two systems by segment: the mean difference over its standard error, against the normal.

    Args:
        segments: the errors of the first and of the second system, for each segment, as `error_segments` gives them.
    """
    count = len(segments)
    differences = [first - second for first, second in segments]
    if not count:
        return MatchedPairs(0, None, None, None)
    mean = sum(differences) / count
    variance = sum((value - mean) ** 2 for value in differences) / (count - 1) if count > 1 else 0.0
    if not any(differences):
        return MatchedPairs(count, mean, 0.0, 1.0)
    if not variance:
        return MatchedPairs(count, mean, None, None)
    z = mean / math.sqrt(variance / count)
    return MatchedPairs(count, mean, z, math.erfc(abs(z) / math.sqrt(2)))


def error_segments(first: Sequence[Edit], second: Sequence[Edit]) -> list[tuple[int, int]]:
    """Return the errors of two systems in the segments between words that both have right.

    Where a reference has alternatives, the two may have taken different ones: the words of such a place are one step,
    with the errors that each system has there.
    """
    segments: list[tuple[int, int]] = []
    open_one = open_two = clean = 0
    for errors_one, errors_two, common in _steps(_by_word(first), _by_word(second)):
        clean = clean + 1 if common and not errors_one and not errors_two else 0
        open_one, open_two = open_one + errors_one, open_two + errors_two
        if clean >= BUFFER and (open_one or open_two):
            segments.append((open_one, open_two))
            open_one = open_two = 0
    if open_one or open_two:
        segments.append((open_one, open_two))
    return segments


_Words = list[tuple[str, int]]


def _steps(one: _Words, two: _Words) -> Iterator[tuple[int, int, bool]]:
    """Yield the errors of both at each word, and whether it is common to the two references."""
    path = align([word for word, _ in one], [word for word, _ in two])
    left, right = iter(one), iter(two)
    for op, _, _ in path:
        errors_one = 0 if op == "I" else next(left)[1]
        errors_two = 0 if op == "D" else next(right)[1]
        yield errors_one, errors_two, op == "="


def _by_word(alignment: Sequence[Edit]) -> _Words:
    """Each reference word with its errors, insertions before it included; those behind the last word close the list."""
    words: _Words = []
    inserted = 0
    for edit in alignment:
        if edit.reference is None:
            inserted += 1
        else:
            words.append((edit.reference, inserted + (edit.op != "=")))
            inserted = 0
    return [*words, ("", inserted)]
