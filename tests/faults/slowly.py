"""`speechmill` whose updates wait after the first six: a fault then meets a training, and not what is left of one.

python -m slowly train RECIPE --run RUN        the processes that it starts wait, too; those started again do not
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechmill import cli
from speechmill.launch import launch, launched, run_rank
from speechmill.loader import Batch
from speechmill.strategies.base import UpdateStats
from speechmill.strategies.single import Single
from speechmill.train import loop, worker

BEFORE = 6  # updates: with the line of their last one a test knows that training goes on
SECONDS = 0.5  # of each after that

_true_update = Single.update


def update(self: Single, batches: Sequence[Batch], number: int, stop: object = False) -> UpdateStats:
    if number >= BEFORE and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        time.sleep(SECONDS)
    return _true_update(self, batches, number, stop)


def launch_slowly(_: str, *arguments: Any) -> dict[str, Any]:
    return launch("slowly", *arguments)


def main() -> int:
    Single.update = update  # type: ignore[method-assign]
    loop.launch = launch_slowly  # type: ignore[attr-defined]
    if launched():
        return run_rank(lambda: worker.main(*map(Path, sys.argv[1:3])))
    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
