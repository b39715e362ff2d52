"""Most frequent errors: counted, in one order, with shares of the whole."""

from __future__ import annotations

from collections import Counter

import pytest

from speechmill.score.align import align
from speechmill.score.confusions import confusions

PAIRS = [
    ("THE NET SALES ROSE", "THE NET SAILS ROWS"),
    ("THE SALES", "SAILS UH"),
    ("THE SALES", "A UH"),
    ("WELL THE", "THE"),
    ("", "UH"),
]
ALIGNMENTS = [align(one.split(), other.split()) for one, other in PAIRS]


def test_counts() -> None:
    found = confusions(ALIGNMENTS)
    errors = sum(edit.op != "=" for alignment in ALIGNMENTS for edit in alignment)
    assert found.errors == errors
    for counter, op in ((found.substitutions, "S"), (found.deletions, "D"), (found.insertions, "I")):
        assert counter.total() == sum(edit.op == op for alignment in ALIGNMENTS for edit in alignment)
    assert found.words == Counter(THE=4, SALES=3, NET=1, ROSE=1, WELL=1)
    listed = found.as_dict()
    assert listed["substitutions"][0] == {"reference": "SALES", "hypothesis": "UH", "count": 2}
    assert sum(row["count"] for row in listed["frequent"]) == errors
    assert sum(row["share"] for row in listed["frequent"]) == pytest.approx(1)
    assert listed["wrong_words"][0] == {"word": "SALES", "errors": 3, "words": 3}
    assert listed["insertions"][0]["word"] == "UH"


def test_one_order_whatever_that_of_the_utterances() -> None:
    assert confusions(ALIGNMENTS).as_dict() == confusions(ALIGNMENTS[::-1]).as_dict()
    counts = [row["count"] for row in confusions(ALIGNMENTS).frequent()]
    assert counts == sorted(counts, reverse=True)


def test_no_more_than_asked_for() -> None:
    assert {len(rows) for rows in confusions(ALIGNMENTS).as_dict(1).values()} == {1}


def test_like_words_are_taken_for_each_other() -> None:
    found = confusions([align(["THE", "NET", "SALES", "ROSE"], ["THE", "SAILS", "ROSE"])])
    assert (found.substitutions, found.deletions) == ({("SALES", "SAILS"): 1}, {"NET": 1})


def test_nothing_wrong() -> None:
    assert set(map(len, confusions([align(["A"], ["A"])]).as_dict().values())) == {0}
