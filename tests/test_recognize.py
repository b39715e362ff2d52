from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import RATE, TONES
from speechmill.evaluate import open_recognizer
from speechmill.group import Group
from speechmill.hypothesis import Hypothesis
from speechmill.loader import Batch, padded
from speechmill.losses import LossSum
from speechmill.models.base import Encoded, Found
from speechmill.progress import Progress
from speechmill.recognize import Audio, GivenUp, Recognizing, _groups
from speechmill.strategies.step import batch_loss
from speechmill.train.runlog import read_config
from trained import spoken, tiny_recipe, trained_run


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
    found = recognizing.all(audio.__getitem__, [len(samples) for samples in audio])
    assert found == [recognizing.batch([samples])[0] for samples in audio]
    words = [hypothesis.text.lower().rstrip(".").split() for hypothesis in found]
    wrong = sum(a != b for heard, true in zip(words, said, strict=True) for a, b in zip(heard, true, strict=False))
    assert wrong <= 1, found
    assert set(words[1]) <= set(TONES)


def test_a_text_that_went_astray_is_replaced_by_ctcs(recognizing: Recognizing, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [["cash", "growth"], ["debt"]]
    audio = [np.rint(spoken(words) * 32767).astype(np.int16) for words in said]
    heard = [one.text for one in recognizing.all(audio.__getitem__, [len(samples) for samples in audio])]
    token = recognizing.tokenizer.encode("sales")[0]

    def search(encoded: Encoded, *_: object) -> list[Found]:
        """One repeats itself, the other says something else and is believed."""
        alike = [Found([token] * 40, "loop"), Found([token], "")]
        return alike[: len(encoded.steps)]

    monkeypatch.setattr(recognizing.model, "search", search)
    for times in (True, False):
        mended = replace(recognizing, times=times).batch(audio)
        assert [one.caught for one in mended] == ["loop", ""]
        assert mended[0].text == heard[0]
        assert mended[1].text == recognizing.tokenizer.decode([token]) != heard[1]
    as_is = replace(recognizing, mend=False).batch(audio)
    assert as_is[0].text == recognizing.tokenizer.decode([token] * 40)
    assert as_is[0].caught == "loop"


def test_the_model_stays_in_its_mode(recognizing: Recognizing) -> None:
    silence = np.zeros(RATE, dtype=np.int16)
    for training in (True, False):
        recognizing.model.train(training)
        recognizing.all(lambda _: silence, [RATE])
        assert recognizing.model.training is training


def test_progress_counts_each_batch_and_a_stop_gives_up(
    recognizing: Recognizing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechmill.recognize._PADDED_SECONDS", 2.0)
    silence, done = np.zeros(RATE, dtype=np.int16), []
    with Progress("", 6) as progress:
        recognizing.all(lambda _: silence, [RATE] * 6, progress, lambda: bool(done.append(progress.done)))
    assert done == [0, 2, 4]
    assert progress.done == 6
    recognizing.model.train()
    with Progress("", 6) as progress, pytest.raises(GivenUp):
        recognizing.all(lambda _: silence, [RATE] * 6, progress, lambda: progress.done == 4)
    assert progress.done == 4
    assert recognizing.model.training
    recognizing.model.eval()


def test_each_rank_hears_only_its_own_and_all_hear_everything(
    recognizing: Recognizing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechmill.recognize._PADDED_SECONDS", 2.0)
    said = [["cash"], ["growth", "margin"], ["share"], ["cost", "sales"], ["price"], ["debt", "cash", "debt"]]
    audio = [np.rint(spoken(words) * 32767).astype(np.int16) for words in said]
    samples = [len(one) for one in audio]
    whole = recognizing.all(audio.__getitem__, samples)
    heard: list[int] = []

    def hear(place: int) -> Audio:
        heard.append(place)
        return audio[place]

    for first in (0, 1):
        found: dict[int, Hypothesis] = {}
        for rank in (0, 1):
            group = Group()
            group.rank, group.size = rank, 2
            heard.clear()
            own = recognizing.own(hear, samples, group, first=first)
            assert own is not None
            assert sorted(own) == sorted(heard) != []
            assert not own.keys() & found.keys()
            found |= own
        assert [found[place] for place in range(len(said))] == whole


def test_nothing_to_recognize(recognizing: Recognizing) -> None:
    assert recognizing.all(lambda _: np.zeros(1, dtype=np.int16), []) == []


def test_one_sample_is_enough(recognizing: Recognizing) -> None:
    assert len(recognizing.batch([np.zeros(1, dtype=np.int16)])) == 1


def test_training_and_recognition_see_the_same_features(
    recognizing: Recognizing, shards: Path, tokenizer_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once recognition normalised twice: the loss fell and every word was wrong."""
    seen: dict[str, torch.Tensor] = {}

    def loss(features: torch.Tensor, *_: object, **__: object) -> LossSum:
        seen["training"] = features
        return LossSum(torch.zeros(()), 1)

    def encoded(features: torch.Tensor, frames: torch.Tensor) -> Encoded:
        seen["recognition"] = features
        return true(features, frames)

    audio = np.rint(spoken(["cash", "growth"]) * 32767).astype(np.int16)
    monkeypatch.setattr(recognizing.model, "loss", loss)
    true = recognizing.model.encoded
    monkeypatch.setattr(recognizing.model, "encoded", encoded)
    recognizing.batch([audio])
    stacked, lengths = padded([audio], np.int16)
    targets = torch.ones(1, 1, dtype=torch.int64)
    batch = Batch(0, ["x"], stacked, lengths, targets, torch.ones(1, dtype=torch.int64))
    batch_loss(recognizing.model, batch, tiny_recipe(shards, tokenizer_path), with_ctc=True)
    assert torch.equal(seen["training"], seen["recognition"])
    assert 0.2 < float(seen["training"].std()) < 5.0
