"""What `speechmill overlap` finds of what was planted, and how long it takes.

    python -m benchmarks.overlap [--quick] [--json FILE|-]

Text: two manifests of 100,000 sentences each (random words with the frequencies of a language; a hundredth of the
second side is the first's with up to a fifth of the words changed); the other way is to compare all pairs with
rapidfuzz, timed on a part and stated for the whole. Audio: every second sentence of ../shared/data/ljspeech_part, put
together into calls (8 kHz MP3 of variable rate, soft), against all sentences as they are.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile
import soxr
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from benchmarks.machine import machine
from speechmill.artefact import write_json
from speechmill.overlap.sound import same_sound
from speechmill.overlap.texts import same_text

LJSPEECH = Path("../shared/data/ljspeech_part")
RESULT = Path("benchmarks/results/overlap.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows and of the sentences")
    parser.add_argument("--json", default=str(RESULT), metavar="FILE", help="(default: %(default)s); - prints it")
    args = parser.parse_args()
    record: dict[str, Any] = {"text": text(10_000 if args.quick else 100_000), "machine": machine()}
    if LJSPEECH.is_dir():
        record["audio"] = audio(20 if args.quick else 190)
    if args.json == "-":
        print(json.dumps(record, indent=1))
    else:
        write_json(Path(args.json), record)


def text(rows: int, rounds: int = 3) -> dict[str, Any]:
    rng = random.Random(0)
    words = [f"word{number}" for number in range(20_000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]  # Zipf's law, nearly
    ours = [rng.choices(words, weights, k=rng.randint(6, 30)) for _ in range(rows)]
    planted = rng.sample(range(rows), rows // 100)
    theirs = [changed(ours[number], words, rng) for number in planted]
    theirs += [rng.choices(words, weights, k=rng.randint(6, 30)) for _ in range(rows - len(theirs))]
    a, b = (
        pl.DataFrame(
            {
                "id": (ids := [f"{name}{number}" for number in range(rows)]),
                "call": ids,
                "text": [" ".join(part) for part in side],
            }
        )
        for name, side in (("a", ours), ("b", theirs))
    )
    seconds, by_pairs = [], []
    part = 300
    for _ in range(rounds):
        started = time.perf_counter(), time.process_time()
        found = same_text(a, b).pairs
        seconds.append((time.perf_counter() - started[0], time.process_time() - started[1]))
        begun = time.perf_counter()
        cdist(ours[:part], theirs[:part], scorer=Levenshtein.normalized_similarity, score_cutoff=0.8)
        by_pairs.append((time.perf_counter() - begun) * (rows / part) ** 2)
    wanted = {(f"a{number}", f"b{place}") for place, number in enumerate(planted)}
    got = set(found.select("a", "b").iter_rows())
    return {
        "rows": rows, "planted": len(wanted), "found_of_planted": len(wanted & got), "found_besides": len(got - wanted),
        "seconds": median(wall for wall, _ in seconds), "cpu_seconds": median(cpu for _, cpu in seconds),
        "all_pairs_seconds_extrapolated": median(by_pairs),
    }  # fmt: skip


def changed(text: list[str], words: list[str], rng: random.Random) -> list[str]:
    """Up to a fifth of the words are other ones."""
    text = text.copy()
    for place in rng.sample(range(len(text)), rng.randint(0, len(text) // 5)):
        text[place] = rng.choice(words)
    return text


def audio(sentences: int) -> dict[str, Any]:
    paths = sorted(LJSPEECH.glob("*.flac"))[:sentences]
    with tempfile.TemporaryDirectory() as folder:
        calls, times, planted = [], [], set()
        for number in range(0, len(paths), 20):
            part, place = [], 0.0
            for path in paths[number : number + 20][::2]:
                samples, rate = soundfile.read(path, dtype="float32")
                calls.append((f"call_{path.stem}", f"{folder}/{number}.mp3", place, place + len(samples) / rate))
                planted.add((f"call_{path.stem}", path.stem))
                part += [samples, np.zeros(rate // 5, np.float32)]
                place += len(samples) / rate + 0.2
            low = 0.3 * soxr.resample(np.concatenate(part), rate, 8000)
            soundfile.write(f"{folder}/{number}.mp3", low, 8000, format="MP3", subtype="MPEG_LAYER_III",
                            bitrate_mode="VARIABLE", compression_level=0.9)  # fmt: skip
        schema = ["id", "recording", "start", "end"]
        a = pl.DataFrame(calls, schema=schema, orient="row")
        b = pl.DataFrame(
            [(path.stem, str(path.resolve()), 0.0, soundfile.info(path).duration) for path in paths], schema=schema,
            orient="row",
        )  # fmt: skip
        started = time.perf_counter(), time.process_time()
        found = same_sound(a, b).pairs
        times = [time.perf_counter() - started[0], time.process_time() - started[1]]
    got = set(found.select("a", "b").iter_rows())
    sound = float((a["end"] - a["start"]).sum() + (b["end"] - b["start"]).sum())
    return {
        "sentences": len(paths), "planted": len(planted), "found_of_planted": len(planted & got),
        "found_besides": len(got - planted), "least_similarity": round(float(found["similarity"].min() or 0), 3),
        "audio_seconds": round(sound, 1), "seconds": round(times[0], 2), "cpu_seconds": round(times[1], 2),
    }  # fmt: skip


def median(values: Any) -> float:
    return round(float(np.median(list(values))), 2)


if __name__ == "__main__":
    main()
