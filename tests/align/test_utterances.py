"""Joining and cutting sentences."""

import itertools
from dataclasses import replace

from speechmill.align import judge
from speechmill.align.opened import cut_before
from speechmill.align.recording import Outcome, TimedToken
from speechmill.align.utterances import utterances
from speechmill.settings import AlignSettings


def outcome(place: int, start: float, end: float, words: int = 4, sure: float = 0.9) -> Outcome:
    step = (end - start) / words
    tokens = tuple(TimedToken(f"w{place}.{n}", start + n * step, start + (n + 0.8) * step, True) for n in range(words))
    return Outcome(place, judge.KEPT, sure, start, end, tokens)


def spans(outcomes: list[Outcome], groups: str, others: list[tuple[float, float]] | None = None, **settings: float):
    made, _ = utterances(outcomes, groups, others or [], AlignSettings(**settings))
    return [(utterance.places, round(utterance.start, 3), round(utterance.end, 3)) for utterance in made]


def test_a_short_sentence_joins_its_neighbour_of_the_same_speaker() -> None:
    there = [outcome(0, 0.0, 3.0), outcome(1, 3.2, 3.9, 2)]
    assert spans(there, "aa") == [((0, 1), 0.0, 3.9)]
    assert spans(there, "ab") == [((0,), 0.0, 3.0)]
    left_out = utterances(there, "ab", [], AlignSettings())[1]
    assert [(one.places, one.start, one.end) for one in left_out] == [((1,), 3.2, 3.9)]
    assert spans([outcome(0, 0.0, 0.5), outcome(1, 0.7, 4.0)], "aa") == [((0, 1), 0.0, 4.0)]


def test_nothing_is_joined_over_a_long_pause_or_other_speech() -> None:
    assert spans([outcome(0, 0.0, 3.0), outcome(1, 5.0, 5.5)], "aa") == [((0,), 0.0, 3.0)]
    assert spans([outcome(0, 0.0, 3.0), outcome(1, 3.9, 4.5)], "aa", [(3.2, 3.7)]) == [((0,), 0.0, 3.0)]


def test_sentences_are_joined_up_to_a_length_where_asked() -> None:
    there = [outcome(n, 3.0 * n, 3.0 * n + 2.8) for n in range(5)]
    assert [places for places, _, _ in spans(there, "aaaaa", join_seconds=9.0)] == [(0, 1, 2), (3, 4)]
    assert [places for places, _, _ in spans(there, "aaaaa")] == [(n,) for n in range(5)]


def test_a_long_sentence_is_cut_at_its_pauses() -> None:
    made, _ = utterances([outcome(0, 0.0, 70.0, 35)], "a", [], AlignSettings())
    assert all(1.0 <= utterance.seconds <= 30.0 for utterance in made)
    assert [utterance.part for utterance in made] == list(range(1, len(made) + 1))
    assert [token.written for utterance in made for token in utterance.tokens] == [f"w0.{n}" for n in range(35)]
    assert all(before.end <= after.start for before, after in itertools.pairwise(made))


def test_no_cut_leaves_words_in_a_part_that_is_too_short() -> None:
    """ "Well," and a long pause before the rest of a sentence."""
    tokens = [TimedToken("Well,", 0.0, 0.45, True)]
    tokens += [TimedToken(f"w{n}", 3.5 + 0.5 * n, 3.9 + 0.5 * n, True) for n in range(60)]
    there = Outcome(0, judge.KEPT, 0.9, 0.0, 33.4, tuple(tokens))
    made, left_out = utterances([there], "a", [], AlignSettings())
    assert not left_out
    assert [token for utterance in made for token in utterance.tokens] == tokens


def test_the_least_sure_sentence_gives_the_confidence() -> None:
    made, _ = utterances([outcome(0, 0.0, 3.0), outcome(1, 3.2, 3.9, 2, 0.4)], "aa", [], AlignSettings())
    assert [utterance.confidence for utterance in made] == [0.4]


def test_an_open_place_beside_a_cut_is_not_clear_any_more() -> None:
    head = TimedToken("b", 1.0, 1.8, False, instead="bee see")
    tokens = [
        TimedToken("a", 0.0, 0.8, True),
        head,
        TimedToken("--", None, None, True),
        TimedToken("c", 2.0, 2.8, False),
    ]
    after = TimedToken("d", 3.0, 3.8, True, extra=1, instead="dee")
    unclear = replace(head, instead="★")
    for place in (2, 3, 4):
        assert cut_before([*tokens, after], place)[0][1] == unclear
        assert cut_before([*tokens, after], place)[1][-1] == after
    assert cut_before([*tokens, after, tokens[0]], 5)[0] == (*tokens, replace(after, instead="★"))
    assert cut_before([*tokens, after, tokens[0], tokens[0]], 6)[0][1:5:3] == (head, after)
    assert cut_before(tokens, 1) == ((tokens[0],), (unclear, *tokens[2:]))


def test_what_is_said_as_written_stays_so_on_both_sides_of_a_cut() -> None:
    first, head = TimedToken("a", 0.0, 0.8, True), TimedToken("b", 1.0, 1.8, False, instead="b c")
    second, after = TimedToken("c", 2.0, 2.8, False), TimedToken("d", 3.0, 3.8, True)
    left, right = cut_before([first, head, second, after], 2)
    assert left == (first, replace(head, instead="b"))
    assert right == (replace(second, instead="c"), after)
    assert cut_before([first, head, second, after], 1) == ((first,), (head, second, after))
    assert cut_before([first, head, second, after], 3) == ((first, head, second), (after,))
    more = replace(first, extra=1, instead="b c")  # heard as another word, but about as likely
    left, right = cut_before([more, replace(head, instead=None), second, after], 1)
    assert left == (first,)
    assert right == (head, second, after)


def test_an_open_place_that_is_cut_is_open_on_both_sides() -> None:
    first, head = TimedToken("a", 0.0, 0.8, True), TimedToken("b", 1.0, 1.8, False, instead="bee")
    second, after = TimedToken("c", 2.0, 2.8, False), TimedToken("d", 3.0, 3.8, True)
    left, right = cut_before([first, head, second, after], 2)
    assert left == (first, replace(head, instead="★"))
    assert right == (replace(second, instead="★"), after)
