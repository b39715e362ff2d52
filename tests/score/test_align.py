"""The fast alignment against the readable one, brute force, rapidfuzz and jiwer; the laws of edit distance."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechmill.score.align import align, align_slowly, count_errors, distance, tally
from speechmill.score.counts import Counts

repeatable = settings(derandomize=True, deadline=None)

WORDS = st.lists(st.sampled_from("abc"), max_size=9)


def fewest_by_brute_force(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Try every way to take the next step, without a thought for ties."""

    @cache
    def fewest(row: int, column: int) -> int:
        ways = []
        if row < len(reference) and column < len(hypothesis):
            ways.append(fewest(row + 1, column + 1) + (reference[row] != hypothesis[column]))
        if row < len(reference):
            ways.append(fewest(row + 1, column) + 1)
        if column < len(hypothesis):
            ways.append(fewest(row, column + 1) + 1)
        return min(ways, default=0)

    return fewest(0, 0)


def noisy(generator: random.Random, words: list[str], vocabulary: int) -> list[str]:
    heard = []
    for word in words:
        chance = generator.random()
        if chance < 0.1:
            continue
        heard.append(word if chance < 0.8 else f"w{generator.randrange(vocabulary)}")
        if chance > 0.95:
            heard.append(f"w{generator.randrange(vocabulary)}")
    return heard


def random_pair(seed: int, words: int, vocabulary: int) -> tuple[list[str], list[str]]:
    generator = random.Random(seed)
    reference = [f"w{generator.randrange(vocabulary)}" for _ in range(words)]
    return reference, noisy(generator, reference, vocabulary)


@repeatable
@given(WORDS, WORDS)
def test_fast_is_slow_and_the_fewest(reference: list[str], hypothesis: list[str]) -> None:
    alignment = align(reference, hypothesis)
    assert alignment == align_slowly(reference, hypothesis)
    assert tally(alignment) == count_errors(reference, hypothesis)
    assert tally(alignment).errors == fewest_by_brute_force(reference, hypothesis) == distance(reference, hypothesis)


@repeatable
@given(WORDS, WORDS)
def test_alignment_holds_both_texts(reference: list[str], hypothesis: list[str]) -> None:
    alignment = align(reference, hypothesis)
    assert [edit.reference for edit in alignment if edit.op != "I"] == reference
    assert [edit.hypothesis for edit in alignment if edit.op != "D"] == hypothesis
    assert all((edit.op == "=") == (edit.reference == edit.hypothesis) for edit in alignment)


@pytest.mark.parametrize("seed", range(20))
def test_fast_is_slow_on_longer_text(seed: int) -> None:
    reference, hypothesis = random_pair(seed, words=150, vocabulary=20 + 20 * seed)
    assert align(reference, hypothesis) == align_slowly(reference, hypothesis)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "operations"),
    [
        ("a a", "a", "D="),  # equal words from the end first
        ("a b", "b c", "D=I"),  # a deletion and an insertion about a hit, not two substitutions
        ("a b", "c", "SD"),  # a deletion before (from the end) a substitution
        ("a", "b c", "SI"),
        ("a b c", "a x c", "=S="),
        ("", "a b", "II"),
        ("a b", "", "DD"),
        ("", "", ""),
    ],
)
def test_tie_rule(reference: str, hypothesis: str, operations: str) -> None:
    assert "".join(edit.op for edit in align(reference.split(), hypothesis.split())) == operations


def test_counts_by_kind() -> None:
    counts = count_errors(["the", "net", "sales", "rose", "by"], ["net", "sails", "rose", "up", "a", "by"])
    assert counts == Counts(words=5, insertions=2, deletions=1, substitutions=1)


def test_strings_are_sequences_of_characters() -> None:
    assert distance("kitten", "sitting") == 3
    assert distance("kitten", list("sitting")) == 3
    assert count_errors("kitten", "sitting") == Counts(words=6, insertions=1, substitutions=2)


@repeatable
@given(WORDS, WORDS)
def test_total_is_symmetric(one: list[str], other: list[str]) -> None:
    assert count_errors(one, other).errors == count_errors(other, one).errors


@repeatable
@given(WORDS, WORDS, WORDS)
def test_triangle_inequality(one: list[str], two: list[str], three: list[str]) -> None:
    direct = count_errors(one, three).errors
    assert direct <= count_errors(one, two).errors + count_errors(two, three).errors


@repeatable
@given(WORDS)
def test_equal_texts_have_no_errors(words: list[str]) -> None:
    assert count_errors(words, list(words)) == Counts(words=len(words))


@repeatable
@given(st.lists(st.tuples(WORDS, WORDS), max_size=5))
def test_splitting_never_lowers_the_errors(utterances: list[tuple[list[str], list[str]]]) -> None:
    reference = [word for words, _ in utterances for word in words]
    hypothesis = [word for _, words in utterances for word in words]
    parts = sum((count_errors(*utterance) for utterance in utterances), start=Counts())
    assert parts.errors >= count_errors(reference, hypothesis).errors
    assert parts.words == len(reference)


def test_totals_are_jiwers() -> None:
    pairs = [random_pair(seed, words=1 + seed % 40, vocabulary=3 + seed % 50) for seed in range(1_000)]
    theirs = jiwer.process_words([" ".join(words) for words, _ in pairs], [" ".join(words) for _, words in pairs])
    ours = sum((count_errors(*pair) for pair in pairs), start=Counts())
    assert ours.errors == theirs.insertions + theirs.deletions + theirs.substitutions
    assert ours.rate == pytest.approx(theirs.wer, abs=1e-12)
