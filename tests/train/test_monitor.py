"""What is told of the machine while training: processes everywhere, GPUs by a stand-in for NVML."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from speechmill.config import override_recipe
from speechmill.group import ALONE
from speechmill.metrics import read_metrics
from speechmill.train.loop import log_machines, train
from speechmill.train.monitor import Gpus, Monitor, NoMonitor, Processes, line, monitor_of
from speechmill.train.runlog import RunLog
from trained import tiny_recipe


def test_cores_and_memory_are_of_a_process_and_what_it_started() -> None:
    alone = Processes(os.getpid())()
    program = "import time\nheld = bytearray(300 << 20)\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        probe = Processes(os.getpid())
        time.sleep(1.0)
        both = probe()
        child.kill()
    assert both["resident_gib"] - alone["resident_gib"] > 0.2
    assert both["cores"] > 0.02, "the child never rests, however busy the machine is"
    assert 0 < both["machine_memory"] < 1


def test_a_root_that_has_ended_has_no_processes() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert Processes(child.pid)()["resident_gib"] == 0


class Refused(Exception):
    """NVML's error."""


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    def no_power(handle: str) -> int:
        if handle == "GPU-one":
            raise Refused("Not Supported")
        return 412_000

    module = SimpleNamespace(
        NVMLError=Refused,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetUtilizationRates=lambda _: SimpleNamespace(gpu=97),
        nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(used=31 << 30),
        nvmlDeviceGetPowerUsage=no_power,
        nvmlDeviceGetTemperature=lambda _, kind: 61 + kind,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=("zero", "one")[device])
    )
    return module


def test_gpus_are_asked_by_their_uuid_and_may_keep_something_to_themselves(nvml: SimpleNamespace) -> None:
    del nvml
    found = Gpus([0, 1])()
    assert found == {
        "gpu0_busy": 0.97, "gpu0_memory_gib": 31.0, "gpu0_watts": 412.0, "gpu0_celsius": 61.0,
        "gpu1_busy": 0.97, "gpu1_memory_gib": 31.0, "gpu1_celsius": 61.0,
    }  # fmt: skip
    shown = line({"cores": 1.94, "resident_gib": 3.21} | found)
    assert shown == "1.9 cores, 3.2 GiB; GPU 0: 97% busy, 31.0 GiB, 412 W, 61 °C; GPU 1: 97% busy, 31.0 GiB, 61 °C"


def test_a_gpu_that_nvml_does_not_know_is_said_once(
    nvml: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(uuid: str) -> None:
        raise Refused(f"{uuid} not found")

    monkeypatch.setattr(nvml, "nvmlDeviceGetHandleByUUID", unknown)
    assert Gpus([0])() == {}
    assert capsys.readouterr().err == "speechmill: GPUs are not watched: NVML says GPU-zero not found.\n"


def test_without_the_library_it_is_said_how_to_have_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Gpus([0])() == {}
    assert "pip install 'speechmill[gpu]'" in capsys.readouterr().err


def test_the_library_has_what_is_asked_of_it() -> None:
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    names = ("Init", "DeviceGetHandleByUUID", "DeviceGetUtilizationRates", "DeviceGetMemoryInfo", "DeviceGetPowerUsage")
    assert all(callable(getattr(pynvml, f"nvml{name}")) for name in (*names, "DeviceGetTemperature"))
    assert issubclass(pynvml.NVMLError, Exception)
    assert pynvml.NVML_TEMPERATURE_GPU == 0


def test_one_process_of_a_machine_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monitor = monitor_of(1000.0, cpu, ALONE)
    assert isinstance(monitor, Monitor)
    monitor.close()
    assert type(monitor_of(0.0, cpu, ALONE)) is NoMonitor
    monkeypatch.setattr(ALONE, "local_rank", 1, raising=False)
    assert type(monitor_of(1000.0, cpu, ALONE)) is NoMonitor


def test_what_the_machines_of_all_ranks_tell_is_logged_by_one(tmp_path: Path) -> None:
    here, there = Monitor(1000.0, [lambda: {"cores": 1.0}]), Monitor(1000.0, [lambda: {"cores": 2.0}])
    there._host = "another"
    for monitor in (here, there):
        monitor.look()
        monitor.close()
    group: Any = SimpleNamespace(gather=lambda own: [own, there.take()])
    work: Any = SimpleNamespace(
        group=group, state=SimpleNamespace(update=7), recipe=SimpleNamespace(train=SimpleNamespace(monitor_seconds=1))
    )
    log = RunLog(tmp_path, 0)
    log_machines(work, here, log)
    log_machines(work, here, log)
    log.close()
    records = read_metrics(tmp_path)
    assert [(r["event"], r["update"], r["host"], r["cores"]) for r in records] == [
        ("device", 7, socket.gethostname(), 1.0), ("device", 7, "another", 2.0)
    ]  # fmt: skip


@pytest.mark.parametrize("how", [[], ["train.strategy=ddp", "train.processes=2"]])
def test_a_run_tells_of_its_machine(
    how: list[str], shards: Path, tokenizer_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = override_recipe(tiny_recipe(shards, tokenizer_path), ["train.monitor_seconds=0.05", *how])
    train(recipe, tmp_path / "run")
    records = [record for record in read_metrics(tmp_path / "run") if record["event"] == "device"]
    assert records
    assert {record["host"] for record in records} == {socket.gethostname()}
    assert max(record["cores"] for record in records) > 0
    printed = [text for text in capfd.readouterr().out.splitlines() if text.startswith(f"{socket.gethostname()}: ")]
    assert 0 <= len(printed) - len(records) <= 1, "one may be seen after the last line of the log"
    events = EventAccumulator(str(tmp_path / "run" / "events"))
    events.Reload()
    scalars = events.Scalars(f"device/{socket.gethostname()}/cores")
    assert [scalar.value for scalar in scalars] == pytest.approx([record["cores"] for record in records])
