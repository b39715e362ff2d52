from __future__ import annotations

import math

import pytest
import torch

from speechmill.cli import main
from speechmill.errors import SpeechmillError
from speechmill.settings import CtcSettings, FeatureSettings, Recipe, SelectSettings, TokenizerSettings, TrainSettings
from speechmill.train.fit import available, fit, largest


def recipe() -> Recipe:
    return Recipe(
        model=CtcSettings(size=16, layers=1, channels=4),
        features=FeatureSettings(n_mels=16),
        tokenizer=TokenizerSettings(size=20),
        select=SelectSettings(min_seconds=2, max_seconds=12),
        train=TrainSettings(device="cpu", threads=1),
    )


def test_memory_that_grows_evenly_is_filled_to_the_budget() -> None:
    tried: list[int] = []

    def measure(seconds: float, utterances: int) -> float:
        tried.append(utterances)
        return 1000.0 + 7.0 * seconds * utterances

    found = largest(measure, 5.0, 8000.0, verify=False)
    assert found.utterances == 200  # 1000 + 35 * 200 = 8000
    assert found.limit_seconds == 1000.0
    assert found.bytes_per_second == pytest.approx(7.0)
    assert tried == [4, 12]


def test_what_does_not_run_is_made_smaller() -> None:
    def measure(seconds: float, utterances: int) -> float:
        return math.inf if utterances > 150 else 1000.0 + 7.0 * seconds * utterances

    found = largest(measure, 5.0, 8000.0, verify=True)
    assert 130 < found.utterances <= 150


def test_nothing_fits() -> None:
    assert largest(lambda _seconds, _utterances: math.inf, 60.0, 8000.0, verify=True).limit_seconds == 0.0


def test_on_this_machine() -> None:
    found, budget = fit(recipe(), margin=0.5)
    assert [one.seconds for one in found] == [2.0, 5.0, 10.0, 12.0]
    assert budget >= available(torch.device("cpu")) * 0.5
    for one in found:
        assert one.limit_seconds > 100
        assert one.bytes_per_second > 16000 * 2  # its samples alone


def test_a_margin_is_a_share() -> None:
    with pytest.raises(SpeechmillError, match="a share from 0"):
        fit(recipe(), margin=1.0)


def test_the_verb_prints_a_row_for_each_length(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [
        "model.kind=ctc", "model.size=16", "model.layers=1", "model.channels=4", "tokenizer.size=20",
        "select.min_seconds=2", "select.max_seconds=5", "train.device=cpu",
    ]  # fmt: skip
    assert main(["fit-batch", "/dev/null", "--margin", "0.5", *overrides]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[:1] == " "] == ["2", "5"]
