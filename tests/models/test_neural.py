"""The neural language model: row by row, prefix by prefix and as a whole it says the same; it learns its text."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from speechmill.errors import SpeechmillError
from speechmill.group import ALONE
from speechmill.models.neural import NeuralModel
from speechmill.models.ngram import NgramModel
from speechmill.settings import Recipe, SearchSettings
from speechmill.tokenizer import ANYTHING
from speechmill.train.language import NEURAL_MODEL_NAME, needs_language_model, train_neural

TOKENS = 6
TEXT = [[1, 2, 3], [1, 2, 4], [5, 1, 2, 3], [2, 3]] * 8


@pytest.fixture(scope="module")
def model() -> NeuralModel:
    return train_neural(TEXT, TOKENS, SearchSettings(lm="neural", lm_size=16, lm_updates=150), 0, ALONE)


def test_it_learns_what_follows(model: NeuralModel) -> None:
    assert math.exp(model.score([1], 2)) > 0.9
    assert math.exp(model.score([1, 2], 3)) > math.exp(model.score([1, 2], 1))
    assert math.exp(model.end([1, 2, 3])) > 0.9
    total = sum(math.exp(model.score([2], token)) for token in range(TOKENS))
    assert total == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("kind", ["neural", "ngram"])
def test_rows_are_prefixes_one_by_one(kind: str, model: NeuralModel) -> None:
    language = model if kind == "neural" else NgramModel.train(TEXT, 3, TOKENS)
    prefixes: list[list[int]] = [[], [], []]
    state = language.begin(3)
    candidates = torch.tensor([[0, 1, 2], [0, 3, 5], [0, 4, 1]])
    for rows, tokens in [([0, 1, 2], [1, 5, 2]), ([2, 0, 0], [3, 2, 1]), ([1, 1, 0], [3, 4, 2])]:
        found = language.score_rows(state, candidates)
        for row, prefix in enumerate(prefixes):
            asked = candidates[row].tolist()
            expected = [language.score(prefix, token) if token else language.end(prefix) for token in asked]
            assert found[row].tolist() == pytest.approx(expected, abs=1e-5)
        state = language.extend(state, torch.tensor(rows), torch.tensor(tokens))
        prefixes = [[*prefixes[row], token] for row, token in zip(rows, tokens, strict=True)]


def test_the_loss_is_the_mean_over_tokens_and_ends(model: NeuralModel) -> None:
    sentences = [[1, 2, 3], [5]]
    each = [model.score(one[:place], token) for one in sentences for place, token in enumerate(one)]
    each += [model.end(one) for one in sentences]
    with torch.no_grad():
        found = model.loss(torch.tensor([[1, 2, 3], [5, 0, 0]]), torch.tensor([3, 1]))
    assert float(found) == pytest.approx(-sum(each) / len(each), abs=1e-5)


def test_what_a_wildcard_stands_for_and_what_follows_it_is_not_learned(model: NeuralModel) -> None:
    """Above all not that a sentence ends where a word is unknown: the ends of sentences are token 0."""
    with torch.no_grad():
        found = model.loss(torch.tensor([[1, 2, ANYTHING, 3]]), torch.tensor([4]))
    learned = [model.score([], 1), model.score([1], 2), model.end([1, 2, 0, 3])]
    assert float(found) == pytest.approx(-sum(learned) / 3, abs=1e-5)


def test_saved_and_loaded(model: NeuralModel, tmp_path: Path) -> None:
    model.save(tmp_path / "lm.pt")
    loaded = NeuralModel.load(tmp_path / "lm.pt")
    assert loaded.score([1, 2], 3) == pytest.approx(model.score([1, 2], 3))
    (tmp_path / "lm.pt").write_bytes(b"no model")
    with pytest.raises(SpeechmillError, match=r"lm\.pt: not a language model"):
        NeuralModel.load(tmp_path / "lm.pt")


def test_another_number_of_updates_is_another_model(model: NeuralModel, tmp_path: Path) -> None:
    model.save(tmp_path / NEURAL_MODEL_NAME)
    asked = {"kind": "beam", "lm": "neural", "lm_size": 16}
    assert not needs_language_model(Recipe(search=SearchSettings(**asked, lm_updates=150)), tmp_path)
    assert needs_language_model(Recipe(search=SearchSettings(**asked, lm_updates=151)), tmp_path)
