"""Texts laid over sound, against a slow search and against PocketSphinx's own alignment."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from scripted import sentences

from speechmill.align import pocket
from speechmill.align.acoustics import differences, senones
from speechmill.align.sphinx import Sphinx
from speechmill.align.spoken import first_reading
from speechmill.align.spot import Chain, Spotter
from speechmill.audio import RATE, decode

CORPUS = Path(__file__).parents[2].parent / "shared" / "data" / "ljspeech_part"
MODEL = pocket.model_folder()
SAID = {"to": [["T", "UW"], ["T", "AH"], ["T", "IH"]], "all": [["AO", "L"]], "a": [["AH"], ["EY"]]}
RNG = np.random.default_rng(0)


def spotter(frames: int = 60) -> Spotter:
    return Spotter(MODEL, SAID, RNG.normal(0.0, 1.0, (frames, 3, 13)), None)


def slow(chain: Chain, observed: np.ndarray, text: int, start: int) -> tuple[float, int]:
    """Score of the best path through all frames, and its frames of silence, state by state."""
    best: dict[int, tuple[float, int]] = {}
    entries = {int(state): chain.sources[number].tolist() for number, state in enumerate(chain.entries)}
    for frame, scores in enumerate(observed):
        now = {}
        for state in range(len(chain.senones)):
            sources = entries.get(state, [state - 1])
            come = [(best[one][0] + chain.move[one], best[one][1]) for one in sources if one in best]
            come += [(best[state][0] + chain.stay[state], best[state][1])] if state in best else []
            come += [(0.0, 0)] if frame == 0 and state in chain.starts[start : start + 1 + len(SAID["to"])] else []
            if come:
                score, quiet = max(come)
                now[state] = score + scores[state], quiet + (chain.word[state] == -1)
        best = now
    ended = [(best[one][0] + chain.move[one], best[one][1]) for one in chain.ends[text] if one in best]
    return max(ended, default=(-np.inf, 0))


def test_fits_as_a_slow_search_finds_them() -> None:
    sound = spotter()
    cuts = [0.0, 0.2, 0.25, 0.5, 0.6]
    found = sound.fits([["to", "all"]], cuts, 0.45)[0]
    chain = sound._chain([["to", "all"]])
    assert np.isfinite(found).sum() == 6
    for (first, start), (last, end) in itertools.combinations(enumerate(cuts), 2):
        score, quiet = slow(chain, sound._all[round(100 * start) : round(100 * end), chain.senones], 0, 0)
        if end - start > 0.45 or not np.isfinite(score):
            assert found[first, last] == -np.inf
        else:
            spoken = round(100 * (end - start)) - quiet
            assert found[first, last] == pytest.approx(score / spoken, rel=1e-4)
    assert not np.isfinite(found[np.tril_indices(len(cuts))]).any()


def test_texts_side_by_side_are_as_each_alone() -> None:
    sound = spotter()
    texts = [["to", "all"], ["a"], ["all", "to", "a"]]
    cuts = [0.0, 0.1, 0.33, 0.6]
    together = sound.fits(texts, cuts, 1.0)
    alone = np.concatenate([sound.fits([text], cuts, 1.0) for text in texts])
    assert np.allclose(together, alone, rtol=1e-5)


def test_what_does_not_fit_in() -> None:
    sound = spotter(10)
    assert sound.times(["to", "all"], 0.0, 0.1) is None  # 12 states in 10 frames
    assert sound.phones(["to", "all"]) == []
    assert sound.phones([]) == []
    assert not np.isfinite(sound.fits([["to", "all"]], [0.0, 0.1], 1.0)).any()


def test_words_that_nobody_can_pronounce() -> None:
    sound = spotter()
    found = sound.fits([["to", "你好"], ["all"], []], [0.0, 0.3, 0.6], 1.0)
    assert np.isfinite(found[1]).any()
    assert not np.isfinite(found[[0, 2]]).any()
    assert sound.times(["你好"], 0.0, 0.6) is None
    assert sound.phones(["to", "你好"]) == []


def test_phones_follow_each_other_through_the_words() -> None:
    found = spotter(80).phones(["a", "to", "all"])
    assert [word for _, word, _, _ in found] == [0, 1, 1, 2, 2]
    assert found[0][0] in ("AH", "EY")
    assert [phone for phone, *_ in found][-2:] == ["AO", "L"]
    assert all(last <= first for (*_, last), (_, _, first, _) in itertools.pairwise(found))
    assert all(last - first >= 3 for _, _, first, last in found)
    assert len(senones(MODEL).alone) == 42


@pytest.mark.skipif(not CORPUS.is_dir(), reason="no real speech to align")
def test_real_speech_as_pocketsphinx_aligns_it() -> None:
    rows = [line.split("|") for line in (CORPUS / "metadata.csv").read_text(encoding="utf-8").splitlines()[1:4]]
    samples = [decode(CORPUS / f"{row[0]}.flac") for row in rows]
    given = sentences([row[1] for row in rows])
    texts = [first_reading(list(one.tokens)) for one in given]
    aligner = Sphinx()
    for number, sound in enumerate(samples):
        aligner.prepare(given)
        stretch, theirs = aligner.stretch(sound, 0.0, len(sound) / RATE, ""), aligner.fit(sound, texts[number])
        assert stretch is not None
        assert theirs is not None
        ours = stretch.times(texts[number], 0.0, len(sound) / RATE)
        assert ours is not None
        apart = [abs(a.start - b.start) for a, b in zip(ours, theirs, strict=True)]
        assert np.median(apart) <= 0.011
        assert max(apart) < 0.2
        fits = stretch.fits(texts, [0.0, len(sound) / RATE], 99.0)[:, 0, 1]
        assert fits.argmax() == number
        assert fits[number] > np.delete(fits, number).max() + 2.0
    assert differences(np.zeros((0, 13))).shape == (0, 3, 13)
