"""Kinds of errors: each label where it fits, in their order; parts sum to the whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechmill.score.counts import Counts
from speechmill.score.kinds import KINDS, as_dict, count_kinds, is_filler, is_number, kinds_of, kinds_of_texts
from speechmill.score.rates import score_pairs
from speechmill.score.written import align_written

PIECES = [
    "Um,",
    "uh",
    "Net",
    "net",
    "net,",
    "NET.",
    "long-term",
    "long",
    "term",
    "10%",
    "ten",
    "percent",
    "-",
    "...",
    "I'm",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=9).map(" ".join)


def labels(reference: str, hypothesis: str) -> list[str]:
    return [kind for kind in kinds_of(align_written(reference, hypothesis)) if kind is not None]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("we grew", "we grew", []),
        ("we, um, grew", "we, grew", ["filler"]),
        ("we grew", "we Uh-huh. grew", ["filler"]),
        ("Um grew", "um grew", ["filler"]),  # a filler before it is casing
        ("the end", "uh end", ["filler"]),
        ("by 10% now", "by 10 now", ["number"]),  # a number before it is punctuation
        ("by ten now", "by then now", ["number"]),
        ("Ten now", "ten now", ["number"]),
        ("twenty-five now", "now", ["number"]),
        ("$3.5 now", "now", ["number"]),
        ("Sales rose", "sales rose", ["casing only"]),
        ("sales rose,", "sales rose", ["punctuation only"]),
        ("don't", "dont", ["punctuation only"]),
        ("well - then", "well then", ["punctuation only"]),
        ("well then", "well ... then", ["punctuation only"]),
        ("Rose. We", "rose We", ["casing and punctuation"]),
        ("sales rose", "sails rose", ["word"]),
        ("any one", "anyone", ["word", "number"]),
        ("our long-term plan", "our long term plan", ["punctuation only"] * 2),
        ("our long term plan", "our Long-term plan", ["casing and punctuation"] * 2),
        ("Long-term grows", "long term growth", ["casing and punctuation"] * 2 + ["word"]),
        ("a long-term. b", "a x long term b", ["word"] + ["punctuation only"] * 2),
        ("Straße", "STRASSE", ["casing only"]),
    ],
)
def test_labels(reference: str, hypothesis: str, expected: list[str]) -> None:
    assert sorted(labels(reference, hypothesis)) == sorted(expected)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=4))
def test_parts_sum_to_the_whole(pairs: list[tuple[str, str]]) -> None:
    parts = kinds_of_texts(pairs)
    whole = score_pairs([reference for reference, _ in pairs], [hypothesis for _, hypothesis in pairs])
    assert tuple(parts) == KINDS
    assert sum(part.errors for part in parts.values()) == whole.word_p.errors
    assert {part.words for part in parts.values()} == {whole.word_p.length}
    if whole.wer_p is not None:
        rates = [part["rate"] for part in as_dict(parts).values()]
        assert sum(rates) == pytest.approx(whole.wer_p, abs=1e-12)


@given(TEXTS, TEXTS)
def test_every_error_has_one_kind(reference: str, hypothesis: str) -> None:
    edits = align_written(reference, hypothesis)
    assert [kind is None for kind in kinds_of(edits)] == [edit.op == "=" for edit in edits]


@given(TEXTS)
def test_equal_texts_have_no_kind(text: str) -> None:
    assert labels(text, text) == []


@given(TEXTS)
def test_other_case_is_casing_or_comes_before_it(text: str) -> None:
    assert set(labels(text, text.swapcase())) <= {"filler", "number", "casing only"}


def test_counts_of_a_kind() -> None:
    parts = count_kinds(align_written("Sales, um, rose by ten", "sales rose by ten oh ten"))
    assert parts["filler"] == Counts(words=5, insertions=1, deletions=1)
    assert parts["casing and punctuation"] == Counts(words=5, substitutions=1)
    assert parts["number"] == Counts(words=5, insertions=1)
    assert parts["word"] == Counts(words=5)


def test_no_reference_words_has_no_rate() -> None:
    parts = as_dict(kinds_of_texts([("", "uh oh well")]))
    assert (parts["filler"]["errors"], parts["word"]["errors"], parts["word"]["rate"]) == (2, 1, None)


@pytest.mark.parametrize("word", ["um", "Uh,", "Uh-huh.", "HMM"])
def test_fillers(word: str) -> None:
    assert is_filler(word)


@pytest.mark.parametrize("word", ["3", "10%", "Q3", "2nd", "$", "Three", "twenty-five", "millions.", "½"])
def test_numbers(word: str) -> None:
    assert is_number(word)


@pytest.mark.parametrize("word", ["", "-", "net", "tent", "someone", "a-b"])
def test_neither(word: str) -> None:
    assert not is_number(word)
    assert not is_filler(word)
