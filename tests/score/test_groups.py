"""Groups: each utterance in its own, values that are missing in none, the worst in one order."""

from __future__ import annotations

import json

import pytest

from speechmill.errors import SpeechmillError
from speechmill.score.groups import score_utterance, scores, worst
from speechmill.score.rates import score_pairs

UTTERANCES = [
    score_utterance("u1", "one two three four", "one two three four"),
    score_utterance("u2", "one two three four", "one two"),
    score_utterance("u3", "One, two.", "won two"),
    score_utterance("u4", "...", "hm"),
    score_utterance("u5", "one two", "one too"),
]
NATIVE = [True, False, True, None, False]
SESSION = ["presentation", "q-and-a", "q-and-a", "", "presentation"]


def test_each_utterance_counts_in_its_own_group() -> None:
    by = scores(UTTERANCES, {"native": NATIVE, "session": SESSION})["by"]
    assert list(by["native"]) == ["false", "true"]
    assert list(by["session"]) == ["presentation", "q-and-a"]
    for value in (True, False):
        members = [utterance for utterance, native in zip(UTTERANCES, NATIVE, strict=True) if native is value]
        expected = score_pairs([member.reference for member in members], [member.hypothesis for member in members])
        assert by["native"][str(value).lower()] == expected.as_dict()


def test_whole_counts_utterances_without_a_value_too() -> None:
    whole = scores(UTTERANCES, {"native": NATIVE, "speaker": [None] * 5})
    assert whole["utterances"] == 5
    assert (whole["words"], whole["errors"], whole["insertions"], whole["deletions"]) == (12, 5, 1, 2)
    assert sum(group["utterances"] for group in whole["by"]["native"].values()) == 4
    assert whole["by"]["speaker"] == {}
    assert whole["normalization"] == "thesis (upper case, punctuation stripped)"


def test_worst_are_in_one_order_and_wrong() -> None:
    assert [utterance.id for utterance in worst(UTTERANCES)] == ["u4", "u2", "u3", "u5"]
    assert worst(list(reversed(UTTERANCES))) == worst(UTTERANCES)
    assert worst(UTTERANCES, 1) == [UTTERANCES[3]]
    listed = scores(UTTERANCES, {})["worst"]
    assert listed[1] == {
        "id": "u2",
        "wer": 0.5,
        "errors": 2,
        "words": 4,
        "reference": "one two three four",
        "hypothesis": "one two",
    }


def test_twenty_worst_at_most() -> None:
    many = [score_utterance(f"u{number:02}", "a", "b") for number in range(30)]
    assert [line["id"] for line in scores(many, {})["worst"]] == [f"u{number:02}" for number in range(20)]


def test_both_outputs_are_json() -> None:
    whole = scores(UTTERANCES, {"native": NATIVE})
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole
    line = json.loads(json.dumps(UTTERANCES[2].as_dict()))
    assert line["reference"] == "One, two."
    assert line["alignment"] == [["S", "ONE", "WON"], ["=", "TWO", "TWO"]]


def test_no_utterances_have_no_rate() -> None:
    whole = scores([], {"native": []})
    assert (whole["wer"], whole["utterances"], whole["worst"]) == (None, 0, [])


def test_a_value_for_each_utterance() -> None:
    with pytest.raises(SpeechmillError, match="'native': 1 values for 5 utterances"):
        scores(UTTERANCES, {"native": [True]})
