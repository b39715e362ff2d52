"""benchmarks/erratic.py: what it simulates is what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from benchmarks import erratic
from benchmarks.erratic import Processes, Variant, batch

from speechmill.strategies.single import Single
from speechmill.train.optim import build_optimizer

CPU = torch.device("cpu")


def test_one_process_is_single() -> None:
    simulated, other = (Processes(Variant("one", 1), 0, 6, 1e-2) for _ in range(2))
    single = Single(other.model, build_optimizer(other.model.parameters(), other.recipe.optim), other.recipe, CPU)
    for number in range(6):
        simulated.update(number)
        single.update([batch(number, 4)], number)
    for ours, theirs in zip(simulated.model.parameters(), single.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_what_three_processes_write_was_read_two_updates_before() -> None:
    processes = Processes(Variant("three"), 0, 6, 1e-2)
    before = [parameter.detach().clone() for parameter in processes.model.parameters()]
    for number in range(3):
        assert all(torch.equal(a, b) for a, b in zip(processes.model.parameters(), before, strict=True))
        processes.update(number)
    assert not all(torch.equal(a, b) for a, b in zip(processes.model.parameters(), before, strict=True))
    # The first has written; the other two have computed on what stood before that.
    assert len(processes.pending) == 2
    for step in processes.pending:
        assert all(torch.equal(a, b) for a, b in zip(step.model.parameters(), before, strict=True))


def test_who_is_alone_is_single_and_hands_its_moments_on() -> None:
    alone, other = Processes(Variant("alone", alone=4), 0, 6, 1e-2), Processes(Variant("one", 1), 0, 6, 1e-2)
    for number in range(4):
        alone.update(number)
        other.update(number)
    for ours, theirs in zip(alone.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    alone.update(4)
    first, *rest = alone.shared.states()
    for state in rest:
        assert all(torch.equal(state[key]["exp_avg"], value["exp_avg"]) for key, value in first.items())
    assert len(alone.pending) == 1


def test_running_averages_and_normalisers_are_those_of_the_variant() -> None:
    ours = Processes(Variant("ours"), 0, 6, 1e-2)
    theirs = Processes(Variant("theirs", running=True, normalisers=True), 0, 6, 1e-2)
    before = [tensor.clone() for tensor in erratic._running(ours.model)]
    for processes in (ours, theirs):
        for number in range(3):
            processes.update(number)
    assert all(torch.equal(a, b) for a, b in zip(erratic._running(ours.model), before, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(erratic._running(theirs.model), before, strict=True))
    means = [step.model.log_mel.mean for step in theirs.steps]
    assert not torch.equal(means[0], means[1])
    assert all(torch.equal(step.model.log_mel.mean, ours.model.log_mel.mean) for step in ours.steps)
    assert theirs.error([batch(0, 4, 99)]) >= 0


def test_what_the_file_holds_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[tuple[str, int]] = []

    def run(variant: Variant, seed: int, audio: int, rate: float) -> list[float]:
        computed.append((variant.name, seed))
        return [audio * rate, 0.5, 0.25, 0.25]

    monkeypatch.setattr(erratic, "run", run)
    out = tmp_path / "out.json"
    assert erratic.main(["--seeds", "1", "--out", str(out)]) == 0
    assert erratic.main(["--seeds", "2", "--out", str(out)]) == 0
    assert len(computed) == len(set(computed)) == 2 * len(erratic.VARIANTS)
    found = json.loads(out.read_text())["variants"]
    assert [len(each["curves"]) for each in found] == [2] * len(erratic.VARIANTS)
    assert erratic.main(["--seeds", "1", "--rate", "0.1", "--out", str(out)]) == 0
    assert len(computed) == 3 * len(erratic.VARIANTS), "of other settings"
