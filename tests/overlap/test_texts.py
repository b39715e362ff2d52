from __future__ import annotations

import random

import polars as pl
import pytest
from rapidfuzz.distance import Levenshtein

from speechmill.overlap.passages import covered_slowly
from speechmill.overlap.texts import LEAST_WORDS
from speechmill.overlap.texts import same_text as said_by_both
from speechmill.text import normalize


def table(*texts: str, prefix: str = "") -> pl.DataFrame:
    """Each text its own call."""
    ids = [f"{prefix}{number}" for number in range(len(texts))]
    return pl.DataFrame(
        {"id": ids, "call": ids, "text": list(texts)}, schema=dict.fromkeys(("id", "call", "text"), pl.String)
    )


def same_text(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    return said_by_both(a, b).pairs


def test_near_same_text_is_found_and_other_text_is_not() -> None:
    a = table(
        "Revenue grew by twelve percent in the third quarter.",
        "We expect margins to improve over the next year.",
        "Thank you.",
        "Our balance sheet remains strong with two billion in cash.",
        prefix="a",
    )
    b = table("REVENUE GREW BY TWELVE PERCENT IN THE THIRD QUARTER", "thank you", prefix="b").vstack(
        table(
            "We expected margins to improve over the next year", "Our balance was weak with no cash at all.", prefix="c"
        )
    )
    assert same_text(a, b).rows() == [("a0", "b0", 1.0, 9), ("a1", "c0", pytest.approx(8 / 9, abs=1e-4), 9)]


def test_short_texts_are_not_compared() -> None:
    words = ["one", "two", "three", "four", "five", "six"]
    for count, found in ((LEAST_WORDS - 1, 0), (LEAST_WORDS, 1)):
        text = " ".join(words[:count])
        assert same_text(table(text), table(text)).height == found


def test_every_copy_is_listed() -> None:
    text = "this sentence stands in the safe harbor statement of every call"
    assert same_text(table(text, text), table(text, text, text)).height == 6


def test_boilerplate_of_many_calls_is_not_listed_copy_by_copy() -> None:
    text = "this sentence stands in the safe harbor statement of every call"
    found = same_text(table(*[text] * 2000, prefix="a"), table(*[text] * 3000, prefix="b"))
    assert (found["a"].n_unique(), found["b"].n_unique(), found.height) == (2000, 3000, 4999)


def test_a_whole_calls_transcript_is_cut_into_sentences() -> None:
    rng = random.Random(1)
    words = [f"{letter}{number}" for letter in "abcdefghij" for number in range(99)]
    sentences = [" ".join(rng.choices(words, k=12)) + "." for _ in range(30)]
    whole = table(" ".join(sentences), prefix="call")
    found = same_text(whole, table(sentences[7], "a sentence that is not in there at all", sentences[20], prefix="b"))
    assert found.select("a", "b").rows() == [("call0", "b0"), ("call0", "b2")]


def test_what_agrees_in_four_words_of_five_is_found_as_by_comparing_all() -> None:
    rng = random.Random(2)
    words = [f"w{number}" for number in range(300)]

    def sentence() -> list[str]:
        return rng.choices(words, k=rng.randint(6, 25))

    def changed(text: list[str]) -> list[str]:
        text = text.copy()
        for _ in range(rng.randint(0, len(text) // 4)):
            place = rng.randrange(len(text))
            text[place : place + rng.randint(0, 1)] = rng.choices(words, k=rng.randint(0, 2))
        return text

    ours = [sentence() for _ in range(120)]
    theirs = [changed(rng.choice(ours)) for _ in range(100)] + [sentence() for _ in range(50)]
    a, b = (table(*map(" ".join, side), prefix=name) for side, name in ((ours, "a"), (theirs, "b")))
    wanted, passages = set(), set()
    for one, left in zip(a["id"], a["text"], strict=True):
        for other, right in zip(b["id"], b["text"], strict=True):
            first, second = normalize(left).split(), normalize(right).split()
            longer = max(len(first), len(second))
            if min(len(first), len(second)) >= 6 and Levenshtein.distance(first, second) <= 0.2 * longer + 1e-9:
                wanted.add((one, other))
            if min(covered_slowly(first, second), covered_slowly(second, first)) >= LEAST_WORDS:
                passages.add((one, other))
    found = set(same_text(a, b).select("a", "b").iter_rows())
    assert passages <= found <= wanted | passages
    assert min(len(wanted), len(passages)) > 50
    assert len(found & wanted) >= 0.98 * len(wanted)


def test_nothing_to_compare() -> None:
    assert same_text(table("too short"), table("as well")).is_empty()
    assert same_text(table(""), table("a sentence that is long enough to be compared")).is_empty()
