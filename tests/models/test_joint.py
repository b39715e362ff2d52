"""CTC prefix scores and joint search against the sum over all alignments and against trying every sentence."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from speechmill.models.base import Encoded
from speechmill.models.caught import caught, loops
from speechmill.models.joint import joint_search
from speechmill.models.ngram import NgramModel
from speechmill.models.prefix import CtcPrefixes
from speechmill.models.search import collapse
from speechmill.settings import SearchSettings

TOKENS = 4


def log_probs_of(batch: int, steps: int, seed: int = 0) -> Tensor:
    logits = 2.0 * torch.randn(batch, steps, TOKENS, generator=torch.Generator().manual_seed(seed))
    return logits.log_softmax(-1)


def whole(log_probs: Tensor, tokens: tuple[int, ...]) -> float:
    """P(exactly these tokens), by trying every path."""
    total = 0.0
    for path in itertools.product(range(TOKENS), repeat=len(log_probs)):
        if tuple(collapse(torch.tensor(path).numpy())) == tokens:
            total += math.exp(sum(float(log_probs[step, token]) for step, token in enumerate(path)))
    return total


def begins(log_probs: Tensor, tokens: tuple[int, ...]) -> float:
    """P(these tokens and whatever follows)."""
    total = 0.0
    for path in itertools.product(range(TOKENS), repeat=len(log_probs)):
        if tuple(collapse(torch.tensor(path).numpy()))[: len(tokens)] == tokens:
            total += math.exp(sum(float(log_probs[step, token]) for step, token in enumerate(path)))
    return total


@pytest.mark.parametrize("sentence", [(1, 2), (1, 1), (3, 3, 1), (2,)])
def test_prefix_scores_are_the_sums_over_all_paths(sentence: tuple[int, ...]) -> None:
    steps = torch.tensor([5, 4])
    log_probs = log_probs_of(2, 5)
    prefixes = CtcPrefixes(log_probs, steps, beam=1)
    state = prefixes.begin()
    every = torch.arange(TOKENS).expand(2, -1)
    for place in range(len(sentence) + 1):
        scores, longer = prefixes.scores(state, every)
        for row, length in enumerate(steps.tolist()):
            own = log_probs[row, :length]
            for token in range(1, TOKENS):
                expected = begins(own, (*sentence[:place], token))
                assert math.exp(float(scores[row, token])) == pytest.approx(expected, rel=1e-6, abs=1e-12)
            assert math.exp(float(scores[row, 0])) == pytest.approx(whole(own, sentence[:place]), rel=1e-6, abs=1e-12)
        if place < len(sentence):
            state = CtcPrefixes.keep(longer, torch.tensor([sentence[place], TOKENS + sentence[place]]))


class Table:
    """A decoder whose log probabilities depend on the utterance and the last token."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits  # [batch, tokens, tokens]

    def begin(self, encoded: Encoded, beam: int) -> Any:
        return torch.arange(len(encoded.steps)).repeat_interleave(beam)

    def step(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits[state, tokens], state

    def select(self, state: Tensor, rows: Tensor) -> Tensor:
        return state[rows]

    def score(self, row: int, sentence: tuple[int, ...]) -> float:
        log_probs = self.logits.log_softmax(-1)[row]
        total, last = 0.0, 0
        for token in (*sentence, 0):
            if token == 0 and not log_probs[last, 0] > 1.5 * log_probs[last, 1:].max():
                return -math.inf
            total, last = total + float(log_probs[last, token]), token
        return total


@pytest.mark.parametrize(("ctc_weight", "with_language"), [(0.4, False), (0.4, True), (0.0, True)])
def test_a_wide_beam_finds_the_best_of_all_sentences(ctc_weight: float, with_language: bool) -> None:
    logits = torch.randn(2, TOKENS, TOKENS, generator=torch.Generator().manual_seed(3))
    logits[:, :, 0] += 0.7  # sentences end
    decoder = Table(logits)
    steps = torch.tensor([4, 3])
    ctc = log_probs_of(2, 4, seed=5)
    language = NgramModel.train([[1, 2], [2, 1, 3]], 2, TOKENS) if with_language else None
    search = SearchSettings(kind="beam", beam=60, ctc_weight=ctc_weight, lm_weight=0.3, length_bonus=0.2)
    encoded = Encoded(torch.zeros(2, 4, 1), steps)
    found = joint_search(decoder, encoded, ctc if ctc_weight else None, search, language)
    for row, length in enumerate(steps.tolist()):
        best, best_score = (), -math.inf
        for size in range(length + 1):
            for sentence in itertools.product(range(1, TOKENS), repeat=size):
                score = (1.0 - ctc_weight) * decoder.score(row, sentence) + 0.2 * size
                if ctc_weight:
                    score += ctc_weight * math.log(max(whole(ctc[row, :length], sentence), 1e-300))
                if language is not None:
                    score += 0.3 * sum(language.score(sentence[:k], token) for k, token in enumerate(sentence))
                    score += 0.3 * language.end(sentence)
                if score > best_score:
                    best, best_score = sentence, score
        assert tuple(found[row].tokens) == best
        assert found[row].caught == ""


def test_a_batch_is_searched_as_its_utterances_alone() -> None:
    logits = torch.randn(3, TOKENS, TOKENS, generator=torch.Generator().manual_seed(8))
    logits[:, :, 0] += 0.5
    steps, ctc = torch.tensor([9, 4, 6]), log_probs_of(3, 9, seed=2)
    search = SearchSettings(kind="beam", beam=3, ctc_weight=0.3, lm_weight=0.2)
    language = NgramModel.train([[1, 2], [2, 1, 3]], 3, TOKENS)
    together = joint_search(Table(logits), Encoded(torch.zeros(3, 9, 1), steps), ctc, search, language)
    for row, length in enumerate(steps.tolist()):
        alone = Encoded(torch.zeros(1, length, 1), steps[row : row + 1])
        decoder = Table(logits[row : row + 1])
        assert joint_search(decoder, alone, ctc[row : row + 1, :length], search, language) == [together[row]]


def test_a_decoder_that_never_ends_or_repeats_itself_is_caught() -> None:
    logits = torch.full((1, TOKENS, TOKENS), -20.0)
    logits[0, 0, 1] = logits[0, 1, 2] = logits[0, 2, 1] = 0.0  # 1 2 1 2 ... and no end
    encoded = Encoded(torch.zeros(1, 40, 1), torch.tensor([40]))
    (found,) = joint_search(Table(logits), encoded, None, SearchSettings(kind="beam", beam=2), None)
    assert found.caught == "loop"
    (short,) = joint_search(
        Table(logits), Encoded(torch.zeros(1, 6, 1), torch.tensor([6])), None, SearchSettings(kind="beam", beam=2), None
    )
    assert short.caught == "length"


def test_loops() -> None:
    assert not loops([])
    assert not loops([5] * 31)
    assert loops([5] * 32)
    assert not loops([1, 2, 3, 4, 5] * 6), "one word of five letters, six times"
    assert loops([1, 2, 3, 4, 5] * 7)
    assert not loops([*range(1, 13)] * 3)
    assert loops([9, *[*range(1, 9)] * 4, 8])
    assert not loops([*range(100)])
    assert caught([1, 2], ended=True) == ""
    assert caught([1, 2], ended=False) == "length"
    assert caught([1] * 50, ended=True) == "loop"
