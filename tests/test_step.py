"""The program that times training steps: what it says, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from benchmarks import step


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "RECIPES", dict.fromkeys(("full", "demo"), "demo_aed.yaml"))
    monkeypatch.setattr(step, "SHAPES", {"cpu": dict.fromkeys(("full", "demo"), (2, 0.5, 3))})


@pytest.mark.usefixtures("_small")
def test_it_tells_what_is_read_by_machine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["step", "--quick", "--json", "-"])
    step.main()
    found = json.loads(capsys.readouterr().out)
    for name in ("full_cpu_vs_speechbrain", "demo_cpu_vs_speechbrain", "full_cpu_share_of_limit"):
        assert found[name] > 0
    assert {found[name] for name in step.CUDA_KEYS} == {step.NOT_MEASURED}
    times = found["demo"]["seconds"]
    assert len(times["ours"]) == len(times["speechbrain"]) == 21
    assert max(found["differences"]["demo"].values()) <= step.TOLERANCE


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells of machines without a GPU")
def test_without_a_gpu_the_figures_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "step.json"
    out.write_text('{"demo_cpu_vs_speechbrain": 1.5}')
    monkeypatch.setattr("sys.argv", ["step", "--device", "cuda", "--json", str(out)])
    with pytest.raises(SystemExit):
        step.main()
    assert out.read_text() == '{"demo_cpu_vs_speechbrain": 1.5}'


@pytest.mark.usefixtures("_small")
def test_the_other_devices_figures_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "step.json"
    out.write_text('{"full_cuda_bf16_vs_speechbrain": 3.5, "demo_cpu_vs_speechbrain": 1.0}')
    monkeypatch.setattr(step, "on_cpu", lambda _: {"demo_cpu_vs_speechbrain": 1.6})
    monkeypatch.setattr("sys.argv", ["step", "--only", "times", "--json", str(out)])
    step.main()
    found = json.loads(out.read_text())
    assert found["full_cuda_bf16_vs_speechbrain"] == 3.5
    assert found["demo_cpu_vs_speechbrain"] == 1.6
    assert found["cuda_mfu"] == step.NOT_MEASURED
