"""Parts `speed`, `memory` and `processes` of `benchmarks.align`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.align_cases import clip_cases, demo_cases, demo_groups, demo_of, once, tallied
from benchmarks.align_tally import merged
from benchmarks.damage import clips
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
    """Two hours in one piece, in a process of its own: the clips again and again, their transcript without damage."""

    def make() -> dict[str, Any]:
        command = [sys.executable, "-m", "benchmarks.align_speed", str(args.corpus), args.aligner]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return dict(json.loads(done.stdout))

    return once(args.work / "memory.json", make)


def two_hours(corpus: Path, name: str) -> dict[str, Any]:
    """What two hours take: peak memory of the whole process, recording included; speed; sentences kept."""
    from speechmill.align.aligners import open_aligner
    from speechmill.align.base import Sentence
    from speechmill.align.recording import align_recording

    samples, said = clips(corpus)
    times = int(-(-_HOURS * 3600 * RATE // len(samples)))
    long, texts = np.tile(samples, times), [one.text for one in said] * times
    started = time.process_time()
    aligner = open_aligner(name)
    found = align_recording(
        aligner, long, [Sentence(place, text, tuple(aligner.read(text))) for place, text in enumerate(texts)]
    )
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {
        "hours": len(long) / RATE / 3600,
        "megabytes": peak / 1024,
        "realtime": len(long) / RATE / (time.process_time() - started),
        "sentences": len(texts),
        "kept": sum(outcome.kept for outcome in found.outcomes),
    }


def processes(args: Namespace) -> dict[str, Any]:
    """Wall-clock of `speechmill align` over the same calls with one process and with two, by turns."""
    demo = demo_of(args)

    def make() -> dict[str, Any]:
        folder = args.work / "processes"
        speechmill("import", "bizspeech", demo, folder / "corpus.parquet")
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for turn in range(2):
            for count in seconds:
                out = folder / f"{count}-{turn}.parquet"
                started = time.monotonic()
                speechmill("align", folder / "corpus.parquet", out, "--aligner", args.aligner, "--processes", count)
                seconds[count].append(time.monotonic() - started)
        return {"seconds_one": seconds[1], "seconds_two": seconds[2], "gain": min(seconds[1]) / min(seconds[2])}

    return once(args.work / "processes.json", make)


if __name__ == "__main__":
    print(json.dumps(two_hours(Path(sys.argv[1]), sys.argv[2])))
