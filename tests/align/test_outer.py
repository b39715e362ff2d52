"""Sentences whose outer words were not heard, laid by the sound."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scripted import Loud, Scripted, sentences

from speechmill.align.base import Floats, Heard, Stretch
from speechmill.align.outer import lay_outer_words
from speechmill.align.place import Word
from speechmill.align.sound import levels
from speechmill.audio import RATE, Pcm

TEXTS = ["we saw strong demand in europe", "margins were lower than we had planned"]
SPANS = [(1.0, 3.0), (4.0, 6.5)]  # in which they are said, with a pause inside the first
PAUSE = (2.2, 2.4)


class Sounding(Scripted):
    def stretch(self, samples: Pcm, start: float, end: float, speaker: str) -> Stretch:
        assert speaker == ""
        loudness = {tuple(text.split()): 1000 * (number + 1) for number, text in enumerate(TEXTS)}
        return Loud(samples[round(start * RATE) : round(end * RATE)], loudness)


def sound() -> Pcm:
    samples = np.zeros(8 * RATE, np.int16)
    for number, (start, end) in enumerate(SPANS):
        samples[round(start * RATE) : round(end * RATE)] = 1000 * (number + 1)
    samples[round(PAUSE[0] * RATE) : round(PAUSE[1] * RATE)] = 0
    return samples


def words(agree: list[tuple[int, int]], spans: list[tuple[float, float]]) -> list[Word]:
    """Words of both sentences, evenly over `spans`; `agree`: those from and to (without) that were heard."""
    found = []
    for sentence, (text, (first, last), (start, end)) in enumerate(zip(TEXTS, agree, spans, strict=True)):
        step = (end - start) / len(text.split())
        for place, word in enumerate(text.split()):
            heard = first <= place < last
            found.append(Word(word, sentence, place, heard, start + place * step, start + (place + 1) * step))
    return found


def test_a_hold_of_minutes_inside_a_sentence_is_not_laid_over_at_once() -> None:
    class Asked(Sounding):
        def stretch(self, samples: Pcm, start: float, end: float, speaker: str) -> Stretch:
            raise AssertionError(f"{speaker}: {end - start} s of {len(samples)} samples")

    samples = np.zeros(700 * RATE, np.int16)
    given = words([(1, 6), (0, 7)], [(1.0, 650.0), (660.0, 663.0)])
    found = lay_outer_words(Asked([]), samples, sentences(TEXTS), given, (), levels(samples))
    assert [(word.start, word.end) for word in found] == [(word.start, word.end) for word in given]


def laid(given: list[Word], taken: Sequence[tuple[float, float]] = ()) -> list[Word]:
    samples = sound()
    return lay_outer_words(Sounding([]), samples, sentences(TEXTS), given, taken, levels(samples))


def test_an_end_that_was_not_heard_goes_to_where_the_words_have_room() -> None:
    given = words([(0, 4), (0, 7)], [(1.0, 2.2), SPANS[1]])  # its last two words end at its own pause
    found = laid(given)
    assert found[6:] == given[6:]
    assert (found[0].start, found[5].end) == (pytest.approx(1.0, abs=0.01), pytest.approx(3.0, abs=0.01))
    assert [word.word for word in found] == [word.word for word in given]


def test_a_start_that_was_not_heard() -> None:
    given = words([(0, 6), (3, 7)], SPANS)
    given[6:9] = [replace(word, start=4.8, end=4.9) for word in given[6:9]]
    found = laid(given)
    assert found[5].end == pytest.approx(3.0)
    assert (found[6].start, found[-1].end) == (pytest.approx(4.0, abs=0.01), pytest.approx(6.5, abs=0.01))


def test_what_was_heard_at_both_edges_stays_and_so_does_all_where_the_aligner_cannot_tell() -> None:
    given = words([(0, 6), (0, 7)], SPANS)
    assert laid(given) == given
    unsure = words([(0, 2), (3, 7)], SPANS)
    assert lay_outer_words(Scripted([]), sound(), sentences(TEXTS), unsure, [], levels(sound())) == unsure


def test_neighbours_that_share_an_edge_which_nobody_heard_stay_apart() -> None:
    given = words([(0, 3), (3, 7)], [(1.0, 2.9), (3.5, 6.5)])  # the second reaches into the pause between them
    found = laid(given)
    assert found[5].end == pytest.approx(3.0, abs=0.01)
    assert found[5].end <= found[6].start


def test_what_another_sentence_has_is_not_taken() -> None:
    given = words([(0, 4), (0, 7)], [(1.0, 2.2), SPANS[1]])
    assert laid(given, [(2.4, 3.0)])[5].end == pytest.approx(2.2, abs=0.01)


def test_heard_words_are_not_moved_to_other_sound() -> None:
    given = words([(0, 3), (0, 7)], [(1.0, 2.2), SPANS[1]])
    given[:3] = [replace(word, start=word.start - 0.7, end=word.end - 0.7) for word in given[:3]]
    assert laid(given) == given


def test_a_sentence_that_cannot_be_laid_anew_keeps_its_words_out_of_the_one_before() -> None:
    given = words([(0, 4), (0, 7)], [(1.0, 4.2), SPANS[1]])
    found = lay_outer_words(Scripted([]), sound(), sentences(TEXTS), given, [], levels(sound()))
    assert found[5].end == given[6].start
    assert all(before.end <= after.start for before, after in itertools.pairwise(found[4:7]))


class Ends(Scripted):
    """Fits as well as is said for where a stretch ends, from its first cut on; words share the time evenly."""

    def __init__(self, fits: dict[float, float]) -> None:
        super().__init__([])
        self.by_end = fits

    def stretch(self, samples: Pcm, start: float, end: float, speaker: str) -> Stretch:
        del samples, end, speaker
        self.low = start
        return self

    def fits(self, texts: Sequence[Sequence[str]], cuts: Sequence[float], longest: float) -> Floats:
        del longest
        found = np.full((len(texts), len(cuts), len(cuts)), -np.inf, np.float32)
        found[:, 0] = [self.by_end.get(round(self.low + cut, 1), -np.inf) for cut in cuts]
        return found

    def times(self, words: Sequence[str], start: float, end: float) -> list[Heard]:
        step = (end - start) / len(words)
        return [Heard(word, start + place * step, start + (place + 1) * step) for place, word in enumerate(words)]


@pytest.mark.parametrize(
    ("fits", "end"),
    [
        ({2.3: -1.0, 3.5: -1.5}, 3.5),  # the words have room there, and it fits nearly as well
        ({2.3: -1.0, 3.5: -2.5}, 2.3),  # it fits far worse
        ({2.3: -1.0}, 2.3),
    ],
)
def test_a_place_with_room_is_taken_where_it_fits_nearly_as_well(fits: dict[float, float], end: float) -> None:
    given = words([(0, 4), (0, 7)], [(1.0, 2.8), SPANS[1]])
    given[4:6] = [replace(word, start=2.2, end=2.2) for word in given[4:6]]
    found = lay_outer_words(Ends(fits), sound(), sentences(TEXTS), given, [], levels(sound()))
    assert found[5].end == pytest.approx(end, abs=0.02)
