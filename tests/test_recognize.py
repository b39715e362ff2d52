from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import RATE, TONES
from speechmill.evaluate import open_recognizer
from speechmill.recognize import Recognizing, _groups
from speechmill.train.runlog import read_config
from trained import spoken, trained_run


@pytest.fixture(scope="module")
def recognizing(shards: Path, tokenizer_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Recognizing:
    run = trained_run(shards, tokenizer_path, tmp_path_factory.mktemp("trained") / "run")
    return open_recognizer(run, read_config(run), "best")


def test_groups_are_of_like_length_and_within_the_limit() -> None:
    samples = [5, 100, 7, 30, 6, 250, 30]
    groups = _groups(samples, 60)
    assert sorted(place for group in groups for place in group) == list(range(len(samples)))
    for group in groups:
        assert len(group) == 1 or max(samples[place] for place in group) * len(group) <= 60
    assert groups == [[0, 4, 2], [3, 6], [1], [5]]


def test_hypotheses_are_in_the_order_of_the_utterances(recognizing: Recognizing) -> None:
    said = [
        ["cash"] * 3,
        ["growth", "margin"],
        ["share", "cost", "sales", "debt"],
        ["price", "price"],
        ["debt", "cash"],
    ]
    audio = [np.rint(spoken(words) * 32767).astype(np.int16) for words in said]
    found = recognizing.all(audio.__getitem__, [len(samples) for samples in audio], "")
    assert found == [recognizing.batch([samples])[0] for samples in audio]
    words = [text.lower().rstrip(".").split() for text in found]
    wrong = sum(a != b for heard, true in zip(words, said, strict=True) for a, b in zip(heard, true, strict=False))
    assert wrong <= 1, found
    assert set(words[1]) <= set(TONES)


def test_the_model_stays_in_its_mode(recognizing: Recognizing) -> None:
    silence = np.zeros(RATE, dtype=np.int16)
    for training in (True, False):
        recognizing.model.train(training)
        recognizing.all(lambda _: silence, [RATE], "")
        assert recognizing.model.training is training


def test_nothing_to_recognize(recognizing: Recognizing) -> None:
    assert recognizing.all(lambda _: np.zeros(1, dtype=np.int16), [], "") == []


def test_one_sample_is_enough(recognizing: Recognizing) -> None:
    assert len(recognizing.batch([np.zeros(1, dtype=np.int16)])) == 1
