"""Utterances that cannot be read while training: left out, counted and named, up to a limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from speechmill.errors import SpeechmillError
from speechmill.loader import Damage
from speechmill.train.checkpoint import TrainState


def name_damage(damaged: Sequence[Damage], state: TrainState, limit: int, run: Path) -> Iterator[dict[str, Any]]:
    """Add damaged utterances to the state, each once, however often it comes by; yields a line of the log for each.

    Raises SpeechmillError, after the line, where there are more than `limit` by now.
    """
    for name, reason in damaged:
        if name in state.damaged:
            continue
        state.damaged.append(name)
        yield {"event": "damaged", "update": state.update, "id": name, "reason": reason}
        if len(state.damaged) > limit:
            raise SpeechmillError(
                f"{run}: {len(state.damaged)} utterances cannot be read, train.max_damaged allows {limit}; mend the "
                f"shards and run the same command, or allow more. They are named in {run / 'metrics.jsonl'}; "
                f"the last: {reason}"
            )
