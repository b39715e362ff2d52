"""What a run writes down: config, environment, metrics.jsonl and TensorBoard events."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any, TextIO

import torch
import yaml

import speechmill
from speechmill.artefact import disk_errors, read_text, write_json, write_text
from speechmill.config import recipe_from_plain
from speechmill.errors import SpeechmillError
from speechmill.launch import command
from speechmill.metrics import read_metrics
from speechmill.settings import Recipe, recipe_text

# What a resumed run may change without becoming another experiment.
_FREE = {
    "train": {"updates", "validate_every", "validate_utterances", "checkpoint_every", "keep_last", "keep_best",
              "log_every", "max_nonfinite", "max_damaged", "loader_workers", "threads", "device", "strategy",
              "processes", "average_every", "outer_lr", "outer_momentum", "hogwild_moments", "hogwild_alone", "timeout",
              "restarts", "batchnorm_batches", "monitor_seconds", "record", "stagnant_epochs", "stagnant_share",
              "stagnant_validations"},
    "loss": {"refit_updates"},
    "augment": {"noise_folder", "reverb_folder"},
    "data": {"shards", "tokenizer", "cache", "cache_gb"},
}  # fmt: skip
# Learning rates that do not depend on how many updates there will be.
_ENDLESS = ("constant", "noam", "newbob")
_FREE_SECTIONS = {"name", "align", "select", "shard", "search"}


def read_config(run: Path) -> Recipe:
    """The resolved recipe of a run folder."""
    path = run / "config.yaml"
    if not path.is_file():
        raise SpeechmillError(f"{run}: not a run folder (no config.yaml); make one with `speechmill train`.")
    try:
        values = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise SpeechmillError(f"{path}: not valid YAML ({getattr(error, 'problem', error)}).") from error
    if not isinstance(values, dict):
        raise SpeechmillError(f"{path}: not a recipe.")
    return recipe_from_plain(values, path)


def write_config(run: Path, recipe: Recipe) -> None:
    write_text(run / "config.yaml", recipe_text(recipe))


def check_same_experiment(run: Path, recipe: Recipe) -> None:
    """Raise SpeechmillError where a run folder was trained with settings that would make this another experiment."""
    old, new = read_config(run).plain(), recipe.plain()
    for section, values in new.items():
        if section in _FREE_SECTIONS:
            continue
        for key in sorted(values.keys() | old[section].keys()):
            if key not in _FREE.get(section, set()) and values.get(key) != old[section].get(key):
                raise SpeechmillError(
                    f"{run}: was trained with another recipe: {section}.{key} is {old[section].get(key)!r} there and "
                    f"{values.get(key)!r} here; use the same setting or another run folder."
                )
    before, now = old["train"]["updates"], new["train"]["updates"]
    if before != now and recipe.optim.schedule not in _ENDLESS:
        raise SpeechmillError(
            f"{run}: was trained for {before} updates, train.updates is {now} here: with optim.schedule "
            f"{recipe.optim.schedule} each update's learning rate depends on it; keep it or use another run folder."
        )


def environment(device: torch.device) -> dict[str, Any]:
    """What a run was made with: versions, machine, threads, the command."""
    return {
        "speechmill": speechmill.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "command": command(),
    }


def write_environment(run: Path, device: torch.device, about: dict[str, Any]) -> None:
    """Hardware and versions, and what the caller knows of the model and the data."""
    write_json(run / "environment.json", environment(device) | about)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor()
    return platform.processor()


class RunLog:
    """Appends to metrics.jsonl and to TensorBoard; a resumed run first drops the lines behind its checkpoint.

    Args:
        update: of the checkpoint.
        validation_due: the validation at that update is still to be made.
    """

    def __init__(self, run: Path, update: int, validation_due: bool = False) -> None:
        self.path = run / "metrics.jsonl"
        last = {"valid": update - 1 if validation_due else update, "end": -1}
        kept = [line for line in read_metrics(run) if line["update"] <= last.get(line["event"], update)]
        write_text(self.path, "".join(_line(record) for record in kept))
        with disk_errors(self.path):
            self._stream: TextIO = self.path.open("a", encoding="utf-8")
        self._board = EventFile(run / "events", update + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Add one record; its numbers go to TensorBoard as event/name, or event/host/name, at the record's update."""
        with disk_errors(self.path):
            self._stream.write(_line(record))
            self._stream.flush()
        numbers = {name: value for name, value in record.items() if isinstance(value, int | float) and name != "update"}
        place = "/".join([record["event"], *([record["host"]] if "host" in record else [])])
        self._board.write({f"{place}/{name}": value for name, value in numbers.items()}, record["update"])

    def sync(self) -> None:
        """Make sure that what was written survives, before a checkpoint says that it did."""
        with disk_errors(self.path):
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        self._stream.close()
        self._board.close()


class NoLog:
    """Of the ranks that have nothing to write."""

    def write(self, record: dict[str, Any]) -> None:
        """Nothing."""

    def sync(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class EventFile:
    """A TensorBoard event file, written at once: torch's writer does it in a thread, where a full disk is a traceback.

    Args:
        first_step: TensorBoard forgets what earlier files of the folder say of this step and later ones.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter  # slow to import, only training needs it

        self.path = folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        with disk_errors(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("wb")
        self._writer = RecordWriter(self._stream)
        self._add(file_version="brain.Event:2")
        self._add(step=first_step, session_log={"status": "START"})

    def write(self, scalars: dict[str, float], step: int) -> None:
        self._add(step=step, summary={"value": [{"tag": tag, "simple_value": value} for tag, value in scalars.items()]})

    def _add(self, **event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        with disk_errors(self.path):
            self._writer.write(Event(wall_time=time.time(), **event).SerializeToString())
            self._stream.flush()

    def close(self) -> None:
        with disk_errors(self.path):
            self._stream.close()


def _line(record: dict[str, Any]) -> str:
    # repr of a float is exact, so equal lines mean equal bits.
    return json.dumps(record) + "\n"
