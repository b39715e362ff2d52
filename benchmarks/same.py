"""What an interrupted stage must share with an undisturbed one: all bytes, but for what a clock wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from speechmill.errors import SpeechmillError

_CLOCK = {"seconds", "data_wait", "valid_seconds", "communication"}
_EVENTS = "events"  # TensorBoard's files: one more for every resumed run


def differences(reference: Path, found: Path, whole_way: bool = False) -> list[str]:
    """One line for each file of the two folders that is missing, left over or another.

    `whole_way`: the folders hold the whole pipeline. Its corpus is made anew each time, so that the fingerprint of the
    import (of modification times) differs, and its report draws curves over wall-clock.
    """
    if not reference.is_dir():
        raise SpeechmillError(f"{reference}: the undisturbed result is gone; start the soak anew.")
    names, others = _names(reference), _names(found)
    lines = [f"{name}: missing" for name in sorted(names - others)]
    lines += [f"{name}: left over" for name in sorted(others - names)]
    for name in sorted(names & others):
        same = _comparison(Path(name), whole_way)
        if not same(reference / name, found / name):
            lines.append(f"{name}: differs")
    return lines


def _names(folder: Path) -> set[str]:
    """Files and empty folders, hidden ones too."""
    paths = (path for path in folder.rglob("*") if path.is_file() or not any(path.iterdir()))
    return {str(name) for path in paths if _EVENTS not in (name := path.relative_to(folder)).parts}


def _comparison(name: Path, whole_way: bool) -> Callable[[Path, Path], bool]:
    if name.suffix == ".pt":
        return _same_tensors
    if name.name == "metrics.jsonl":
        return lambda a, b: _records(a) == _records(b)
    if name.name == "state.json":
        return lambda a, b: _json(a, {"seconds"}) == _json(b, {"seconds"})
    if whole_way and name.name == "corpus.import.json":
        return lambda a, b: _json(a, {"fingerprint"}) == _json(b, {"fingerprint"})
    if whole_way and name.name == "scores.json":
        return lambda a, b: _json(a, {"seconds"}) == _json(b, {"seconds"})
    if whole_way and (name.name == "stages.json" or name.parent.name == "report"):
        return lambda a, b: a.stat().st_size > 0 and b.stat().st_size > 0
    return lambda a, b: a.read_bytes() == b.read_bytes()


def _json(path: Path, without: set[str]) -> dict[str, Any]:
    return {key: value for key, value in json.loads(path.read_text()).items() if key not in without}


def _records(path: Path) -> list[str]:
    """The lines of metrics.jsonl as text, so that equal means equal bits."""
    records = (record for record in map(json.loads, path.read_text().splitlines()) if record["event"] != "device")
    return [json.dumps({key: value for key, value in record.items() if key not in _CLOCK}) for record in records]


def _same_tensors(a: Path, b: Path) -> bool:
    """Bit for bit: a NaN equals itself, 0.0 is not -0.0."""
    return bool(_bits(torch.load(a, weights_only=True)) == _bits(torch.load(b, weights_only=True)))


def _bits(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, dict):
        return [(key, _bits(inner)) for key, inner in value.items()]
    if isinstance(value, list | tuple):
        return [_bits(inner) for inner in value]
    return repr(value)
