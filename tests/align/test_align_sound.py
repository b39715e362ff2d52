"""Energies: where a recording is cut, how far an utterance's sound goes."""

import itertools

import numpy as np
import pytest

from speechmill.align.sound import SECONDS, edges, pieces


def test_an_edge_does_not_follow_music_that_begins_where_the_last_word_ends() -> None:
    found = np.full(6000, 10.0, np.float32)
    found[500:800] = 70.0
    found[800:4000] = 50.0  # 20 dB down: louder than what ends a word
    start, end = edges(found, 5.0, 8.0, 0.0, 60.0)
    assert (start, end) == (pytest.approx(5.0), pytest.approx(9.0))


def test_no_piece_is_too_short_to_hear() -> None:
    for length in (801, 1501, 1520, 3003):
        for shortest, longest in ((6.0, 15.0), (2.0, 8.0)):
            cut = pieces(np.full(length, 60.0, np.float32), shortest, longest)
            assert (cut[0][0], cut[-1][1]) == (0, length)
            assert all(before[1] == after[0] for before, after in itertools.pairwise(cut))
            assert min(last - first for first, last in cut) * SECONDS >= 0.5
