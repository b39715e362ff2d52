"""The whole of `scores.json`: what it adds to the rates, and that order and missing values do not matter."""

from __future__ import annotations

import json
import random

import pytest

from speechmill.score.groups import score_utterance
from speechmill.score.intervals import Sums, rate_interval
from speechmill.score.result import UtteranceScore
from speechmill.score.summary import summarize

CALLS, ROWS = 8, 6


def utterances() -> list[UtteranceScore]:
    generator = random.Random(1)
    made = []
    for call in range(CALLS):
        for row in range(ROWS):
            words = [generator.choice(["Net", "sales", "rose,", "uh", "by", "10%"]) for _ in range(8)]
            heard = [word for word in words if generator.random() > 0.1 * (1 + call % 4)]
            made.append(score_utterance(f"c{call}-{row}", " ".join(words), " ".join(heard).lower()))
    return made


ITEMS = utterances()
BLOCKS = [item.id.partition("-")[0] for item in ITEMS]
NATIVE: list[object] = [int(block[1:]) % 2 == 0 for block in BLOCKS]
SESSION: list[object] = [["presentation", "q-and-a", ""][place % 3] for place in range(len(ITEMS))]
ATTRIBUTES = {"native": NATIVE, "session": SESSION}


def test_what_it_holds() -> None:
    whole = summarize(ITEMS, ATTRIBUTES, BLOCKS, "call")
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole
    low, high = whole["interval"]
    assert 0 <= low < whole["wer"] < high
    assert whole["uncertainty"] == {"level": 0.95, "blocked_by": "call", "blocks": CALLS, "seed": 0}
    sums = [Sums(0, 0)] * CALLS
    for item, block in zip(ITEMS, BLOCKS, strict=True):
        before = sums[int(block[1:])]
        sums[int(block[1:])] = Sums(before.errors + item.rates.word.errors, before.words + item.rates.word.words)
    interval = rate_interval(sums)
    assert interval is not None
    assert whole["interval"] == interval.as_list()
    assert sum(part["rate"] for part in whole["kinds"].values()) == pytest.approx(whole["wer_p"])
    assert sum(row["count"] for row in whole["confusions"]["frequent"]) <= whole["errors"]
    assert whole["ser"] == sum(item.rates.word.errors > 0 for item in ITEMS) / len(ITEMS)


def test_gap_is_others_minus_native_and_lies_in_its_interval() -> None:
    whole = summarize(ITEMS, ATTRIBUTES, BLOCKS, "call")
    native, gap = whole["by"]["native"], whole["gaps"]["native"]
    assert gap["of"] == ["false", "true"]
    assert gap["difference"] == pytest.approx(native["false"]["wer"] - native["true"]["wer"])
    assert gap["interval"][0] < gap["difference"] < gap["interval"][1]
    for group in native.values():
        assert group["interval"][0] < group["wer"] < group["interval"][1]
    assert set(whole["gaps"]) == {"native", "session"}


def test_order_does_not_matter() -> None:
    order = list(range(len(ITEMS)))
    random.Random(2).shuffle(order)
    shuffled = summarize(
        [ITEMS[k] for k in order],
        {name: [values[k] for k in order] for name, values in ATTRIBUTES.items()},
        [BLOCKS[k] for k in order],
        "call",
    )
    assert shuffled == summarize(ITEMS, ATTRIBUTES, BLOCKS, "call")


def test_one_call_has_no_interval() -> None:
    whole = summarize(ITEMS[:ROWS], {"native": NATIVE[:ROWS]}, BLOCKS[:ROWS], "call")
    assert whole["interval"] is None
    assert whole["by"]["native"]["true"]["interval"] is None
    assert (whole["gaps"], whole["uncertainty"]["blocks"]) == ({}, 1)


def test_nothing_scored() -> None:
    whole = summarize([], {"native": []}, [], "call")
    assert (whole["wer"], whole["interval"], whole["gaps"]) == (None, None, {})
    assert all(part["errors"] == 0 for part in whole["kinds"].values())
