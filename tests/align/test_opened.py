"""Sentences whose edges were reckoned, and the words that these cut."""

from __future__ import annotations

import numpy as np
import pytest
from scripted import Scripted

from speechmill.align.base import Transcribed
from speechmill.align.opened import around, hear_open_places, with_whole_words
from speechmill.align.recording import Outcome, TimedToken
from speechmill.audio import RATE, Pcm


def test_an_edge_moves_out_to_the_word_that_it_cuts() -> None:
    words = [Transcribed("a", 0.9, 0.5, 1.0), Transcribed("b", 0.9, 1.02, 2.0), Transcribed("c", 0.9, 3.0, 3.5)]
    assert around(words, 1.5, 3.2, 4.0) == pytest.approx((1.01, 3.56))
    assert around(words, 0.7, 3.2, 3.5) == pytest.approx((0.44, 3.5)), "the sound ends there"
    assert around(words, 2.5, 2.8, 4.0) == (2.5, 2.8)
    assert around(words, 1.2, 1.6, 4.0) == pytest.approx((1.01, 2.06)), "both in one word"
    assert around([], 1.0, 2.0, 4.0) == (1.0, 2.0)


class Hearing(Scripted):
    """Hears one word, from second 1.5 to 2.4 of the recording."""

    def __init__(self, samples: Pcm) -> None:
        super().__init__([])
        self.samples, self.asked = samples, 0

    def hear(self, samples: Pcm) -> list[Transcribed]:
        self.asked += 1
        offset = (samples.ctypes.data - self.samples.ctypes.data) / 2 / RATE
        return [Transcribed("word", 0.9, max(1.5 - offset, 0.0), min(2.4 - offset, len(samples) / RATE))]


def outcome(place: int, start: float, end: float, heard: tuple[bool, bool]) -> Outcome:
    middle = (start + end) / 2
    tokens = (TimedToken("a", start, middle, heard[0]), TimedToken("b", middle, end, heard[1]))
    return Outcome(place, "kept", 0.9, start, end, tokens)


def loud(seconds: float) -> Pcm:
    return np.where(np.arange(round(seconds * RATE)) % 100 < 50, 5000, -5000).astype(np.int16)


def test_a_word_is_cut_where_an_edge_in_the_middle_of_sound_was_reckoned() -> None:
    samples = loud(5.0)
    aligner = Hearing(samples)
    whole, other = with_whole_words(
        aligner, samples, [outcome(0, 0.5, 2.0, (True, False)), outcome(1, 3.0, 4.0, (True, True))]
    )
    assert whole.end == pytest.approx(2.46, abs=0.01)
    assert whole.tokens[1].end == whole.end
    assert (whole.start, whole.tokens[0].start) == (0.5, 0.5)
    assert (other.start, other.end, aligner.asked) == (3.0, 4.0, 1)
    (first,) = with_whole_words(aligner, samples, [outcome(0, 2.0, 4.0, (False, True))])
    assert first.start == first.tokens[0].start == pytest.approx(1.44, abs=0.01)


def test_a_word_reaches_no_further_than_the_sentence_beside_it() -> None:
    samples = loud(5.0)
    found = with_whole_words(
        Hearing(samples), samples, [outcome(1, 2.1, 4.0, (False, True)), outcome(0, 0.5, 2.0, (True, False))]
    )
    assert found[1].end == pytest.approx(2.1, abs=0.06)
    assert (found[0].start or 0) >= (found[1].end or 0) - 1e-6


def test_an_edge_in_a_pause_cuts_no_word() -> None:
    samples = loud(5.0)
    samples[round(1.9 * RATE) : round(2.1 * RATE)] = 0
    aligner = Hearing(samples)
    given = outcome(0, 0.5, 2.0, (True, False))
    assert with_whole_words(aligner, samples, [given]) == (given,)
    assert not aligner.asked
    rejected = Outcome(0, "not-spoken", 0.0)
    assert with_whole_words(aligner, samples, [rejected]) == (rejected,)
    assert with_whole_words(aligner, samples[:0], []) == ()


def test_after_a_word_that_was_heard_stands_what_is_clearly_said_there_and_not_written() -> None:
    aligner = Scripted([])
    aligner.hear_between = lambda _, words: ["two more" if word == "a" else "" for word in words]  # type: ignore[method-assign]
    found = hear_open_places(aligner, loud(5.0), outcome(0, 0.5, 2.0, (True, True)))
    assert [(token.extra, token.instead) for token in found.tokens] == [(2, "two more"), (0, None)]
    rejected = Outcome(0, "not-spoken", 0.0)
    assert hear_open_places(aligner, loud(5.0), rejected) == rejected
