from __future__ import annotations

import numpy as np
import pytest

from speechmill import batching
from speechmill.batching import Limits, cut_batches


def starts(samples: list[int], limits: Limits, tokens: list[int] | None = None) -> list[int]:
    return cut_batches(np.array(samples), np.array(tokens or [0] * len(samples)), limits).tolist()


def test_batches_are_full_and_no_fuller() -> None:
    assert starts([1, 1, 1, 1, 1, 1, 1], Limits(3, 3, 0)) == [0, 3, 6, 7]
    assert starts([1, 2, 2, 3, 3], Limits(6, 6, 0)) == [0, 3, 5]
    assert starts([3, 1, 1, 1], Limits(6, 6, 0)) == [0, 2, 4]  # the first is the longest


def test_a_small_rest_joins_within_the_hard_limit() -> None:
    assert starts([1] * 7, Limits(3, 4, 0)) == [0, 3, 7]
    assert starts([1] * 7, Limits(3, 4, 3), [1] * 7) == [0, 3, 6, 7]  # too many tokens


def test_one_long_utterance_is_a_batch_by_itself() -> None:
    assert starts([1, 1, 90, 1], Limits(4, 5, 0)) == [0, 2, 3, 4]
    assert starts([90], Limits(4, 5, 0)) == [0, 1]
    assert starts([1, 1, 1], Limits(4, 5, 10), [5, 99, 5]) == [0, 1, 2, 3]


def test_tokens_limit_the_padded_batch() -> None:
    assert starts([1] * 6, Limits(100, 100, 8), [1, 1, 1, 4, 4, 4]) == [0, 3, 5, 6]


@pytest.mark.parametrize("width", [1, 2, 7, 64])
def test_slices_change_nothing(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(width)
    samples, tokens = np.sort(rng.integers(1, 50, 500)), rng.integers(1, 20, 500)
    for limits in (Limits(100, 130, 0), Limits(700, 900, 60), Limits(40_000, 40_000, 0)):
        whole = cut_batches(samples, tokens, limits).tolist()
        with monkeypatch.context() as patched:
            patched.setattr(batching, "_SLICE", width)
            assert cut_batches(samples, tokens, limits).tolist() == whole
