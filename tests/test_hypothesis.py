"""Word times and confidences: against known tones, and on outputs made by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import GAP_SECONDS, TONES, WORD_SECONDS
from speechmill.evaluate import open_recognizer
from speechmill.hypothesis import _is_said, words_of
from speechmill.recognize import Recognizing
from speechmill.tokenizer import Tokenizer
from speechmill.train.runlog import read_config
from trained import spoken, trained_run


@pytest.fixture(scope="module")
def recognizing(shards: Path, tokenizer_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Recognizing:
    run = trained_run(shards, tokenizer_path, tmp_path_factory.mktemp("trained") / "run")
    return open_recognizer(run, read_config(run), "best")


def test_words_lie_where_they_were_said(recognizing: Recognizing) -> None:
    names = list(TONES)
    said = [[names[(start + 3 * k) % len(names)] for k in range(4)] for start in range(8)]
    audio = [np.rint(spoken(words) * 32767).astype(np.int16) for words in said]
    errors, sure = [], []
    for words, hypothesis in zip(said, recognizing.all(audio.__getitem__, [len(a) for a in audio]), strict=True):
        assert " ".join(word.text for word in hypothesis.words) == hypothesis.text
        heard = [word.text.lower().rstrip(".") for word in hypothesis.words]
        if heard != words:
            continue
        for place, word in enumerate(hypothesis.words):
            start = GAP_SECONDS + place * (WORD_SECONDS + GAP_SECONDS)
            errors += [abs(word.start - start), abs(word.end - (start + WORD_SECONDS))]
            sure.append(word.confidence)
    assert len(errors) >= 40, "too few utterances were heard right"
    assert float(np.median(errors)) <= 0.04
    assert all(0.0 < confidence <= 1.0 for confidence in sure)


def test_times_and_confidence_by_hand(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("cash debt")
    probs = torch.full((4 * len(tokens), len(tokenizer)), 1e-4)
    probs[:, 0] = 0.9  # blank
    for place, token in enumerate(tokens):
        probs[4 * place + 1, token], probs[4 * place + 1, 0] = 0.5, 0.1
    log_probs = (probs / probs.sum(-1, keepdim=True)).log()
    first, second = words_of(tokens, log_probs, tokenizer, 0.1, -0.05)
    begins = next(place for place, token in enumerate(tokens) if place and tokenizer.begins_word(token))
    assert (first.text, second.text) == ("cash", "debt")
    assert not tokenizer.letters(tokens[begins]), "its mark is a token of its own"
    assert second.start == pytest.approx((4 * (begins + 1) + 1 - 1) * 0.1 - 0.05)
    assert second.end == pytest.approx((4 * (len(tokens) - 1) + 2) * 0.1 - 0.05)
    spoken_tokens = [place for place in range(begins, len(tokens)) if tokenizer.letters(tokens[place])]
    sure = [float(log_probs[4 * place + 1, tokens[place]]) for place in spoken_tokens]
    assert second.confidence == pytest.approx(math.exp(sum(sure) / len(sure)), abs=1e-4)


def test_a_comma_is_no_part_of_what_was_said(tokenizer: Tokenizer) -> None:
    comma = next(token for token in range(1, len(tokenizer)) if tokenizer.letters(token) == ".")
    tokens = [*tokenizer.encode("cash"), comma]
    probs = torch.full((10 * len(tokens), len(tokenizer)), 1e-4)
    probs[:, 0] = 0.9
    for place, token in enumerate(tokens):
        at = 10 * len(tokens) - 1 if token == comma else place  # far behind the word, and unlikely
        probs[at, token], probs[at, 0] = (0.01 if token == comma else 0.5), 0.1
    log_probs = (probs / probs.sum(-1, keepdim=True)).log()
    (word,) = words_of(tokens, log_probs, tokenizer, 0.1, 0.0)
    (without,) = words_of(tokens[:-1], log_probs, tokenizer, 0.1, 0.0)
    assert word.text == "cash."
    assert (word.start, word.end, word.confidence) == (without.start, without.end, without.confidence)


@pytest.mark.parametrize(
    ("characters", "said"), [("a7é%$+&#@", True), (",.'-?!(", False)],
)  # fmt: skip
def test_which_characters_are_said(characters: str, said: bool) -> None:
    assert [_is_said(one) for one in characters] == [said] * len(characters)


def test_what_does_not_fit_is_spread_over_the_audio_and_not_believed(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("cash debt")
    flat = torch.zeros(len(tokens) - 1, len(tokenizer)).log_softmax(-1)
    first, second = words_of(tokens, flat, tokenizer, 0.04, 0.0)
    assert (first.text, second.text) == ("cash", "debt")
    assert 0.0 == first.start < first.end == second.start < second.end == pytest.approx(0.04 * len(flat), abs=1e-3)
    assert (first.confidence, second.confidence) == (0.0, 0.0)
    assert words_of([], flat, tokenizer, 0.04, 0.0) == ()
