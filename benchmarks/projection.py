"""What synchronous training would reach on 8 and 64 GPUs: a projection, not a measurement.

    python -m benchmarks.projection [--json -]

Of the thesis's recipe (`hparams/train.yaml`). No time in it is measured. Counted: the bytes of its gradients, the
arithmetic per second of audio (`arithmetic` of `benchmarks.step`, read from `results/step.json`), how much longer the
longest of N batches is than their mean (its schedule, on utterance lengths as in `benchmarks.padding`), and that two
thirds of a step's arithmetic are backward pass, behind which gradients travel. Assumed: how much arithmetic a GPU does
in a second on this model, and what a machine's network carries. A ring, or rings within machines and between them,
takes each byte 2 (N-1)/N times through each machine's link; N GPUs of one machine have a link of their own.

`efficiency`: audio per second over N times that of one GPU. `ddp`: max(backward, message) once an update, every rank
waits for the longest batch; `alike`: the same with `schedule.alike: N`; `local_sgd`: parameters travel every 16
updates, hidden behind nothing, and ranks wait for the longest sum of 16 batches.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.padding import TRAIN_RECIPE, Floats, epoch_of, utterance_seconds
from speechmill.artefact import read_json, write_json
from speechmill.config import load_recipe
from speechmill.models import build_model
from speechmill.settings import Recipe

RESULT = Path(__file__).parent / "results" / "projection.json"
STEP = Path(__file__).parent / "results" / "step.json"
UTTERANCES = 400_000
BACKWARD = 2 / 3  # of a step's arithmetic
PERIOD = 16  # updates between averages of local SGD
BYTES = 4  # of a gradient, or of a parameter
# Assumed, measured on no GPU: TFLOP/s that one carries out on this model (recurrent, so far from its peak).
TERAFLOPS = (10.0, 40.0)
# Assumed: GPUs, and GB/s that leave a machine (8 GPUs: each GPU's link).
CLUSTERS = (
    ("8 GPUs of one machine, 150 GB/s each", 8, 150.0),
    ("8 GPUs of one machine, PCIe 12 GB/s", 8, 12.0),
    ("64 GPUs of 8 machines, 400 Gb/s", 64, 50.0),
    ("64 GPUs of 8 machines, 100 Gb/s", 64, 12.5),
    ("64 GPUs of 8 machines, 10 Gb/s", 64, 1.25),
)


def projected(compute: float, waits: float, message: float) -> float:
    """Efficiency of an update with `compute` seconds of arithmetic and `message` seconds of sending.

    The longest batch takes `waits` times the mean; what does not fit behind its backward pass is stood for.
    """
    longest = waits * compute
    return compute / (longest + max(0.0, message - BACKWARD * longest))


def projected_local(compute: float, waits: float, message: float) -> float:
    """The same of local SGD, where `waits` is of sums over a period."""
    return PERIOD * compute / (PERIOD * waits * compute + message)


def longest(seconds: Floats, ranks: int, period: int = 1) -> float:
    """The longest of `ranks` sums of `period` batches over their mean; batch i is rank i mod ranks's."""
    whole = seconds[: len(seconds) // (ranks * period) * ranks * period].reshape(-1, period, ranks).sum(1)
    return float(whole.max(1).mean() / whole.mean())


def batch_seconds(recipe: Recipe, alike: int) -> Floats:
    """Padded seconds of an epoch's batches."""
    settings = recipe.schedule.model_copy(update={"alike": alike})
    seconds = utterance_seconds(UTTERANCES)
    epoch = epoch_of(seconds, settings)
    return np.array([seconds[batch].max() * len(batch) for batch in map(epoch.batch, range(len(epoch)))])


def figures() -> dict[str, Any]:
    recipe = load_recipe(TRAIN_RECIPE)
    parameters = sum(one.numel() for one in build_model(recipe, recipe.tokenizer.size).parameters())
    arithmetic = read_json(STEP)["full"]["gflop_per_audio_second"] * 1e9
    ranks = sorted({count for _, count, _ in CLUSTERS})
    by_alike = {alike: batch_seconds(recipe, alike) for alike in (1, *ranks)}
    mean = float(by_alike[1].mean())
    waits = {
        count: {
            "ddp": longest(by_alike[1], count),
            "alike": longest(by_alike[count], count),
            "local_sgd": longest(by_alike[1], count, PERIOD),
        }
        for count in ranks
    }
    rows = []
    for name, count, link in CLUSTERS:
        message = 2 * (count - 1) / count * parameters * BYTES / (link * 1e9)
        for teraflops in TERAFLOPS:
            compute = mean * arithmetic / (teraflops * 1e12)
            rows.append({
                "cluster": name,
                "teraflops": teraflops,
                "compute_seconds": round(compute, 4),
                "message_seconds": round(message, 4),
                "ddp": round(projected(compute, waits[count]["ddp"], message), 3),
                "alike": round(projected(compute, waits[count]["alike"], message), 3),
                "local_sgd": round(projected_local(compute, waits[count]["local_sgd"], message), 3),
                "audio_hours_per_update": round(count * mean / 3600, 2),
            })  # fmt: skip
    return {
        "parameters": parameters,
        "gradient_megabytes": round(parameters * BYTES / 1e6, 1),
        "gflop_per_audio_second": arithmetic / 1e9,
        "batch_seconds": round(mean, 1),
        "longest_over_mean": waits,
        "rows": rows,
    }


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| | TFLOP/s each | computing, ms | sending, ms | `ddp` | with `alike` | `local_sgd` | "
        "hours of audio an update |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        lines.append(
            f"| {row['cluster']} | {row['teraflops']:g} | {1000 * row['compute_seconds']:.0f} | "
            f"{1000 * row['message_seconds']:.0f} | {row['ddp']:.2f} | {row['alike']:.2f} | {row['local_sgd']:.2f} | "
            f"{row['audio_hours_per_update']:g} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="PATH", type=Path, default=RESULT, help="-: print it (default: %(default)s)")
    args = parser.parse_args()
    found = figures() | {"machine": machine()}
    if str(args.json) == "-":
        json.dump(found, sys.stdout, indent=1)
        print()
    else:
        write_json(args.json, found)
        print(table(found))


if __name__ == "__main__":
    main()
