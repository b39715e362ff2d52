"""Which heard words are which sentence's."""

# ruff: noqa: SIM905

import random

from scripted import sentences

from speechmill.align.match import islands, match

A = "we saw strong demand in europe this year"
B = "margins were a little lower than we had planned"
C = "the second half should bring better prices for steel"
D = "let me now turn to cash and the balance sheet"


def places(texts: list[str], heard: str) -> list[tuple[int, int] | None]:
    return [(found.first, found.last) if found else None for found in match(sentences(texts), heard.split())]


def test_in_order() -> None:
    assert places([A, B, C], f"{A} {B} {C}") == [(0, 8), (8, 17), (17, 26)]


def test_neighbours_in_the_wrong_order_are_both_found() -> None:
    assert places([A, C, B, D], f"{A} {B} {C} {D}") == [(0, 8), (17, 26), (8, 17), (26, 36)]


def test_what_was_not_said_matches_next_to_nothing() -> None:
    found = match(sentences([A, "nobody ever said anything about oranges", B]), f"{A} {B}".split())
    assert found[1] is None or found[1].share < 0.2
    assert found[0] is not None
    assert found[0].share == 1.0


def test_a_repeated_passage_does_not_derail_what_follows() -> None:
    assert places([A, B, C], f"{A} {B} {A} {B} {C}")[2] == (34, 43)
    assert places([A, B, A, B, C], f"{A} {B} {C}")[4] == (17, 26)
    whole = places([A, B, C], f"{A} {A} {B} {C}")
    assert whole[0] in ((0, 8), (8, 16))  # one of the two, not half of each


def test_a_transcript_that_starts_late_and_a_recording_cut_off() -> None:
    rng = random.Random(0)
    noise = " ".join(rng.choice("the of a to and was it with from late early".split()) for _ in range(400))
    assert places([B, C], f"{noise} {B} {C}") == [(400, 409), (409, 418)]
    found = places([A, B, C, D], f"{A} {B} the second half")
    assert found[:2] == [(0, 8), (8, 17)]
    assert found[3] is None or found[3][1] - found[3][0] <= 3


def test_the_reading_that_was_heard_is_chosen() -> None:
    heard = "it grew two and a half percent in the third quarter two thousand and five to one twenty seven"
    found = match(sentences(["it grew 2.5% in Q3 2005 to $1.27"]), heard.split())[0]
    assert found is not None
    assert found.share == 1.0


def test_damaged_words_are_the_ones_that_were_not_heard() -> None:
    found = match(sentences(["we saw weak demand in europe this year"]), A.split())[0]
    assert found is not None
    assert [word for word, _, heard in found.words if heard < 0] == ["weak"]


def test_islands_are_runs_of_four() -> None:
    found = islands("a b c d x e f g".split(), "a b c d y e f g".split())
    assert found == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_nothing_heard() -> None:
    assert match(sentences([A, B]), []) == [None, None]


def test_a_sentence_whose_middle_another_has_takes_one_side_of_it() -> None:
    """It came back with the same taken place for ever, where crossing one word cost less than half of its own."""
    before, after = ["bale", "dorm", "felt", "golf", "kiln"], ["lamp", "moth", "nest", "oven", "pear"]
    unheard = [
        f"{first}{second}" for first in ("ash", "elm", "oak", "yew", "fir") for second in ("by", "on", "up", "in", "at")
    ]
    heard = [*before, "right", *after]
    long, short = match(sentences([" ".join([*before, *unheard, *after]), "right"]), heard)
    assert short is not None
    assert (short.first, short.last) == (5, 6)
    assert long is None or long.last <= 5 or long.first >= 6
