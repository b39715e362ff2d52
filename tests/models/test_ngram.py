from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from speechmill.errors import SpeechmillError
from speechmill.models import ngram
from speechmill.models.ngram import NgramModel
from speechmill.tokenizer import ANYTHING

TOKENS = 7


def model(order: int, seed: int = 0) -> NgramModel:
    rng = np.random.default_rng(seed)
    sentences = [rng.integers(1, TOKENS - 1, rng.integers(0, 9)).tolist() for _ in range(30)]
    return NgramModel.train(sentences, order, TOKENS)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_sum_to_one(order: int) -> None:
    trained = model(order)
    rng = np.random.default_rng(1)
    contexts = [[], *(rng.integers(0, TOKENS, rng.integers(1, 6)).tolist() for _ in range(30))]
    for context in contexts:
        total = sum(math.exp(trained.score(context, token)) for token in range(TOKENS)) + math.exp(trained.end(context))
        assert total == pytest.approx(1.0, abs=1e-12)


def test_nothing_is_counted_across_a_wildcard() -> None:
    trained = NgramModel.train([[1, 2, ANYTHING, 3], [ANYTHING], [ANYTHING, 1]], 3, 5)
    edge, other = ngram._EDGE, ngram._OPEN
    grams = {(edge, edge, 1), (edge, 1), (1,), (edge, 1, 2), (1, 2), (2,), (3,), (3, edge), (edge,), (1, edge)}
    assert set(trained._counts) == grams
    assert trained._counts[(edge,)] == 3, "of each sentence the end, also behind a wildcard"
    assert not any(other in gram for gram in trained._counts)


def test_bigram_by_hand() -> None:
    # Witten-Bell, on "1 2" and "1 1": P(2 | 1) from three continuations of 1, of three kinds.
    trained = NgramModel.train([[1, 2], [1, 1]], 2, 3)
    uniform = 1 / 4
    unigram = (1 + 3 * uniform) / (6 + 3)  # six tokens with the ends, three kinds; 2 occurs once
    assert math.exp(trained.score([1], 2)) == pytest.approx((1 + 3 * unigram) / (3 + 3))
    assert math.exp(trained.score([2], 1)) == pytest.approx((0 + 1 * (3 + 3 * uniform) / 9) / (1 + 1))


def test_only_the_last_tokens_count() -> None:
    trained = model(3)
    assert trained.score([5, 1, 2], 3) == trained.score([4, 4, 1, 2], 3)


@pytest.mark.parametrize("order", [1, 3])
def test_saved_and_loaded_is_equal(order: int, tmp_path: Path) -> None:
    trained = model(order)
    trained.save(tmp_path / "lm.npz")
    loaded = NgramModel.load(tmp_path / "lm.npz")
    assert (loaded.order, loaded.tokens) == (order, TOKENS)
    rng = np.random.default_rng(2)
    for _ in range(50):
        context = rng.integers(0, TOKENS, rng.integers(0, 4)).tolist()
        assert loaded.end(context) == trained.end(context)
        assert [loaded.score(context, k) for k in range(TOKENS)] == [trained.score(context, k) for k in range(TOKENS)]


def test_not_a_model(tmp_path: Path) -> None:
    path = tmp_path / "lm.npz"
    model(2).save(path)
    for damaged in (path.read_bytes()[:-40], b"", b"text"):
        path.write_bytes(damaged)
        with pytest.raises(SpeechmillError, match=r"lm\.npz: not a language model"):
            NgramModel.load(path)


def test_what_is_remembered_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    known = model(2)
    asked = [((before,), token) for before in range(1, TOKENS) for token in range(1, TOKENS)]
    expected = [known.score(*one) for one in asked]
    monkeypatch.setattr(ngram, "_REMEMBERED", 3)
    known.forget()
    for one, score in zip(asked, expected, strict=True):
        assert known.score(*one) == score
        assert len(known._cache) <= 3
