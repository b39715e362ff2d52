"""The demo's training step in bfloat16 autocast against float32: audio seconds per second, alternating, medians.

    python -m benchmarks.precision --out benchmarks/results/precision.json

Steps are whole updates (features, forward, backward, optimizer) of random audio at the recipe's batch size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine
from speechmill.artefact import write_json
from speechmill.config import load_recipe
from speechmill.loader import Batch
from speechmill.models import build_model
from speechmill.strategies.single import Single
from speechmill.train.optim import build_optimizer

PRECISIONS = ("float32", "bfloat16")
SECONDS = 5.0  # of an utterance
TOKENS_PER_SECOND = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("hparams/demo.yaml"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="in a round")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    strategies = {precision: build(args.recipe, precision) for precision in PRECISIONS}
    speeds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for number in range(args.rounds + 1):  # the first round warms up
        for precision, strategy in strategies.items():
            speed = one_round(strategy, args.steps)
            if number:
                speeds[precision].append(speed)
    medians = {precision: statistics.median(found) for precision, found in speeds.items()}
    record: dict[str, Any] = machine() | {
        "threads": args.threads,
        "realtime": medians,
        "bfloat16_vs_float32": medians["bfloat16"] / medians["float32"],
        "rounds": speeds,
    }
    if args.out:
        write_json(args.out, record)
    print(json.dumps(record, indent=1))


def build(path: Path, precision: str) -> Single:
    """The recipe's model with random weights, the same for both precisions."""
    recipe = load_recipe(path, [f"train.precision={precision}"])
    torch.manual_seed(0)
    model = build_model(recipe, recipe.tokenizer.size)
    return Single(model, build_optimizer(model.parameters(), recipe.optim), recipe, torch.device("cpu"))


def one_round(strategy: Single, steps: int) -> float:
    """Seconds of audio trained on in a second."""
    recipe = strategy.recipe
    batch = random_batch(round(recipe.schedule.target_seconds / SECONDS), recipe.features.sample_rate)
    start = time.perf_counter()
    for step in range(steps):
        strategy.update([batch], step)
    return steps * len(batch.ids) * SECONDS / (time.perf_counter() - start)


def random_batch(utterances: int, rate: int) -> Batch:
    """Noise with targets of a likely length."""
    generator = torch.Generator().manual_seed(0)
    samples, tokens = round(SECONDS * rate), round(SECONDS * TOKENS_PER_SECOND)
    return Batch(
        0,
        [str(place) for place in range(utterances)],
        torch.randint(-8000, 8000, (utterances, samples), generator=generator, dtype=torch.int16),
        torch.full((utterances,), samples),
        torch.randint(4, 128, (utterances, tokens), generator=generator),
        torch.full((utterances,), tokens),
    )


if __name__ == "__main__":
    main()
