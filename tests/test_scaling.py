"""benchmarks/scaling.py: real commands on a CPU, those that are meant for a GPU too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmarks import scaling as program

from speechmill.config import load_recipe
from speechmill.errors import SpeechmillError


def test_contenders_train_and_their_rates_are_compared(tmp_path: Path) -> None:
    contenders = program.ON_GPU | {"local_sgd2": program.ON_CPU["local_sgd2"]}
    found = program.scaling(tmp_path, "cpu", 1, 16, contenders, 5)
    assert set(contenders) - {"single"} <= found.keys()
    for name in ("ddp1", "hogwild3", "local_sgd2"):
        ((one,), (alone,)) = found["rounds"][name], found["rounds"]["single"]
        assert one["rate"] > 0
        assert found[name] == pytest.approx(one["rate"] / alone["rate"])
        assert 0 <= one["communication"] <= 1
    assert found["rounds"]["hogwild3"][0]["staleness"] >= 0
    assert found["device"] == "cpu"


def test_quick_prints_the_ratios_that_are_read_by_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = {"single": [70.0, 100.0, 90.0, 110.0], "ddp2": [190.0, 180.0, 198.0], "hogwild2": [195.0, 180.0, 220.0],
             "local_sgd2": [200.0, 171.0, 220.0], "accumulation": [95.0, 100.0, 99.0]}  # fmt: skip

    def measure(folder: Path, name: str, settings: Sequence[str], common: Sequence[str]) -> dict[str, float]:
        del folder
        load_recipe(Path("hparams/demo.yaml"), [*common, *settings])  # what trainings would be given is a recipe
        return {"rate": rates[name].pop(0)}

    monkeypatch.chdir(Path(program.__file__).parents[1])
    monkeypatch.setattr(program, "make_data", lambda folder, minutes: [f"data.shards={folder}/{minutes}"])
    monkeypatch.setattr(program, "measure", measure)
    assert program.main(["--quick", "--json", "-"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["ddp2"], found["hogwild2"], found["local_sgd2"]) == (1.9, 2.0, 2.0), (
        "medians of three rounds, behind a run that does not count"
    )
    assert found["quartiles"]["hogwild2"] == [1.975, 2.0]
    assert (found["accumulation"], found["ddp2_vs_accumulation"]) == (0.95, 2.0), "1.8, 2 and 2: round by round"
    lines = program.summary(found).splitlines()
    assert lines[2] == "hogwild2 2.000 (1.975 to 2.000)"
    assert lines[-1] == "ddp2_vs_accumulation 2.000 (1.900 to 2.000)"


def test_what_a_gpu_would_be_given_is_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def measure(folder: Path, name: str, settings: Sequence[str], common: Sequence[str]) -> dict[str, float]:
        del folder
        given[name] = load_recipe(Path("hparams/demo.yaml"), [*common, *settings]).train
        return {"rate": 1.0}

    monkeypatch.chdir(Path(program.__file__).parents[1])
    monkeypatch.setattr(program, "make_data", lambda *_: [])
    monkeypatch.setattr(program, "measure", measure)
    monkeypatch.setattr(program.torch.cuda, "get_device_name", lambda: "a GPU")
    found = program.scaling(Path(), "cuda", 1, 40, program.contenders_of("cuda", []), 120)
    assert (found["ddp1"], found["hogwild3"], found["device"]) == (1.0, 1.0, "a GPU")
    assert {name: (train.strategy, train.processes, train.device) for name, train in given.items()} == {
        "single": ("single", 1, "cuda"), "ddp1": ("ddp", 1, "cuda"), "hogwild3": ("hogwild", 3, "cuda")
    }  # fmt: skip


def test_a_contender_that_there_is_not() -> None:
    with pytest.raises(SpeechmillError, match=r"no ddp9 on cpu; there are single, ddp2"):
        program.contenders_of("cpu", ["ddp9"])
