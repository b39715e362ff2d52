"""Rates of texts, by hand and against jiwer; empty texts; what scoring imports."""

from __future__ import annotations

import subprocess
import sys

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechmill.errors import SpeechmillError
from speechmill.score.counts import Counts, Total
from speechmill.score.rates import Rates, score_pairs

repeatable = settings(derandomize=True, deadline=None)


def test_rates_by_hand() -> None:
    rates = score_pairs(["Sales rose, we think."], ["sales rows we think"])
    assert rates.word == Counts(words=4, substitutions=1)
    assert rates.word_p == Total(length=4, errors=3)  # Sales/sales, rose,/rows and think./think
    assert rates.char == Total(length=len("SALES ROSE WE THINK"), errors=2)
    assert rates.char_p == Total(length=len("Sales rose, we think."), errors=5)  # S, s/w and e,/s each twice, the point
    assert (rates.wer, rates.wer_p) == (0.25, 0.75)


def test_spaces_count_as_characters_but_not_in_excess() -> None:
    assert score_pairs(["any one"], ["anyone"]).char == Total(length=7, errors=1)
    assert score_pairs([" any  one "], ["any one"]).char_p == Total(length=7, errors=0)


def test_sums_over_utterances_are_of_counts_not_of_rates() -> None:
    rates = score_pairs(["a", "b c d"], ["x", "b c d"])
    assert rates.utterances == 2
    assert rates.wer == 0.25


def test_no_reference_words_has_no_rate() -> None:
    rates = score_pairs(["", "..."], ["", "uh"])
    assert rates.word == Counts(words=0, insertions=1)
    assert (rates.wer, rates.cer) == (None, None)
    assert rates.wer_p == 1.0  # as written, "..." is a word
    assert Rates().as_dict() == {
        **dict.fromkeys(["wer", "wer_p", "cer", "cer_p", "ser"]),
        **dict.fromkeys(["utterances", "words", "errors", "insertions", "deletions", "substitutions"], 0),
    }


def test_empty_hypothesis_is_all_deletions() -> None:
    rates = score_pairs(["two words"], [""])
    assert rates.word == Counts(words=2, deletions=2)
    assert (rates.wer, rates.cer, rates.wer_p, rates.cer_p) == (1.0, 1.0, 1.0, 1.0)


def test_unequal_lists_are_refused() -> None:
    with pytest.raises(SpeechmillError, match="2 references against 1 hypotheses"):
        score_pairs(["a", "b"], ["a"])


WRITTEN = st.text(st.sampled_from("aB c.,'"), max_size=20)


@repeatable
@given(st.lists(st.tuples(WRITTEN, WRITTEN), max_size=4))
def test_counts_add_up(pairs: list[tuple[str, str]]) -> None:
    whole = score_pairs([reference for reference, _ in pairs], [hypothesis for _, hypothesis in pairs])
    parts = sum((score_pairs([reference], [hypothesis]) for reference, hypothesis in pairs), start=Rates())
    assert whole == parts
    assert whole.word.errors == whole.word.insertions + whole.word.deletions + whole.word.substitutions


@repeatable
@given(WRITTEN)
def test_equal_text_has_rate_zero_or_none(text: str) -> None:
    rates = score_pairs([text], [text])
    assert {rates.wer, rates.wer_p, rates.cer, rates.cer_p} <= {0.0, None}


@repeatable
@given(st.lists(st.sampled_from(["Net", "sales", "rose,", "10%"]), min_size=1, max_size=8), WRITTEN)
def test_written_rates_are_jiwers(words: list[str], heard: str) -> None:
    reference, hypothesis = " ".join(words), " ".join(heard.split())
    rates = score_pairs([reference], [hypothesis])
    assert rates.wer_p == pytest.approx(jiwer.wer(reference, hypothesis), abs=1e-12)
    assert rates.cer_p == pytest.approx(jiwer.cer(reference, hypothesis), abs=1e-12)


def test_scoring_imports_nothing_heavy() -> None:
    program = (
        "import sys, speechmill.score as s\n"
        "s.scores_table(s.scores([s.score_utterance('1', 'a b', 'a')], {'native': [True]}))\n"
        "print(sorted({'torch', 'polars', 'rich', 'speechbrain', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
