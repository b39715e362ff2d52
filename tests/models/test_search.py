"""Search against the exact most probable labelling, found by trying every path."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import numpy.typing as npt
import pytest
import torch

from speechmill.models.ngram import NgramModel
from speechmill.models.search import collapse, ctc_beam, ctc_greedy
from speechmill.settings import SearchSettings


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != 0)


def labellings(log_probs: npt.NDArray[np.float32]) -> dict[tuple[int, ...], float]:
    """log P of every labelling: the sum over its paths."""
    total: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        total[collapsed(path)] += math.exp(sum(float(log_probs[t, token]) for t, token in enumerate(path)))
    return {labelling: math.log(probability) for labelling, probability in total.items()}


def random_frames(steps: int, tokens: int, seed: int) -> npt.NDArray[np.float32]:
    logits = torch.randn(steps, tokens, generator=torch.Generator().manual_seed(seed))
    return logits.log_softmax(-1).numpy()


def test_collapse() -> None:
    assert collapse(np.array([0, 1, 1, 0, 1, 2, 2, 0, 0])) == [1, 1, 2]
    assert collapse(np.array([3, 3, 2, 2, 3])) == [3, 2, 3]
    assert collapse(np.array([0, 0])) == []
    assert collapse(np.array([], dtype=np.int64)) == []


def test_greedy_takes_the_best_of_each_frame_up_to_the_length() -> None:
    frames = torch.full((2, 4, 3), -5.0)
    for row, best in enumerate([[1, 1, 0, 1], [2, 0, 2, 1]]):
        for step, token in enumerate(best):
            frames[row, step, token] = -0.1
    assert ctc_greedy(frames, torch.tensor([4, 2])) == [[1, 1], [2]]


@pytest.mark.parametrize("seed", range(20))
def test_beam_finds_the_most_probable_labelling(seed: int) -> None:
    frames = random_frames(5, 4, seed)
    scores = labellings(frames)
    found = tuple(ctc_beam(frames, SearchSettings(kind="beam", beam=1000), None))
    assert scores[found] == pytest.approx(max(scores.values()), abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_beam_with_a_language_model_finds_the_best_combined_score(seed: int) -> None:
    frames = random_frames(5, 4, seed)
    rng = np.random.default_rng(seed)
    sentences = [rng.integers(1, 4, rng.integers(1, 5)).tolist() for _ in range(10)]
    model = NgramModel.train(sentences, 3, 4)
    search = SearchSettings(kind="beam", beam=1000, lm_order=3, lm_weight=0.8, length_bonus=0.4)

    def combined(labelling: tuple[int, ...], score: float) -> float:
        language = sum(model.score(labelling[:k], token) for k, token in enumerate(labelling)) + model.end(labelling)
        return score + search.lm_weight * language + search.length_bonus * len(labelling)

    scores = {labelling: combined(labelling, score) for labelling, score in labellings(frames).items()}
    found = tuple(ctc_beam(frames, search, model))
    assert scores[found] == pytest.approx(max(scores.values()), abs=1e-6)


def test_length_bonus_alone_lengthens() -> None:
    frames = random_frames(6, 4, 3)
    lengths = [
        len(ctc_beam(frames, SearchSettings(kind="beam", beam=100, length_bonus=bonus), None))
        for bonus in (-5.0, 0.0, 5.0)
    ]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_frames_in_which_nothing_is_likely() -> None:
    flat = np.full((3, 5000), -math.log(5000), dtype=np.float32)  # every token below the limit for trying it
    assert isinstance(ctc_beam(flat, SearchSettings(kind="beam", beam=2), None), list)
