"""Sentences that were not understood, and are found by how well their words fit the sound."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from scripted import Loud, Scripted, said, sentences

from speechmill.align import judge
from speechmill.align.base import Heard, Stretch
from speechmill.align.recording import Aligned, Outcome, _with_placed, align_recording
from speechmill.align.sound import levels, pauses
from speechmill.align.verify import Placed, _orderly, has_room
from speechmill.audio import RATE, Pcm

A = "we saw strong demand in europe this year"
B = "margins were a little lower than we had planned"
C = "the second half should bring better prices for steel"
D = "let me now turn to cash and the balance sheet"
FALSE = "nobody ever said anything about oranges or lemons"


class Fitting(Scripted):
    def __init__(self, script: Sequence[Heard], texts: Sequence[str]) -> None:
        super().__init__(script)
        self.loudness = {tuple(text.split()): 1000 * (number + 1) for number, text in enumerate(texts)}

    def stretch(self, samples: Pcm, start: float, end: float, speaker: str) -> Stretch:
        del speaker
        return Loud(samples[round(start * RATE) : round(end * RATE)], self.loudness)


def aligned(written: Sequence[str]) -> tuple[Aligned, list[tuple[float, float]]]:
    """A, B, C and D are said; of B nothing is understood."""
    texts = [A, B, C, D]
    _, heard, spans = said(texts)
    samples = np.zeros(round((spans[-1][1] + 0.5) * RATE), np.int16)
    for number, (start, end) in enumerate(spans):
        samples[round(start * RATE) : round(end * RATE)] = 1000 * (number + 1)
    start, end = spans[1]
    script = [word if not start <= word.start < end else word._replace(word="zebra") for word in heard]
    return align_recording(Fitting(script, texts), samples, sentences(written)), spans


def test_a_sentence_that_was_not_understood_is_found_by_its_sound() -> None:
    found, spans = aligned([A, B, C, D])
    one = found.outcomes[1]
    assert one.kept
    assert (one.start, one.end) == (pytest.approx(spans[1][0], abs=0.02), pytest.approx(spans[1][1], abs=0.02))
    assert 0.7 < one.confidence < 0.9 < found.outcomes[0].confidence
    assert [token.written for token in one.tokens if not token.heard] == B.split()
    assert found.others == ()
    assert [round(Placed(0, margin, ()).confidence, 2) for margin in (0.7, 1.7, 9.0)] == [0.7, 0.83, 0.9]


def test_one_that_fits_no_better_than_others_is_not() -> None:
    found, _ = aligned([A, FALSE, C, D])
    assert [outcome.kept for outcome in found.outcomes] == [True, False, True, True]
    assert len(found.others) == len(B.split())


def test_of_two_that_want_the_same_sound_the_better_has_it() -> None:
    found, _ = aligned([A, FALSE, B, C, D])
    assert [outcome.reason for outcome in found.outcomes] == [
        judge.KEPT, judge.SOMETHING_ELSE, judge.KEPT, judge.KEPT, judge.KEPT,
    ]  # fmt: skip


def test_what_lies_in_the_sound_of_a_kept_sentence_is_left_and_edges_stay_apart() -> None:
    loud = levels(np.full(8 * RATE, 5000, np.int16))
    given = sentences([A, B, C, D])
    kept = Outcome(0, judge.KEPT, 0.9, 0.5, 2.5)
    others = [Outcome(place, judge.UNCERTAIN, 0.0) for place in (1, 2, 3)]

    def placed(place: int, start: float, end: float) -> Placed:
        words = given[place].text.split()
        step = (end - start) / len(words)
        heard = [Heard(word, start + n * step, start + (n + 1) * step) for n, word in enumerate(words)]
        return Placed(place, 2.0, tuple(heard))

    found, spans = _with_placed(
        given, (kept, *others), [placed(1, 1.0, 2.4), placed(2, 2.42, 4.0), placed(3, 4.1, 6.0)], loud
    )
    assert [outcome.kept for outcome in found] == [True, False, True, True]
    (first, last), (following, _) = spans
    assert first == pytest.approx(2.5)
    assert last <= following
    for outcome in found[2:]:
        assert all(outcome.start <= token.start <= token.end <= outcome.end for token in outcome.tokens)  # type: ignore[operator]


def test_pauses_are_where_it_is_quiet_for_long_enough() -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(-9000, 9000, 3 * RATE).astype(np.int16)
    samples[RATE : RATE + RATE // 5] //= 500
    samples[2 * RATE : 2 * RATE + RATE // 50] = 0  # 20 ms: within a word
    assert pauses(levels(samples)).tolist() == [pytest.approx(1.1, abs=0.011)]
    assert len(pauses(levels(np.zeros(0, np.int16)))) == 0


def test_a_stretch_into_which_an_outer_word_is_squeezed_is_not_where_a_sentence_lies() -> None:
    pace = 0.1
    assert has_room([Heard("thank", 0.0, 0.6), Heard("you", 0.7, 0.72), Heard("ann", 0.8, 1.3)], pace)
    together = [Heard("thank", 0.0, 0.5), Heard("you", 0.5, 0.6), Heard("ann", 0.6, 1.3)]
    assert not has_room(together, pace)
    assert not has_room([Heard("thank", 0.0, 0.1), Heard("you", 0.1, 0.4), Heard("ann", 0.4, 0.7)], pace)
    assert not has_room([Heard("thank", 0.0, 0.3), Heard("you", 0.3, 0.6), Heard("ann", 0.6, 0.7)], pace)


def test_sentences_that_stand_in_order() -> None:
    assert _orderly([(place, 1) for place in (0, 1, 7, 2, 3)]) == {0, 1, 2, 3}
    assert _orderly([(place, 1) for place in (4, 1, 2, 0, 3)]) == {1, 2, 3}
    assert _orderly([(0, 5), (3, 8), (1, 3), (4, 6)]) == {0, 3, 4}
    assert _orderly([]) == set()
    rng = np.random.default_rng(0)
    for _ in range(50):  # against all subsets
        places = rng.permutation(7).tolist()
        weights = rng.integers(1, 9, 7).tolist()
        found = _orderly(list(zip(places, weights, strict=True)))
        assert [place for place in places if place in found] == sorted(found)
        runs = [run for size in range(8) for run in itertools.combinations(range(7), size)]
        ordered = [run for run in runs if [places[n] for n in run] == sorted(places[n] for n in run)]
        most = max(sum(weights[n] for n in run) for run in ordered)
        assert sum(weight for place, weight in zip(places, weights, strict=True) if place in found) == most
