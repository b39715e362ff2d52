"""A run as an aligner hears with it: its CTC head, its own search and its language model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from conftest import RATE, TONES
from speechmill.align import ctc
from speechmill.align.ctc import Ctc, RunEmitter
from speechmill.errors import SpeechmillError
from speechmill.models.ngram import NgramModel
from speechmill.models.search import ctc_beam
from speechmill.settings import SearchSettings
from speechmill.train.language import LANGUAGE_MODEL_NAME
from trained import spoken, trained_run

WORDS = list(TONES)[:3]
SEARCH = SearchSettings(kind="beam", beam=4, lm_order=3, lm_weight=0.5, length_bonus=1.0)


@pytest.fixture
def run(
    shards: Path, tokenizer_path: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:  # fmt: skip
    """A copy of the tests' run that searches with a beam and an n-gram, at the tests' rate."""
    monkeypatch.setattr(ctc, "RATE", RATE)
    folder = tmp_path / "run"
    shutil.copytree(trained_run(shards, tokenizer_path, tmp_path_factory.mktemp("trained") / "run"), folder)
    searching(folder, SEARCH)
    language([[3, 4, 5]], folder)
    return folder


def searching(run: Path, search: SearchSettings) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    config["search"] = search.model_dump(mode="json")
    (run / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def language(texts: list[list[int]], run: Path) -> NgramModel:
    model = NgramModel.train(texts, SEARCH.lm_order, 20)
    model.save(run / LANGUAGE_MODEL_NAME)
    return model


def test_it_hears_by_the_run_s_own_search(run: Path) -> None:
    emitter = RunEmitter(run)
    samples = np.round(spoken(WORDS) * 32767).astype(np.int16)
    log_probs, step = emitter.log_probs(samples)
    assert log_probs.shape[1] == emitter.tokens
    assert step * len(log_probs) == pytest.approx(len(samples) / RATE)
    assert log_probs.exp().sum(1).numpy() == pytest.approx(np.ones(len(log_probs)), abs=1e-4)
    model = NgramModel.load(run / LANGUAGE_MODEL_NAME)
    assert emitter.heard(log_probs) == ctc_beam(log_probs.numpy(), SEARCH, model)
    heard = Ctc(emitter).hear(samples)
    assert heard
    assert emitter.decode(emitter.heard(log_probs)).split() == [one.word for one in heard]
    assert all(0 <= one.start < one.end <= len(samples) / RATE for one in heard)
    assert [one.start for one in heard] == sorted(one.start for one in heard)


def test_its_version_is_of_the_search_and_of_the_language_model_too(run: Path) -> None:
    first = RunEmitter(run).version
    assert RunEmitter(run).version == first
    language([[3, 4, 6]], run)
    second = RunEmitter(run).version
    searching(run, SEARCH.model_copy(update={"lm_weight": 0.6}))
    assert len({first, second, RunEmitter(run).version}) == 3


def test_a_run_at_another_rate_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctc, "RATE", 16000)
    with pytest.raises(SpeechmillError, match=r"hears 8000 Hz and align works at 16000 Hz"):
        RunEmitter(run)
