"""The program that times training steps: what it says, and what it leaves alone."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

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
    assert {len(seconds) for seconds in times.values()} == {21}
    assert set(times) == {"ours", "speechbrain", step.SAME_HEAP}
    assert found["demo_cpu_vs_speechbrain_same_heap"] == found["demo"]["ratio_same_heap"] > 0
    assert max(found["differences"]["demo"].values()) <= step.TOLERANCE


@pytest.mark.parametrize(("side", "keeps"), [("ours", 1), ("speechbrain", 0), (step.SAME_HEAP, 1)])
def test_each_side_has_its_own_heap(
    side: str, keeps: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[str] = []
    steps = SimpleNamespace(our_step=lambda: called.append("ours"), their_step=lambda: called.append("theirs"))
    monkeypatch.setattr(step, "keep_freed", lambda: called.append("kept"))
    monkeypatch.setattr(step, "Sides", lambda *_: steps)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n\n"))
    monkeypatch.setattr("sys.stdout", sys.stdout)  # is put back after it
    step._answer("demo_aed.yaml", ["2", "0.5", "3"], "float32", side)
    assert called == ["kept"] * keeps + ["ours" if side == "ours" else "theirs"] * 2
    assert len(capsys.readouterr().out.split()) == 2


def test_a_process_that_ends_is_told_in_one_line() -> None:
    ends = [sys.executable, "-c", "raise SystemExit(1)"]
    with subprocess.Popen(ends, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as gone:
        gone.wait()
        with pytest.raises(SystemExit, match="the process of ours has ended with status 1"):
            step._ask("ours", gone)


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
