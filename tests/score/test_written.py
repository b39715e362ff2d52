"""Alignments of text as written: the fewest errors still, and of those the least unlike pairs."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

import speechmill.score.written as written
from speechmill.score.align import Edit, align, count_errors, tally
from speechmill.score.written import align_written, runs

WORDS = st.lists(st.sampled_from(["Net", "net", "net,", "nets", "A", "a", "rose", "Rose."]), max_size=8)


def unlikeness(one: str, other: str) -> int:
    from rapidfuzz.distance import Levenshtein

    plain = [written.folded(written.bare(word)) for word in (one, other)]
    return round(float(Levenshtein.normalized_distance(*plain)) * 15)


def least_by_brute_force(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[int, int]:
    """(errors, unlikeness) of the best of all alignments."""

    @cache
    def best(row: int, column: int) -> tuple[int, int]:
        ways = []
        if row < len(left) and column < len(right):
            errors, unlike = best(row + 1, column + 1)
            if left[row] != right[column]:
                ways.append((errors + 1, unlike + unlikeness(left[row], right[column])))
        for down, across in ((1, 0), (0, 1)):
            if row + down <= len(left) and column + across <= len(right):
                errors, unlike = best(row + down, column + across)
                ways.append((errors + 1, unlike))
        return min(ways, default=(0, 0))  # equal words of a run cannot be paired: no alignment with the fewest did

    return best(0, 0)


@given(WORDS, WORDS)
def test_both_texts_and_the_fewest_errors(reference: list[str], hypothesis: list[str]) -> None:
    edits = align_written(" ".join(reference), " ".join(hypothesis))
    assert [edit.reference for edit in edits if edit.op != "I"] == reference
    assert [edit.hypothesis for edit in edits if edit.op != "D"] == hypothesis
    assert all((edit.op == "=") == (edit.reference == edit.hypothesis) for edit in edits)
    assert tally(edits) == count_errors(reference, hypothesis), "the split too"


@given(WORDS, WORDS)
def test_each_run_is_the_best_there_is(reference: list[str], hypothesis: list[str]) -> None:
    plain = align(reference, hypothesis)
    for start, end in runs(plain):
        run = plain[start:end]
        left = tuple(edit.reference for edit in run if edit.reference is not None)
        right = tuple(edit.hypothesis for edit in run if edit.hypothesis is not None)
        edits = written._realigned(run)
        exchanged = [(e.reference, e.hypothesis) for e in edits if e.op == "S"]
        unlike = sum(unlikeness(one or "", other or "") for one, other in exchanged)
        assert (tally(edits).errors, unlike) == least_by_brute_force(left, right)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("rose Sales", "sales", [("D", "rose", None), ("S", "Sales", "sales")]),
        ("Sales rose", "sales", [("S", "Sales", "sales"), ("D", "rose", None)]),
        ("grows", "it growth", [("I", None, "it"), ("S", "grows", "growth")]),
        ("", "a", [("I", None, "a")]),
        ("", "", []),
    ],
)
def test_like_beside_like(reference: str, hypothesis: str, expected: list[tuple[str, str, str]]) -> None:
    assert align_written(reference, hypothesis) == [Edit(*step) for step in expected]


def test_an_hour_in_the_other_case_is_all_casing() -> None:
    words = [f"word{k * k % 97}" for k in range(3_000)]
    edits = align_written(" ".join(words), " ".join(words).upper())
    assert {edit.op for edit in edits} == {"S"}
    assert all(edit.hypothesis == (edit.reference or "").upper() for edit in edits)


def test_too_large_a_run_keeps_its_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "_CELLS", 1)
    assert align_written("rose Sales", "sales") == align(["rose", "Sales"], ["sales"])
