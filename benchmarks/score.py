"""The scorer's speed, memory and totals, beside jiwer and rapidfuzz in the same run.

    python -m benchmarks.score [--quick] [--json -]

Rounds alternate between the sides, medians are given, of wall-clock and of processor seconds: on a machine that others
use, only the latter can be compared between runs. The folders are scored by the command that users have, two at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jiwer
from rapidfuzz.distance import Levenshtein

from benchmarks.machine import machine
from speechmill.artefact import write_json
from speechmill.errors import SpeechmillError
from speechmill.score.align import align, count_errors
from speechmill.score.lattice import Choice, align_lattice

OUT = Path(__file__).with_name("results") / "score.json"
DATA = Path(__file__).parents[2] / "shared" / "data" / "earnings21_eval10"
_PROGRAM = """
import sys
from speechmill.cli import main
status = main()
with open("/proc/self/status") as stream:
    print(next(line for line in stream if line.startswith("VmHWM")), file=sys.stderr)
sys.exit(status)
"""
_COMMAND = [sys.executable, "-c", _PROGRAM, "score"]
_RATE = 0.2  # errors per word of what is made up here: that of a cloud service on calls
_VOCABULARY = 5_000
_CORES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and pairs, one system")
    parser.add_argument("--json", metavar="FILE", default=str(OUT), help="- prints the results (default: %(default)s)")
    args = parser.parse_args()
    record = machine() | {
        "recording": recording(rounds=2 if args.quick else 9),
        "totals": totals(pairs=500 if args.quick else 10_000),
        "long": long_recording(20_000 if args.quick else 150_000),
        "long with alternatives": long_recording(20_000 if args.quick else 150_000, 1 / 14),
        "start": start(rounds=2 if args.quick else 7),
        "calls": calls(systems=1 if args.quick else 7),
    }
    if args.json == "-":
        print(json.dumps(record, indent=1))
    else:
        write_json(Path(args.json), record)


def recording(rounds: int, words: int = 15_000) -> dict[str, Any]:
    """One recording: ours without and with alternatives (a choice of four every 14 words), jiwer's, rapidfuzz's."""
    dice = random.Random(0)
    reference, heard = made_up(dice, words)
    lattice: list[str | Choice] = [
        Choice(((word,), *(tuple(text(dice, dice.randint(1, 5))) for _ in range(3))))
        if dice.random() < 1 / 14
        else word
        for word in reference
    ]
    texts = " ".join(reference), " ".join(heard)
    ids = {word: number for number, word in enumerate({*reference, *heard})}
    left, right = [ids[word] for word in reference], [ids[word] for word in heard]
    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: align(reference, heard),
        "ours with alternatives": lambda: align_lattice(lattice, heard),
        "jiwer": lambda: jiwer.process_words(*texts),
        "rapidfuzz": lambda: Levenshtein.editops(left, right),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            wall, cpu = time.perf_counter(), time.process_time()
            side()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        "words": words,
        "choices": sum(isinstance(item, Choice) for item in lattice),
        "seconds": {name: _medians(found) for name, found in times.items()},
    }


def totals(pairs: int) -> dict[str, Any]:
    """Random pairs of all lengths: do our totals equal jiwer's, pair by pair?"""
    dice = random.Random(1)
    unequal = ours = theirs = words = 0
    for _ in range(pairs):
        vocabulary = dice.choice([2, 5, 50, _VOCABULARY])
        reference = text(dice, dice.randint(1, 60), vocabulary)
        heard = noisy(dice, reference, dice.random(), vocabulary)
        mine = count_errors(reference, heard)
        found = jiwer.process_words(" ".join(reference), " ".join(heard))
        total = found.insertions + found.deletions + found.substitutions
        unequal += mine.errors != total
        ours, theirs, words = ours + mine.errors, theirs + total, words + mine.words
    if unequal:
        raise SpeechmillError(f"benchmark: {unequal} of {pairs} pairs have another total than jiwer's.")
    return {"pairs": pairs, "unequal": unequal, "errors": {"ours": ours, "jiwer": theirs}, "words": words}


def long_recording(words: int, choices: float = 0.0) -> dict[str, Any]:
    """One recording of so many words, by the command, from two text files to the report.

    `choices` is the share of words that three other ways stand beside.
    """
    dice = random.Random(2)
    reference, heard = made_up(dice, words)
    if choices:
        reference = [
            "{" + " / ".join([word, *(" ".join(text(dice, dice.randint(1, 5))) for _ in range(3))]) + "}"
            if dice.random() < choices
            else word
            for word in reference
        ]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("reference.txt", "hypothesis.txt")]
        for file, content in zip(files, (reference, heard), strict=True):
            file.write_text(" ".join(content))
        return {"words": words, **command([*map(str, files), "--json", "-"])}


def start(rounds: int) -> dict[str, Any]:
    """Two files of one word, by the command."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "word.txt"
        file.write_text("word\n")
        found = [command([str(file), str(file), "--json", "-"]) for _ in range(rounds)]
    return {key: statistics.median(run[key] for run in found) for key in found[0]}


def calls(systems: int) -> dict[str, Any]:
    """Eval-10: eleven calls for seven systems, without and with alternatives; the whole report."""
    if not DATA.is_dir():
        return {"skipped": f"{DATA} is not there"}
    jobs = [
        [str(DATA / "references"), str(output), *variant, "--json", "-"]
        for output in sorted((DATA / "outputs").iterdir())[:systems]
        for variant in ([], ["--alternatives", str(DATA / "normalizations")])
    ]
    began = time.perf_counter()
    with ThreadPoolExecutor(_CORES) as pool:
        found = list(pool.map(command, jobs))
    return {
        "calls": 11 * len(jobs),
        "wall": time.perf_counter() - began,
        "cpu": sum(run["cpu"] for run in found),
        "peak_megabytes": max(run["peak_megabytes"] for run in found),
    }


def command(arguments: Sequence[str]) -> dict[str, float]:
    """Run `speechmill score` in a process of its own: wall-clock and processor seconds, most memory held."""
    began = time.perf_counter()
    process = subprocess.Popen([*_COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    told = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SpeechmillError(f"benchmark: speechmill score failed: {told}")
    # Not usage.ru_maxrss: that counts what this process held when it was forked.
    kilobytes = int(told.rpartition("VmHWM:")[2].split()[0])
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak_megabytes": kilobytes / 1024}


def made_up(dice: random.Random, words: int) -> tuple[list[str], list[str]]:
    reference = text(dice, words)
    return reference, noisy(dice, reference, _RATE, _VOCABULARY)


def text(dice: random.Random, words: int, vocabulary: int = _VOCABULARY) -> list[str]:
    """Words of which few are frequent, as in a language."""
    return [f"w{min(int(dice.paretovariate(0.6)), vocabulary)}" for _ in range(words)]


def noisy(dice: random.Random, words: Sequence[str], rate: float, vocabulary: int) -> list[str]:
    heard: list[str] = []
    for word in words:
        chance = dice.random()
        if chance < rate / 3:
            continue
        heard.append(word if chance > 2 * rate / 3 else text(dice, 1, vocabulary)[0])
        if dice.random() < rate / 3:
            heard += text(dice, 1, vocabulary)
    return heard


def _medians(times: Sequence[tuple[float, float]]) -> dict[str, float]:
    wall, cpu = zip(*times, strict=True)
    return {"wall": statistics.median(wall), "cpu": statistics.median(cpu)}


if __name__ == "__main__":
    main()
