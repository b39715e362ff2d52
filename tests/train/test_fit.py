from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from speechmill.cli import main
from speechmill.config import override_recipe
from speechmill.errors import SpeechmillError
from speechmill.settings import CtcSettings, FeatureSettings, Recipe, SelectSettings, TokenizerSettings, TrainSettings
from speechmill.train.fit import Step, allowed, available, fit, largest, own_groups, tokens_per_second


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


def test_fewer_than_the_first_trial_may_fit() -> None:
    found = largest(lambda _seconds, utterances: math.inf if utterances > 3 else 10.0, 1.0, 8000.0, verify=True)
    assert 1 <= found.utterances <= 3


def test_what_is_foretold_of_an_attention_model_is_what_a_step_takes() -> None:
    overrides = ["model.kind=crdnn", "model.cnn_channels=[64, 64]", "model.rnn_size=32", "model.dnn_size=32",
                 "model.decoder_size=32", "model.attention_size=64", "tokenizer.size=100", "train.device=cpu",
                 "train.threads=1"]  # fmt: skip
    step = Step(override_recipe(Recipe(), overrides), torch.device("cpu"))
    budget = step.peak(5.0, 24)  # the peak of a process is known to some 40 MB, an utterance takes 54
    found = largest(step.peak, 5.0, budget, verify=False)
    assert 0.65 * 24 < found.utterances < 1.35 * 24


def test_tokens_by_the_length_of_the_pieces() -> None:
    def per_second(**settings: Any) -> float:
        return tokens_per_second(Recipe(tokenizer=TokenizerSettings(**settings)))

    assert per_second(kind="char", size=40) == 15.0
    assert 7.0 < per_second(kind="unigram", size=128) < 9.0
    assert 4.0 < per_second(kind="bpe", size=5000) < 5.0


def test_the_tightest_control_group_counts(tmp_path: Path) -> None:
    listed, root = tmp_path / "cgroup", tmp_path / "fs"
    job = root / "slurm" / "job1"
    job.mkdir(parents=True)
    listed.write_text("0::/slurm/job1\n1:cpu:/other\n")
    for folder, most, now in ((job, "max", "50"), (job.parent, "1000", "400"), (root, "9000", "100")):
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text(f"{now}\n")
        (folder / "memory.stat").write_text("anon 5\ninactive_file 30\n")
    assert allowed(own_groups(listed, root)) == 630.0, "what the cache of files has is given back"
    old = root / "memory" / "slurm"
    old.mkdir(parents=True)
    listed.write_text("4:memory:/slurm\n")
    for name, value in (("limit_in_bytes", 500), ("usage_in_bytes", 450), ("stat", "total_inactive_file 20")):
        (old / f"memory.{name}").write_text(f"{value}\n")
    assert allowed(own_groups(listed, root)) == 70.0
    assert allowed(own_groups(tmp_path / "none", root)) == math.inf


def test_processes_on_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechmill.train.fit.available", lambda _: 64e9)
    monkeypatch.setattr("speechmill.train.fit.largest", lambda _measure, seconds, budget, _verify: (seconds, budget))
    monkeypatch.setattr(Step, "_standing", lambda _: 1e9)
    several = recipe().model_copy(update={"train": TrainSettings(device="cpu", strategy="ddp", processes=4)})
    assert [fit(one, margin=0.0)[1] for one in (recipe(), several)] == [65e9, 65e9 / 4]


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
