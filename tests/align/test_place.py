"""Where the words of matched sentences are put before the second pass."""

from __future__ import annotations

import pytest

from speechmill.align.base import Heard
from speechmill.align.match import Match
from speechmill.align.place import rewrite, without_strays

# Words of three letters that took 0.4 s each: about 0.1 s a letter, counting the space.
HEARD = [Heard("one", 5.0, 5.4), Heard("two", 5.4, 5.8), Heard("six", 8.0, 8.4), Heard("ten", 8.4, 8.8)]


def sentence(*words: tuple[str, int]) -> Match:
    places = [index for _, index in words if index >= 0]
    made = tuple((word, token, index) for token, (word, index) in enumerate(words))
    return Match(min(places), max(places) + 1, made, 2.0)


def edges(*found: Match | None) -> list[tuple[float, float]]:
    """Start and end of each sentence."""
    words = rewrite(HEARD, found, 9.0)
    places = range(len(found))
    return [
        (round(min(w.start for w in words if w.sentence == place), 3), max(w.end for w in words if w.sentence == place))
        for place in places
    ]


def test_a_sentence_starts_before_its_first_word_that_was_heard_where_others_come_first() -> None:
    first, _ = edges(sentence(("yes", -1), ("one", 0), ("two", 1)), sentence(("six", 2), ("ten", 3)))
    assert first == pytest.approx((5.0 - 1.3 * 0.4 - 0.2, 5.8), abs=0.02)


def test_a_sentence_ends_after_its_last_word_that_was_heard_where_others_follow() -> None:
    first, second = edges(sentence(("one", 0), ("two", 1), ("nay", -1)), sentence(("six", 2), ("ten", 3)))
    assert first == pytest.approx((5.0, 5.8 + 1.3 * 0.4 + 0.2), abs=0.02)
    assert second == pytest.approx((8.0, 8.8))


def test_unheard_words_do_not_reach_into_what_was_heard_before_and_after() -> None:
    long = "w" * 79
    first, second = edges(sentence((long, -1), ("one", 0), ("two", 1)), sentence((long, -1), ("six", 2), ("ten", 3)))
    assert first == pytest.approx((0.0, 5.8))
    assert second == pytest.approx((5.8, 8.8))


def test_unheard_last_words_end_with_the_recording() -> None:
    assert edges(sentence(("six", 2), ("ten", 3), ("w" * 79, -1))) == [pytest.approx((8.0, 9.0))]


def test_two_sentences_share_the_sound_between_them_by_their_letters() -> None:
    first, second = edges(
        sentence(("one", 0), ("two", 1), ("w" * 19, -1)), sentence(("w" * 39, -1), ("six", 2), ("ten", 3))
    )
    assert first[1] == pytest.approx(5.8 + 2.2 * (1.3 * 2.06 + 0.2) / (1.3 * 6.18 + 0.4), abs=0.01)
    assert second[0] == pytest.approx(first[1], abs=1e-3)


def test_heard_words_between_stay_where_they_are() -> None:
    words = rewrite(HEARD, [sentence(("one", 0)), sentence(("nay", -1), ("ten", 3))], 9.0)
    assert [(word.word, word.sentence) for word in words] == [("one", 0), ("two", -1), ("nay", 1), ("ten", 1)]
    assert [word.start for word in words] == sorted(word.start for word in words)


def test_an_edge_goes_on_to_the_pause_where_something_longer_is_said() -> None:
    def last(*words: Heard) -> float:
        found = rewrite([*words, Heard("six", 9.0, 9.4)], [sentence(("one", 0), ("two", 1), ("no", -1))], 9.5)
        return round(max(word.end for word in found if word.sentence == 0), 3)

    assert last(*HEARD[:2], Heard("semi", 5.8, 6.3), Heard("conductor", 6.3, 7.1)) >= 7.1
    assert last(*HEARD[:2], Heard("so", 5.8, 6.1), Heard("semi", 6.5, 7.1), Heard("conductor", 7.1, 7.9)) < 6.5
    assert last(*HEARD[:2], Heard("semi", 5.8, 6.8), Heard("conductor", 6.8, 8.5)) < 8.5, "too long for it"


def test_a_heard_word_that_is_too_near_or_too_far_for_what_is_between_agrees_by_chance() -> None:
    def first(match: Match, *starts: float) -> int:
        return without_strays(match, [Heard("", start, start + 0.4) for start in starts], 0.1).first

    missing = sentence(("one", 0), *((word, -1) for word in ("and", "two", "and", "six")), ("ten", 1), ("and", 2))
    assert first(missing, 5.0, 5.6, 6.0) == 1  # four words do not fit in
    assert first(missing, 5.0, 7.0, 7.4) == 0
    assert first(missing, 5.0, 9.0, 9.4) == 1  # nor do they take so long
    filler = sentence(("one", 0), ("ten", 2), ("and", 3))  # what the transcript leaves out is said between
    assert first(filler, 5.0, 5.6, 6.6, 7.0) == 0
    assert first(sentence(("one", 0), ("ten", 1), ("and", 2)), 5.0, 6.3, 6.7) == 0


def test_more_is_counted_where_the_next_word_of_the_sentence_is_the_next_one_heard() -> None:
    def extras(*words: tuple[str, int]) -> list[int]:
        heard = [Heard("one", 5.0, 5.4, more=True), *HEARD[1:]]
        return [word.extra for word in rewrite(heard, [sentence(*words)], 9.0) if word.sentence == 0]

    assert extras(("one", 0), ("two", 1), ("six", 2)) == [1, 0, 0]
    assert extras(("one", 0), ("nay", -1), ("two", 1)) == [0, 0, 0]  # that may be what was said
    assert extras(("one", 0), ("six", 2)) == [1, 0]  # "two" was heard
    assert extras(("one", 0)) == [0]
