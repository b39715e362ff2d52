"""Matched pairs: how a reference is cut, and the test by hand."""

from __future__ import annotations

import math

import pytest

from speechmill.score.align import align
from speechmill.score.matched import error_segments, matched_pairs


def segments(reference: str, first: str, second: str) -> list[tuple[int, int]]:
    return error_segments(align(reference.split(), first.split()), align(reference.split(), second.split()))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("a b c d e f g h", "a b c d e f g h", []),
        ("a x c d e f y h", "a b c d e f g h", [(1, 0), (1, 0)]),
        ("a x c y e f g h", "a b c d e f z h", [(2, 0), (0, 1)]),  # one right word between does not cut
        ("a x c d e f g h", "a b c d e f g h h", [(1, 0), (0, 1)]),
        ("", "a b c d e f g h", [(8, 0)]),
        ("a b c d e f g h", "o o a b c d e f g", [(0, 2), (0, 1)]),
    ],
)
def test_segments(first: str, second: str, expected: list[tuple[int, int]]) -> None:
    assert segments("a b c d e f g h", first, second) == expected


def test_all_errors_are_in_segments() -> None:
    first, second = align("abcde", "bxddef"), align("abcde", "qabe")
    found = error_segments(first, second)
    assert sum(a for a, _ in found) == sum(edit.op != "=" for edit in first)
    assert sum(b for _, b in found) == sum(edit.op != "=" for edit in second)


def test_statistic_by_hand() -> None:
    found = matched_pairs([(2, 0), (1, 0), (0, 1), (1, 1)])
    mean, variance = 2 / 4, (1.5**2 + 0.5**2 + 1.5**2 + 0.5**2) / 3
    assert (found.segments, found.mean) == (4, mean)
    assert found.z == pytest.approx(mean / math.sqrt(variance / 4))
    assert found.p == pytest.approx(0.4386, abs=1e-4)  # 2 (1 - Phi(0.7746))


def test_degenerate() -> None:
    assert (matched_pairs([]).z, matched_pairs([]).p) == (None, None)
    assert (matched_pairs([(1, 1), (2, 2)]).z, matched_pairs([(1, 1), (2, 2)]).p) == (0.0, 1.0)
    assert matched_pairs([(1, 0)]).p is None
    assert matched_pairs([(1, 0), (1, 0)]).p is None


def test_systems_may_take_different_alternatives() -> None:
    """`{twenty twenty / 2020}`: the one took the words, the other the figure."""
    first = align(["in", "twenty", "twenty", "we", "grew", "a", "lot"], ["in", "twenty", "we", "grew", "a", "lot"])
    second = align(["in", "2020", "we", "grew", "a", "lot"], ["in", "2020", "we", "grew", "a"])
    assert error_segments(first, second) == [(1, 0), (0, 1)]


def test_alternatives_without_a_word_in_common_are_one_segment() -> None:
    """`{ok thank you / okay thanks}` alone in an utterance: each system took the one that it heard."""
    assert error_segments(align(["ok", "thank", "you"], ["ok", "you"]), align(["okay", "thanks"], ["okay"])) == [(1, 1)]
