"""Utterances that cannot be read while training: left out, counted and named, up to a limit."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from speechmill.errors import SpeechmillError
from speechmill.loader import Damage
from speechmill.shards.read import ShardReader
from speechmill.train.checkpoint import TrainState


def name_damage(damaged: Sequence[Damage], state: TrainState, limit: int, run: Path) -> Iterator[dict[str, Any]]:
    """Add damaged utterances to the state, each once, however often it comes by; yields a line of the log for each.

    Raises SpeechmillError, after the line, where there are more than `limit` by now.
    """
    for name, reason in damaged:
        if name in state.damaged:
            continue
        state.damaged.append(name)
        print(f"speechmill train: left out: {reason}", file=sys.stderr)
        yield {"event": "damaged", "update": state.update, "id": name, "reason": reason}
        if len(state.damaged) > limit:
            raise SpeechmillError(
                f"{run}: {len(state.damaged)} utterances cannot be read, train.max_damaged allows {limit}; mend the "
                f"shards and run the same command, or allow more. They are named in {run / 'metrics.jsonl'}; "
                f"the last: {reason}"
            )


def readable(reader: ShardReader, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], list[Damage]]:
    """The rows whose audio and text can be read, and what is wrong with the others."""
    kept, damaged = [], []
    for row in rows.tolist():
        try:
            reader.audio(row)
            reader.about(row)
            kept.append(row)
        except SpeechmillError as error:
            damaged.append(Damage(reader.index.id(row), str(error)))
    return np.array(kept, dtype=np.int64), damaged
