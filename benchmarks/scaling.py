"""Audio per second of several training processes over that of one, one thread each.

    python -m benchmarks.scaling --quick --json -
    python -m benchmarks.scaling --out benchmarks/results/scaling.json

Whole commands (`python -m speechmill train`) on shards of made-up speech: loading, features, loss, optimizer, exchange.
The rate is taken from metrics.jsonl, between its first and its last line, so that start and validation do not count.
Rounds alternate the contenders, each round beginning with another one, after a run that does not count. A ratio is
taken within a round; the median of the rounds is reported, and beside it under `quartiles` how far they are apart.

ddp2 and local_sgd2 have two batches an update, one for each process; hogwild2 one, like `single`. accumulation is
ddp2's update made by one process, with half as many optimizer steps for its audio as `single`: `ddp2_vs_accumulation`
is what the second process brings, and nothing else. independent2 is two commands that know nothing of each other: what
the machine gives to two processes at best.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile
import torch

from benchmarks.machine import machine
from speechmill.artefact import write_json
from speechmill.config import load_recipe
from speechmill.errors import SpeechmillError
from speechmill.metrics import read_metrics
from speechmill.progress import Progress
from speechmill.shards.write import shard_manifest
from speechmill.tokenizer import train_tokenizer

_ROOT = Path(__file__).resolve().parents[1]
_RATE = 16000
ON_CPU = {
    "single": ["train.strategy=single"],
    "ddp2": ["train.strategy=ddp", "train.processes=2", "schedule.batches_per_update=2"],
    "accumulation": ["train.strategy=single", "schedule.batches_per_update=2"],
    "hogwild2": ["train.strategy=hogwild", "train.processes=2"],
    "local_sgd2": [
        "train.strategy=local_sgd", "train.processes=2", "schedule.batches_per_update=2", "train.average_every=8",
    ],
    "independent2": ["train.strategy=single"],
}  # fmt: skip
# Three Hogwild processes on one GPU, and what DDP costs by itself: one rank has nobody to wait for.
ON_GPU = {
    "single": ["train.strategy=single"],
    "ddp1": ["train.strategy=ddp", "train.processes=1"],
    "hogwild3": ["train.strategy=hogwild", "train.processes=3"],
}


def make_data(folder: Path, minutes: float) -> list[str]:
    """Shards and tokenizer of noise that is cut into utterances of 2 to 10 s; the settings that name them."""
    rng = np.random.default_rng(0)
    words = ["revenue", "margin", "growth", "quarter", "guidance", "cash", "share", "outlook"]
    rows = []
    for call in range(int(np.ceil(minutes / 5))):
        path = folder / f"call{call}.wav"
        soundfile.write(path, rng.normal(0, 0.1, 300 * _RATE).clip(-1, 1), _RATE, subtype="PCM_16")
        at = 0.0
        while at < 290:
            seconds = float(rng.uniform(2, 10))
            text = " ".join(rng.choice(words, max(1, int(seconds * 2))))
            rows.append({
                "id": f"c{call}-{len(rows)}", "recording": str(path), "start": at, "end": at + seconds, "text": text,
                "speaker": f"s{call}", "call": str(call), "session": "presentation", "native": True,
                "split": "valid" if call == 0 and len(rows) < 4 else "train",
            })  # fmt: skip
            at += seconds
    pl.DataFrame(rows).write_parquet(folder / "manifest.parquet")
    recipe = load_recipe(_ROOT / "hparams" / "demo.yaml")
    shard_manifest(folder / "manifest.parquet", folder / "shards", recipe.shard, processes=2)
    char = ["tokenizer.kind=char", "tokenizer.size=21"]
    settings = load_recipe(_ROOT / "hparams" / "demo.yaml", char).tokenizer
    train_tokenizer(folder / "manifest.parquet", folder / "tokenizer.model", settings)
    return [f"data.shards={folder / 'shards'}", f"data.tokenizer={folder / 'tokenizer.model'}", *char]


def start(folder: Path, settings: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "speechmill", "train", "hparams/demo.yaml", "--run", str(folder), *settings],
        cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def rate(run: Path) -> dict[str, float]:
    """Audio seconds per second between the first and the last line of a run, and the shares of time."""
    lines = [record for record in read_metrics(run) if record["event"] == "train"]
    lines = sorted((line for line in lines if line["loss"] is not None), key=lambda line: line["audio_seconds"])
    first, last = lines[0], lines[-1]
    found = {"rate": (last["audio_seconds"] - first["audio_seconds"]) / (last["seconds"] - first["seconds"])}
    for name in ("data_wait", "communication", "staleness"):
        shares = [line[name] for line in lines[1:] if line.get(name) is not None]
        if shares:
            found[name] = statistics.fmean(shares)
    return found


def measure(folder: Path, name: str, settings: Sequence[str], common: Sequence[str]) -> dict[str, float]:
    """Train once, or twice at the same time; the rates added up."""
    count = 2 if name.startswith("independent") else 1
    runs = [folder / f"{name}-{time.time_ns()}-{number}" for number in range(count)]
    commands = [start(run, [*common, *settings]) for run in runs]
    for command in commands:
        _, error = command.communicate()
        if command.returncode:
            raise SpeechmillError(f"scaling: {name} ended with status {command.returncode}: {error.decode()[-500:]}")
    found = [rate(run) for run in runs]
    return {key: sum(each[key] for each in found) / (1 if key == "rate" else count) for key in found[0]}


def contenders_of(device: str, names: Sequence[str]) -> dict[str, list[str]]:
    """Settings by name; `single`, which the others are compared with, is always one of them."""
    found = ON_CPU if device == "cpu" else ON_GPU
    unknown = set(names) - found.keys()
    if unknown:
        raise SpeechmillError(f"scaling: no {', '.join(sorted(unknown))} on {device}; there are {', '.join(found)}.")
    return {name: found[name] for name in found if name == "single" or not names or name in names}


def scaling(
    folder: Path, device: str, rounds: int, updates: int, contenders: dict[str, list[str]], minutes: float
) -> dict[str, Any]:
    """The ratios by contender, and what they were made of; `minutes` of audio are made up for it."""
    common = make_data(folder, minutes)
    common += [
        f"train.device={device}", "train.threads=1", "train.loader_workers=0", f"train.updates={updates}",
        f"train.validate_every={updates}", f"train.checkpoint_every={updates}", "train.log_every=8",
        "schedule.order=random", "schedule.alike=2", "features.statistics_batches=2", "optim.warmup_updates=4",
    ]  # fmt: skip
    if device == "cuda":
        common += ["train.loader_workers=2", "schedule.target_seconds=180", "schedule.limit_seconds=240"]
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    names = list(contenders)
    with Progress("scaling", rounds * len(contenders) + 1, "runs") as progress:
        measure(folder, "single", contenders["single"], common)  # the machine wakes up
        progress.advance(note="warm-up")
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                measured[name].append(measure(folder, name, contenders[name], common))
                progress.advance(note=name)
    rates = {name: [one["rate"] for one in found] for name, found in measured.items()}
    ratios = {name: _ratios(mine, rates["single"]) for name, mine in rates.items() if name != "single"}
    if ratios.keys() >= {"ddp2", "accumulation"}:
        ratios["ddp2_vs_accumulation"] = _ratios(rates["ddp2"], rates["accumulation"])
    return {
        **{name: statistics.median(found) for name, found in ratios.items()},
        "quartiles": {name: np.quantile(found, [0.25, 0.75]).tolist() for name, found in ratios.items()},
        "rounds": measured, "updates": updates, "device": _device(device), "about": machine(),
    }  # fmt: skip


def _ratios(rates: Sequence[float], of: Sequence[float]) -> list[float]:
    """Round by round."""
    return [mine / other for mine, other in zip(rates, of, strict=True)]


def summary(result: dict[str, Any]) -> str:
    """A line for each ratio, the quartiles of its rounds in brackets."""
    return "\n".join(
        f"{name} {result[name]:.3f} ({low:.3f} to {high:.3f})" for name, (low, high) in result["quartiles"].items()
    )


def _device(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="three short rounds, without independent2")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--updates", type=int, default=96)
    parser.add_argument("--only", default="", help="some contenders, with commas between")
    parser.add_argument("--json", metavar="FILE", help="write the result there; - prints it")
    parser.add_argument("--out", type=Path, default=None, help="the same as --json FILE")
    args = parser.parse_args(arguments)
    names = args.only.split(",") if args.only else []
    if args.quick:
        args.rounds, args.updates = 3, 40
        names = names or [name for name in ON_CPU if name != "independent2" and args.device == "cpu"]
    with tempfile.TemporaryDirectory(prefix="speechmill-scaling-") as folder:
        try:
            contenders = contenders_of(args.device, names)
            minutes = 20 if args.device == "cpu" else 120
            result = scaling(Path(folder), args.device, args.rounds, args.updates, contenders, minutes)
        except SpeechmillError as error:
            print(f"scaling: {error}", file=sys.stderr)
            return 2
    out = args.out or (Path(args.json) if args.json and args.json != "-" else None)
    if out:
        write_json(out, result)
    if args.json == "-":
        print(json.dumps(result, indent=1))
    else:
        print(summary(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
