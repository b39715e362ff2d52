"""Nine million utterances: select, split, plan, index, schedule, and the way to the first batch of `train`.

A manifest of 26,000 calls is generated (log-normal lengths around 6 s, clipped to 1-60 s, text of matching length) and
taken through each stage in a process of its own. Only the shards of the first window are written for real.

    python -m benchmarks.scale [--quick] [--json -]

Seconds are wall-clock from the start of each process to its end, with the import of its libraries; memory is the peak
resident set of that process (VmHWM), Polars and the mapped part of its files included. `first_batch_seconds` is from
starting `speechmill train` to the first update in its log, with the statistics of the features and the update.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from speechmill.artefact import write_json
from speechmill.config import load_recipe, override_recipe
from speechmill.manifest import read_manifest, scan_manifest, write_manifest
from speechmill.settings import Recipe, SelectSettings, ShardSettings

RESULT = Path(__file__).parent / "results" / "scale.json"
RECIPE = Path(__file__).parent.parent / "hparams" / "train.yaml"
UTTERANCES, CALLS, SHARDS = 9_000_000, 26_000, 3_000
WINDOW_SHARDS = 8  # of seven hours each: 55 hours are shuffled together, as much as 64 shards of an hour
_PATIENCE = 600.0  # seconds for the first batch, then something is wrong


def measure(folder: Path, utterances: int) -> dict[str, Any]:
    """All figures, in the order in which they are taken."""
    calls, shards = utterances * CALLS // UTTERANCES, utterances * SHARDS // UTTERANCES
    generated, selected, planned = folder / "calls.parquet", folder / "selected.parquet", folder / "planned.arrow"
    figures: dict[str, Any] = {"utterances": utterances, "calls": calls}
    _apart(_generate, generated, utterances, calls)
    select = _apart(_select, generated, selected)
    settings = ShardSettings(shard_seconds=3600 * select["hours"] / shards)
    plan = _apart(_plan, selected, planned, settings)
    figures |= {
        "hours": select["hours"],
        "shards": plan["shards"],
        "plan_seconds": round(select["seconds"] + plan["seconds"], 2),
        "plan_gb": max(select["gb"], plan["gb"]),
        "plan_cpu_seconds": round(select["cpu"] + plan["cpu"], 2),
        "select_alone_seconds": select["seconds"],
        "plan_alone_seconds": plan["seconds"],
    }
    recipe = _recipe(folder)
    mostly = _apart(_mostly, selected, planned, folder / "shards", settings, recipe)
    figures |= {"real_shards": mostly["real"], "real_gb": mostly["written_gb"], "index_mb": mostly["index_mb"]}
    opened = _apart(_index, folder / "shards")
    schedule = _apart(_schedule, folder / "shards", recipe)
    figures |= {
        "index_open_seconds": opened["open"],
        "index_gb": opened["gb"],
        "schedule_seconds": schedule["plan"],
        "schedule_gb": schedule["gb"],
        "batches": schedule["batches"],
        "batch_seconds": schedule["batch"],
        "resume_seconds": schedule["resume"],
        "resume_at": schedule["resume_at"],
    }
    figures |= {"first_batch_seconds": _first_batch(folder, recipe, selected)}
    counted = _apart(_tokens, folder, recipe)
    return figures | {"token_counts_seconds": counted["seconds"], "token_counts_gb": counted["gb"]}


def _recipe(folder: Path) -> Recipe:
    """The thesis's schedule, with a model that a CPU computes an update of in seconds."""
    model = "model={kind: ctc, size: 64, layers: 1, channels: 8}"
    small = ["tokenizer.size=1000", "train.loader_workers=2", "train.log_every=1", "train.updates=1000"]
    data = [f"data.shards={folder / 'shards'}", f"data.tokenizer={folder / 'tokenizer.model'}"]
    return override_recipe(load_recipe(RECIPE, [model, *small, *data]), [f"schedule.window_shards={WINDOW_SHARDS}"])


def _apart(work: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    """Do some work in a new process: its result, with `seconds`, `cpu` and `gb`."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    started = time.perf_counter()
    process = context.Process(target=_report, args=(sender, work, given))
    process.start()
    sender.close()
    result: dict[str, Any] = receiver.recv()  # EOFError where the process died: it has said why
    process.join()
    print(f"{work.__name__[1:]}: {result}", file=sys.stderr)
    return {"seconds": round(time.perf_counter() - started, 2)} | result


def _report(sender: Any, work: Callable[..., dict[str, Any]], given: tuple[Any, ...]) -> None:
    result = work(*given)
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    sender.send(result | {"cpu": round(time.process_time(), 2), "gb": round(peak * 1024 / 1e9, 3)})


def _generate(path: Path, utterances: int, calls: int) -> dict[str, Any]:
    from benchmarks.calls import write_calls

    write_calls(path, utterances, calls)
    return {}


def _select(manifest: Path, out: Path) -> dict[str, Any]:
    from speechmill.select import select_manifest

    summary = select_manifest(manifest, out, SelectSettings()).summary
    return {"hours": round(sum(split["hours"] for split in summary["splits"].values()), 1)}


def _plan(manifest: Path, out: Path, settings: ShardSettings) -> dict[str, Any]:
    from speechmill.shards.plan import plan_manifest, planned_pieces
    from speechmill.shards.planned import PLANNED_NAME, write_planned

    plan = plan_manifest(manifest, settings)
    plan.write_ipc(out, compression="uncompressed")
    # What workers and repairs go by: as `shard` writes it.
    write_planned(planned_pieces(manifest, plan, out.with_suffix(".scratch")), out.parent)
    return {"shards": plan["shard"].n_unique(), "written_mb": round((out.parent / PLANNED_NAME).stat().st_size / 1e6)}


def _mostly(manifest: Path, planned: Path, folder: Path, settings: ShardSettings, recipe: Recipe) -> dict[str, Any]:
    from benchmarks.mostly import write_mostly

    splits = scan_manifest(manifest).group_by("call").agg(pl.col("split").n_unique()).collect()["split"]
    if splits.max() != 1:
        raise AssertionError("a call is on two sides")
    real = write_mostly(manifest, pl.read_ipc(planned), folder, settings, recipe.schedule)
    written = sum((folder / f"{name}.tar").stat().st_size for name in real)
    index = (folder / "index.arrow").stat().st_size
    return {"real": len(real), "written_gb": round(written / 1e9, 2), "index_mb": round(index / 1e6, 1)}


def _index(folder: Path) -> dict[str, Any]:
    started = time.perf_counter()
    from speechmill.shards.index import open_index

    index = open_index(folder)
    index.rows("train")
    for column in ("offset", "size", "samples", "shard"):  # every page is looked at
        getattr(index, column).max()
    index.id(len(index) - 1)
    return {"open": round(time.perf_counter() - started, 3), "rows": len(index)}


def _schedule(folder: Path, recipe: Recipe) -> dict[str, Any]:
    from speechmill.loader import utterances_of
    from speechmill.schedule import Schedule
    from speechmill.shards.index import open_index

    index = open_index(folder)
    started = time.perf_counter()
    schedule = Schedule(utterances_of(index, "train", None), recipe.schedule)
    schedule.batch(0)
    planned = time.perf_counter()
    batch = schedule.epoch_starts[1] * 2 // 3
    schedule.batch(batch)
    there = time.perf_counter()
    while len(schedule.epoch_starts) < 4:
        schedule.locate(schedule.epoch_starts[-1])
    # A checkpoint has the starts of the epochs that it came through.
    place = schedule.epoch_starts[2] + (schedule.epoch_starts[3] - schedule.epoch_starts[2]) * 5 // 8
    expected = schedule.batch(place)
    before = time.perf_counter()
    resumed = Schedule(utterances_of(open_index(folder), "train", None), recipe.schedule, schedule.epoch_starts[:3])
    found = resumed.batch(place)
    after = time.perf_counter()
    if not (found == expected).all():
        raise AssertionError("a resumed schedule has other batches")
    return {
        "plan": round(planned - started, 3),
        "batches": schedule.epoch_starts[1],
        "batch": round(there - planned, 4),
        "resume": round(after - before, 3),
        "resume_at": place,
    }


def _tokenizer(manifest: Path, out: Path, recipe: Recipe) -> dict[str, Any]:
    from speechmill.tokenizer import train_tokenizer

    sample = out.with_suffix(".parquet")
    write_manifest(scan_manifest(manifest).filter(split="train").head(20_000).collect(), sample)
    train_tokenizer(sample, out, recipe.tokenizer)
    return {"rows": read_manifest(sample, ["id"]).height}


def _tokens(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Count the tokens of every utterance, as a recipe with a limit of tokens has it done once."""
    from speechmill.shards.index import open_index
    from speechmill.shards.planned import PLANNED_NAME
    from speechmill.shards.tokens import token_counts
    from speechmill.tokenizer import load_tokenizer

    index = open_index(folder / "shards")
    os.link(folder / PLANNED_NAME, index.folder / PLANNED_NAME)  # the plan was written beside the folder
    started = time.perf_counter()
    counts = token_counts(index, load_tokenizer(Path(recipe.data.tokenizer)))
    return {"seconds": round(time.perf_counter() - started, 2), "tokens": int(counts.sum(dtype="int64"))}


def _first_batch(folder: Path, recipe: Recipe, selected: Path) -> float:
    _apart(_tokenizer, selected, folder / "tokenizer.model", recipe)
    path, run = folder / "recipe.yaml", folder / "run"
    path.write_text(yaml.safe_dump(recipe.plain()))
    command = [sys.executable, "-c", "import sys; from speechmill.cli import main; sys.exit(main())"]
    metrics = run / "metrics.jsonl"
    started = time.perf_counter()
    with (folder / "train.log").open("wb") as log:
        training = subprocess.Popen([*command, "train", str(path), "--run", str(run)], stdout=log, stderr=log)
    try:
        while not (metrics.is_file() and metrics.stat().st_size):
            time.sleep(0.02)
            if training.poll() is not None or time.perf_counter() - started > _PATIENCE:
                raise AssertionError(f"no first batch: {(folder / 'train.log').read_text()[-2000:]}")
        return round(time.perf_counter() - started, 2)
    finally:
        training.terminate()
        training.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="300,000 utterances instead of nine million")
    parser.add_argument("--json", metavar="PATH", type=Path, default=RESULT, help="-: print it (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="for its files, about 10 GB (default: a temporary one)")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # two cores
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="scale-") as folder:
        figures = measure(Path(folder), 300_000 if args.quick else UTTERANCES)
    from benchmarks.machine import machine  # not at the head: each stage would import torch

    result = figures | {"machine": machine() | {"cores_used": len(os.sched_getaffinity(0))}}
    if str(args.json) == "-":
        json.dump(result, sys.stdout, indent=1)
        print()
    else:
        write_json(args.json, result)


if __name__ == "__main__":
    main()
