"""A process of a training that `speechmill train` started: python -m speechmill.train.worker RECIPE RUN."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from speechmill.launch import run_rank


def main(recipe: Path, run: Path) -> dict[str, Any]:
    from speechmill.config import load_recipe
    from speechmill.train.loop import train

    return {**asdict(train(load_recipe(recipe), run)), "run": str(run)}


if __name__ == "__main__":
    raise SystemExit(run_rank(lambda: main(Path(sys.argv[1]), Path(sys.argv[2]))))
