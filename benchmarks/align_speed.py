"""Parts `speed`, `memory` and `processes` of `benchmarks.align`."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.align_cases import (
    clip_cases,
    demo_cases,
    demo_groups,
    demo_of,
    once,
    one_recording,
    rows_of,
    tallied,
)
from benchmarks.align_tally import Tally, merged
from benchmarks.damage import clips, damaged
from benchmarks.lab import speechmill
from speechmill.align.sphinx import Sphinx
from speechmill.audio import RATE

# PocketSphinx's settings, from the most careful to the fastest.
TUNINGS: dict[str, dict[str, Any]] = {
    "all three passes, every frame": {"fwdflat": True, "bestpath": True, "ds": 1},
    "every frame": {"ds": 1},
    "every second frame (default)": {},
    "every second frame, tight beams": {"beam": 1e-40, "pbeam": 1e-40, "wbeam": 1e-22},
    "every second frame, 2 Gaussians, 2,000 HMMs": {"topn": 2, "maxhmmpf": 2000},
    "every third frame": {"ds": 3},
    "every third frame, tight beams": {"ds": 3, "beam": 1e-40, "pbeam": 1e-40, "wbeam": 1e-22},
}
_HOURS = 2.0
_TURNS = 3


def part(args: Namespace) -> dict[str, Any]:
    """Speed against what is kept at 20 % damage: half a folder of clips, and native calls of the demo corpus."""
    demo = demo_of(args)
    found = {}
    for name, tuning in TUNINGS.items():
        aligner = Sphinx(**tuning)
        folder = args.work / "speed" / "".join(letter if letter.isalnum() else "-" for letter in name)
        cases = {
            "clips": list(clip_cases(args.corpus, 20, args.seed))[:1],
            "native": list(demo_cases(demo_groups(demo, args.calls)["native"], 20, args.seed))[:3],
        }
        found[name] = {
            group: merged(tallied(folder / f"{group}-{case}.json", aligner, make) for case, make in some).record()
            for group, some in cases.items()
        }
    return found


def memory(args: Namespace) -> dict[str, Any]:
    """Two hours in one piece, in a process of its own: half of the clips again and again, the transcript damaged."""

    def make() -> dict[str, Any]:
        command = [sys.executable, "-m", "benchmarks.align_speed", str(args.corpus), args.aligner, str(args.seed)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return dict(json.loads(done.stdout))

    return once(args.work / "memory.json", make)


def two_hours(corpus: Path, name: str, seed: int) -> dict[str, Any]:
    """What two hours take: peak memory of the whole process, recording included; speed; sentences kept."""
    from speechmill.align.aligners import open_aligner

    texts = [row[1] for row in rows_of(corpus)]
    middle = len(texts) // 2
    samples, said = clips(corpus, 0, middle)
    times, length = int(-(-_HOURS * 3600 * RATE // len(samples))), len(samples) / RATE
    long = np.tile(samples, times)
    all_said = [
        replace(one, start=one.start + turn * length, end=one.end + turn * length)
        for turn in range(times)
        for one in said
    ]
    tally = Tally()
    one_recording(open_aligner(name), long, damaged(all_said, texts[middle:], 20, seed), tally)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return tally.record() | {"hours": len(long) / RATE / 3600, "megabytes": peak / 1024}


def processes(args: Namespace) -> dict[str, Any]:
    """Wall-clock of `speechmill align` over the same few calls with one process and with two, in turns, the order the
    other way round in each; the gain is the median of theirs."""
    demo = demo_of(args)

    def make() -> dict[str, Any]:
        folder = args.work / "processes"
        shutil.rmtree(folder, ignore_errors=True)  # of a call that was cut off, which would not be aligned again
        speechmill("import", "bizspeech", demo, folder / "corpus.parquet")
        rows = pl.read_parquet(folder / "corpus.parquet")
        few = [path.name for group in demo_groups(demo, args.calls).values() for path in group]
        rows.filter(pl.col("call").is_in(few)).write_parquet(folder / "few.parquet")
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for turn in range(_TURNS):
            for count in sorted(seconds, reverse=turn % 2 > 0):
                out = folder / f"{count}-{turn}.parquet"
                started = time.monotonic()
                speechmill("align", folder / "few.parquet", out, "--aligner", args.aligner, "--processes", count)
                seconds[count].append(time.monotonic() - started)
        gain = statistics.median(one / two for one, two in zip(seconds[1], seconds[2], strict=True))
        return {"calls": len(few), "seconds_one": seconds[1], "seconds_two": seconds[2], "gain": gain}

    return once(args.work / "processes.json", make)


if __name__ == "__main__":
    print(json.dumps(two_hours(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
