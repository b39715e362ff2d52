from __future__ import annotations

import random

import polars as pl

from speechmill.overlap.passages import WORDS, covered_slowly, shared_passages


def table(*texts: str) -> pl.DataFrame:
    return pl.DataFrame({"text": list(texts), "call": [f"call{number // 2}" for number in range(len(texts))]})


def test_counts_are_those_of_the_readable_reference() -> None:
    rng = random.Random(4)
    words = [f"W{number}" for number in range(200)]
    source = rng.choices(words, k=400)

    def cut() -> list[str]:
        start = rng.randrange(400)
        return source[start : start + rng.randint(1, 40)] + rng.choices(words, k=rng.randint(1, 20))

    ours, theirs = [cut() for _ in range(30)], [cut() for _ in range(20)]
    a, b = (table(*(" ".join(text) for text in side)) for side in (ours, theirs))
    found = shared_passages(a, b)
    runs = [tuple(text[p : p + WORDS]) for side in (ours, theirs) for text in side for p in range(len(text) - 4)]
    assert max(sum(run == other for other in runs) for run in set(runs)) <= 10  # none too frequent
    wanted = {
        (one, other): min(covered_slowly(left, right), covered_slowly(right, left))
        for one, left in enumerate(ours)
        for other, right in enumerate(theirs)
    }
    assert {(a, b): words for a, b, words in found.pairs.iter_rows()} == {k: n for k, n in wanted.items() if n}
    of_call = {}
    for one, left in enumerate(ours):
        for call in set(b["call"]):
            # A word that stands between the call's texts is in no run.
            texts = b.filter(pl.col("call") == call)["text"]
            if words_in := covered_slowly(left, " | ".join(texts).split(" ")):
                of_call[one, call] = words_in
    assert {(row, call): words for row, call, words in found.of_a.iter_rows()} == of_call
    turned = shared_passages(b, a)
    assert turned.of_b.sort("row", "call").equals(found.of_a.sort("row", "call"))


def test_what_many_utterances_say_is_no_passage() -> None:
    phrase = "GOOD MORNING AND WELCOME TO THE THIRD QUARTER EARNINGS CALL"
    many = table(*(f"{phrase} OF COMPANY{number}" for number in range(11)))
    assert shared_passages(many, table(phrase)).pairs.is_empty()
    assert shared_passages(table(phrase), many).pairs.is_empty()
    assert shared_passages(many.head(10), table(phrase)).pairs["words"].to_list() == [10] * 10


def test_no_run_crosses_from_one_text_into_the_next() -> None:
    found = shared_passages(table("A B C D", "E F G H"), table("A B C D E F G H"))
    assert found.pairs.is_empty()
    assert found.of_b.is_empty()
