"""What the machine does while a run trains on it: a line on standard output and a record, every so often.

On each machine of a job one process looks. GPUs are asked by NVML (nvidia-ml-py, the extra `gpu`); what the run's
processes take of cores and memory is told everywhere.
"""

from __future__ import annotations

import datetime
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

from speechmill.group import Group, is_rank

Figures = dict[str, float]
Probe = Callable[[], Figures]

_GIB = float(1 << 30)


class NoMonitor:
    """Of the processes that do not look: another of their machine does, or nobody wants to know."""

    def take(self) -> list[dict[str, Any]]:
        """Nothing."""
        return []

    def close(self) -> None:
        """Nothing."""


class Monitor(NoMonitor, threading.Thread):
    """Looks every `period` seconds until it is closed. What it sees is kept until `take`."""

    def __init__(self, period: float, probes: list[Probe]) -> None:
        threading.Thread.__init__(self, name="monitor", daemon=True)
        self._period, self._probes = period, probes
        self._host = socket.gethostname()
        self._records: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._closed.wait(self._period):
            self.look()

    def look(self) -> None:
        figures = {name: value for probe in self._probes for name, value in probe().items()}
        now = datetime.datetime.now(datetime.UTC)
        with self._lock:
            self._records.append({"host": self._host, "at": now.isoformat(timespec="seconds"), **figures})
        sys.stdout.write(f"{self._host}: {line(figures)}\n")
        sys.stdout.flush()

    def take(self) -> list[dict[str, Any]]:
        """The records since the last call."""
        with self._lock:
            taken, self._records = self._records, []
        return taken

    def close(self) -> None:
        self._closed.set()
        self.join()


def monitor_of(period: float, device: torch.device, group: Group) -> NoMonitor:
    """The monitor of this process, if it is the one that looks for its machine; 0 seconds: none anywhere."""
    if not period or group.local_rank:
        return NoMonitor()
    probes: list[Probe] = [Processes(_root(group))]
    if device.type == "cuda":
        first = device.index or 0
        probes.append(Gpus(list(range(first, first + group.local_size))))
    return Monitor(period, probes)


def _root(group: Group) -> int:
    """The process under which all of the run's on this machine are: this one, or what started it and its fellows."""
    return os.getppid() if is_rank() and group.local_size > 1 else os.getpid()


class Processes:
    """Cores that a process and all below it keep busy since the last call, and their resident memory in GiB."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._before: dict[tuple[int, float], float] = {}
        self._at = time.monotonic()
        self()

    def __call__(self) -> Figures:
        spent: dict[tuple[int, float], float] = {}
        resident = 0
        for process in self._tree():
            try:
                with process.oneshot():
                    used = process.cpu_times()
                    spent[process.pid, process.create_time()] = used.user + used.system
                    resident += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue  # it ended while we looked
        now = time.monotonic()
        busy = sum(seconds - self._before.get(key, 0.0) for key, seconds in spent.items())
        cores = busy / max(1e-9, now - self._at)
        self._before, self._at = spent, now
        memory = psutil.virtual_memory()
        return {
            "cores": cores, "resident_gib": resident / _GIB,
            "machine_memory": (memory.total - memory.available) / memory.total,
        }  # fmt: skip

    def _tree(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self._root)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


class Gpus:
    """What NVML says of GPUs, given by torch's numbers: CUDA_VISIBLE_DEVICES may make these others than NVML's.

    Without nvidia-ml-py, or where NVML fails, one line on standard error says so, and nothing more is told of them.
    """

    def __init__(self, devices: list[int]) -> None:
        self._handles: dict[int, Any] = {}
        try:
            import pynvml
        except ImportError:
            _say("GPUs are not watched: nvidia-ml-py is not installed (pip install 'speechmill[gpu]').")
            return
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._handles = {device: pynvml.nvmlDeviceGetHandleByUUID(_uuid(device)) for device in devices}
        except pynvml.NVMLError as error:
            _say(f"GPUs are not watched: NVML says {error}.")

    def __call__(self) -> Figures:
        found: Figures = {}
        for device, handle in self._handles.items():
            found |= {f"gpu{device}_{name}": value for name, value in self._of(handle).items()}
        return found

    def _of(self, handle: Any) -> Figures:
        nvml = self._nvml
        asked: dict[str, Callable[[], float]] = {
            "busy": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100.0,
            "memory_gib": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used / _GIB,
            "watts": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000.0,
            "celsius": lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
        }
        found = {}
        for name, ask in asked.items():
            try:
                found[name] = ask()
            except nvml.NVMLError:
                continue  # this GPU, or a part of it (MIG), does not tell; the gap in the record does
        return found


def _uuid(device: int) -> str:
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


def _say(what: str) -> None:
    sys.stderr.write(f"speechmill: {what}\n")


def line(figures: Figures) -> str:
    """A record for people, as in `1.9 cores, 3.2 GiB; GPU 0: 97 % busy, 31.2 GiB, 412 W, 61 °C`."""
    shown = {
        "cores": "{:.1f} cores", "resident_gib": "{:.1f} GiB", "machine_memory": "memory of the machine {:.0%} full",
        "busy": "{:.0%} busy", "memory_gib": "{:.1f} GiB", "watts": "{:.0f} W", "celsius": "{:.0f} °C",
    }  # fmt: skip
    parts: dict[str, list[str]] = {}
    for name, value in figures.items():
        device, _, figure = name.partition("_") if name.startswith("gpu") else ("", "", name)
        parts.setdefault(device, []).append(shown[figure].format(value))
    return "; ".join(
        (f"GPU {device.removeprefix('gpu')}: " if device else "") + ", ".join(of) for device, of in parts.items()
    )
