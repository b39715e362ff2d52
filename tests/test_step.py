"""The program that times training steps: what it says, and what it leaves alone."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
    for name in ("full_cpu_vs_speechbrain", "demo_cpu_vs_speechbrain", "demo_cpu_vs_speechbrain_same_heap"):
        low, high = found[f"{name}_quartiles"]
        assert low <= found[name] <= high
    assert max(found["differences"]["demo"].values()) <= step.TOLERANCE


def test_each_round_begins_with_another_contender(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    seconds = {"ours": iter([9.0, 1.0, 1.0, 1.0]), "speechbrain": iter([9.0, 2.0, 3.0, 5.0]),
               step.SAME_HEAP: iter([9.0, 2.0, 2.0, 2.0])}  # fmt: skip

    def stepping(label: str) -> float:
        made.append(label)
        return next(seconds[label])

    steps = {label: lambda label=label: stepping(label) for label in seconds}
    monkeypatch.setattr(step, "in_processes", lambda *_: nullcontext(steps))
    found = step.compare("demo", "cpu", 3)
    assert made[::3] == ["ours", "speechbrain", step.SAME_HEAP, "ours"]
    assert made[3:6] == ["speechbrain", step.SAME_HEAP, "ours"]
    assert (found["ratio"], found["ratio_quartiles"]) == (3.0, [2.5, 4.0]), "without the round that warms up"
    assert (found["ratio_same_heap"], found["ratio_same_heap_quartiles"]) == (2.0, [2.0, 2.0])


@pytest.fixture
def _tf32_stays() -> Iterator[None]:
    """As it was, after the test: torch's own flags are no attributes that could be patched."""
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    yield
    for flag, value in zip(flags, before, strict=True):
        flag.allow_tf32 = value


@pytest.mark.usefixtures("_tf32_stays")
@pytest.mark.parametrize(("device", "mfu"), [("NVIDIA H100 80GB HBM3", 0.101), ("NVIDIA H100 PCIe", None)])
def test_a_gpus_share_is_of_its_data_sheet(device: str, mfu: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: dict[str, Any] = {"ratio": 3.0, "ratio_quartiles": [2.9, 3.1], "realtime": 5000.0,
                                "gflop_per_audio_second": 20.0}  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: device)
    monkeypatch.setattr(step, "check", lambda *_: {})
    monkeypatch.setattr(step, "compare", lambda *_: compared)
    monkeypatch.setattr(step, "matmul_peak", lambda *_: 500e12)
    found = step.on_cuda(quick=True)
    assert found.keys() >= set(step.CUDA_KEYS)
    assert (found["cuda_mfu"], found["cuda_share_of_matmul"]) == (mfu, 0.2)
    assert found["full_cuda_bf16_vs_speechbrain_quartiles"] == [2.9, 3.1]


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
