"""metrics.jsonl of a run folder, read back: one rule for training that goes on and for comparing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechmill.artefact import read_text
from speechmill.errors import SpeechmillError


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The records of a run, each with an `event` and a number `update`; none where there is no file yet.

    A last line that a kill cut off, or that is being written, is left out. SpeechmillError names any other broken line.
    """
    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    records = []
    for place, record in json_lines(path, growing=True):
        update = record.get("update")
        if not isinstance(record.get("event"), str) or isinstance(update, bool) or not isinstance(update, int | float):
            raise SpeechmillError(f"{place}: expected an `event` and a number `update` in each line.")
        records.append(record)
    return records


def json_lines(path: Path, growing: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("<file>, line <n>", object) for each line; SpeechmillError names a broken one.

    In a `growing` file, a last line without its line feed that does not parse was cut short by a kill, or is being
    written: it is left out.
    """
    lines = read_text(path).split("\n")
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        place = f"{path}, line {index + 1}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if growing and index == len(lines) - 1:
                return
            raise SpeechmillError(f"{place}: not valid JSON ({error.msg}).") from error
        if not isinstance(record, dict):
            raise SpeechmillError(f"{place}: expected a JSON object, found {line.strip()[:40]}.")
        yield place, record
