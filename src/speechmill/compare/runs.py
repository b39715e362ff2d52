"""Run folders, read back: settings, environment, metrics as columns, scores. Nothing is computed twice or guessed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from speechmill.artefact import read_json, read_text
from speechmill.errors import SpeechmillError
from speechmill.metrics import read_metrics

Columns = dict[str, NDArray[np.float64]]
"""Name -> values, all of one length, in the order of updates; NaN where a line had no such value."""

TRAIN_COLUMNS = (
    "update", "seconds", "audio_seconds", "loss", "lr", "grad_norm", "padding", "data_wait", "communication",
    "skipped",
)  # fmt: skip
VALID_COLUMNS = (
    "update", "seconds", "audio_seconds", "wer", "cer", "wer_p", "cer_p", "utterances", "valid_seconds",
)  # fmt: skip
AVERAGED = {"loss", "grad_norm", "padding", "data_wait", "communication"}


@dataclass(frozen=True)
class Run:
    """One run folder. `ended` is false for a run that was interrupted or still goes on."""

    path: Path
    name: str
    config: dict[str, Any]
    environment: dict[str, Any]
    train: Columns
    valid: Columns
    ended: bool
    scores: dict[str, dict[str, Any]]

    @property
    def recipe(self) -> str | None:
        name = self.config.get("name")
        return str(name) if name is not None else None

    @property
    def state(self) -> str:
        if self.ended:
            return "ended"
        return "not ended" if len(self.train["update"]) else "not started"

    @property
    def updates(self) -> float | None:
        return self._reached("update")

    @property
    def seconds(self) -> float | None:
        """Wall-clock of training, resumes added up."""
        return self._reached("seconds")

    @property
    def audio_seconds(self) -> float | None:
        """Audio heard, each epoch counted."""
        return self._reached("audio_seconds")

    @property
    def audio_per_second(self) -> float | None:
        """Audio seconds heard per second of wall-clock."""
        if self.audio_seconds is None or not self.seconds:
            return None
        return self.audio_seconds / self.seconds

    @property
    def padding(self) -> float | None:
        """Share of padding; an interval weighs as much as the audio heard in it."""
        return _weighted(self.train["padding"], self.train["audio_seconds"])

    @property
    def data_wait(self) -> float | None:
        """Share of the wall-clock spent waiting for data."""
        return _weighted(self.train["data_wait"], self.train["seconds"])

    @property
    def strategy(self) -> str:
        train = self.config.get("train")
        return str(train.get("strategy", "single")) if isinstance(train, dict) else "single"

    @property
    def processes(self) -> int:
        train = self.config.get("train")
        return int(number(train.get("processes")) or 1) if isinstance(train, dict) else 1

    @property
    def shares(self) -> dict[str, float] | None:
        """Shares of the wall-clock: data, compute, communication, validation. They add up to 1.

        The log has the first and the third as shares of the steps; Hogwild trains on while it validates. `compute` is
        what is left: forward, backward, optimizer, saving.
        """
        if self.data_wait is None or not self.seconds:
            return None
        beside = self.strategy == "hogwild"
        validation = 0.0 if beside else min(1.0, float(np.nansum(self.valid["valid_seconds"])) / self.seconds)
        communication = _weighted(self.train["communication"], self.train["seconds"]) or 0.0
        data, communication = (share * (1.0 - validation) for share in (self.data_wait, communication))
        compute = max(0.0, 1.0 - data - communication - validation)
        return {"data": data, "compute": compute, "communication": communication, "validation": validation}

    @property
    def skipped(self) -> float | None:
        """Updates left out because the loss or its gradient was not finite."""
        return _largest(self.train["skipped"])

    @property
    def parameters(self) -> float | None:
        return number(self.environment.get("parameters"))

    @property
    def train_hours(self) -> float | None:
        """Hours of training data, as the run noted it or as the selection asked for; None where neither says."""
        noted = number(self.environment.get("train_hours"))
        select = self.config.get("select")
        return noted if noted is not None or not isinstance(select, dict) else number(select.get("hours"))

    @property
    def best_valid_wer(self) -> float | None:
        wer = self.valid["wer"]
        return float(np.nanmin(wer)) if np.isfinite(wer).any() else None

    def seconds_to_wer(self, level: float) -> float | None:
        """Wall-clock until a validation first found a WER of `level` or lower; None if none did."""
        reached = np.flatnonzero(self.valid["wer"] <= level + 1e-12)
        return number(float(self.valid["seconds"][reached[0]])) if len(reached) else None

    def rate(self, scored: str, key: str, native: bool | None = None) -> float | None:
        """A rate (fraction) on the scored set, of all its utterances or of one `native` group; None where absent."""
        score: Any = self.scores.get(scored, {})
        path = (key,) if native is None else ("by", "native", str(native).lower(), key)
        for step in path:
            score = score.get(step) if isinstance(score, dict) else None
        return number(score)

    def interval(self, scored: str) -> tuple[float, float] | None:
        """The interval of the WER on the scored set, as fractions; None where its scores have none."""
        ends = self.scores.get(scored, {}).get("interval")
        low, high = map(number, ends) if isinstance(ends, list) and len(ends) == 2 else (None, None)
        return None if low is None or high is None else (low, high)

    def utterances_file(self, scored: str) -> Path:
        return self.path / "scores" / f"{scored}.utterances.jsonl"

    def _reached(self, column: str) -> float | None:
        return _largest(np.concatenate([self.train[column], self.valid[column]]))


def read_run(path: Path) -> Run:
    """Read a run folder; whatever a young or interrupted run does not have yet is empty.

    Raises SpeechmillError when `path` is no run folder, or a file in it is broken (file and line are named).
    """
    if not path.is_dir():
        raise SpeechmillError(f"{path}: no such folder; expected a run folder, as `speechmill train --run` makes it.")
    if not (path / "config.yaml").is_file():
        raise SpeechmillError(f"{path}: not a run folder (it has no config.yaml); give what `train --run` made.")
    environment = path / "environment.json"
    train, valid, ended = _by_event(read_metrics(path))
    scores = {file.stem: _mapping(read_json(file), file) for file in sorted((path / "scores").glob("*.json"))}
    return Run(
        path=path,
        name=path.resolve().name,
        config=_read_config(path / "config.yaml"),
        environment=_mapping(read_json(environment), environment) if environment.exists() else {},
        train=train,
        valid=valid,
        ended=ended,
        scores=scores,
    )


def _by_event(records: list[dict[str, Any]]) -> tuple[Columns, Columns, bool]:
    """The training and validation records as columns, and whether training has ended.

    A run that was killed resumes from its last checkpoint and walks some updates again: its later lines replace the
    earlier ones. Events of other names are left alone.
    """
    train: list[dict[str, Any]] = []
    valid: list[dict[str, Any]] = []
    ended = False
    for record in records:
        event, update = record["event"], record["update"]
        if event in ("train", "valid"):
            same, other = (train, valid) if event == "train" else (valid, train)
            while same and same[-1]["update"] >= update:
                same.pop()
            while other and other[-1]["update"] > update:
                other.pop()
            same.append(record)
        ended = event == "end" or (ended and event not in ("train", "valid"))
    return _columns(train, True), _columns(valid, False), ended


def distinct_names(runs: Sequence[Run]) -> list[str]:
    """One name per run: its folder's, with as many parent folders before it as it takes to tell the runs apart."""
    parts = [run.path.resolve().parts for run in runs]
    for depth in range(1, max((len(p) for p in parts), default=0) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{run.name} ({position})" for position, run in enumerate(runs, 1)]


def scored_sets(runs: Sequence[Run]) -> list[str]:
    """The names of what any run was scored on, `test` first."""
    return sorted({name for run in runs for name in run.scores}, key=lambda name: (name != "test", name))


def common_level(runs: Sequence[Run]) -> float | None:
    """The lowest validation WER that every run (of those that validated) reached; None with fewer than two of them."""
    best = [run.best_valid_wer for run in runs if run.best_valid_wer is not None]
    return max(best) if len(best) > 1 else None


def settings_that_differ(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Dotted key path -> its value in each run (None where a run lacks it), for the settings not equal in all runs."""
    flat = [flatten(run.config) for run in runs]
    keys = sorted({key for settings in flat for key in settings})
    values = {key: [settings.get(key) for settings in flat] for key in keys}
    return {key: row for key, row in values.items() if len({json.dumps(v, default=str) for v in row}) > 1}


def flatten(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings to one of dotted key paths; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def thin(columns: Columns, limit: int) -> Columns:
    """At most `limit` rows: neighbours become one row, with the mean of what is measured over an interval (loss, ...)
    and the last of what is counted or reached (update, seconds, ...)."""
    rows = len(columns["update"])
    if rows <= limit:
        return columns
    edges = np.linspace(0, rows, limit + 1).astype(int)
    return {
        name: np.array([_mean(values[a:b]) for a, b in pairwise(edges)]) if name in AVERAGED else values[edges[1:] - 1]
        for name, values in columns.items()
    }


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _columns(records: list[dict[str, Any]], train: bool) -> Columns:
    rows = [{key: number(value) for key, value in record.items()} for record in records]
    return {
        name: np.array([math.nan if (v := row.get(name)) is None else v for row in rows], dtype=np.float64)
        for name in (TRAIN_COLUMNS if train else VALID_COLUMNS)
    }


def _largest(values: NDArray[np.float64]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if len(finite) else None


def _mean(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _weighted(shares: NDArray[np.float64], reached: NDArray[np.float64]) -> float | None:
    """Mean of interval shares, weighted by how far `reached` moved in each interval."""
    weights = np.diff(reached, prepend=0.0)
    known = np.isfinite(shares) & np.isfinite(weights) & (weights > 0)
    return float(np.average(shares[known], weights=weights[known])) if known.any() else None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return _mapping(yaml.safe_load(read_text(path)), path)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpeechmillError(f"{path}, line {line}: not valid YAML ({error.problem}).") from error


def _mapping(value: Any, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SpeechmillError(f"{path}: expected a mapping of names to values, found {type(value).__name__}.")
    return {str(key): item for key, item in value.items()}
