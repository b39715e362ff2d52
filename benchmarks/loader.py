"""How fast one loader worker hands over batches, beside what others use and the limit that the decoder sets.

    python -m benchmarks.loader [--quick] [--json -]

The same audio for all, everything on one core, page cache warm, sides in turn, medians; ratios are of what a round has.
A side's figure is seconds of audio per second, from the first batch of an epoch to its last, so that neither the start
nor the end of processes is in it. Ours reads, decodes, tokenises, batches, pads and hands over; the others do the same
but tokenise. Of the original's layout --quick has ten minutes only: to write it takes longer than all else.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import torch

from benchmarks.machine import machine
from benchmarks.speech import RATE, Utterance, repeated, seconds_of, utterances, write_corpus
from speechmill.artefact import write_json
from speechmill.loader import BatchDataset, batches, utterances_of
from speechmill.schedule import Schedule
from speechmill.settings import ScheduleSettings, ShardSettings, TokenizerSettings
from speechmill.shards.codecs import decode_into, flac_decoder
from speechmill.shards.index import open_index
from speechmill.shards.write import shard_manifest
from speechmill.tokenizer import Tokenizer, train_tokenizer

if TYPE_CHECKING:
    from benchmarks.readers import Open, Stream

RESULT = Path(__file__).parent / "results" / "loader.json"
_QUICK, _FULL = 40 * 60.0, 5 * 3600.0  # seconds of audio
_ORIGINAL_QUICK = 10 * 60.0  # seconds of audio of the original's layout
_SHARD_SECONDS = 900.0
_PADDING = (
    "padding", "padding_speechbrain", "padding_lhotse", "neighbours_to_chance", "near_to_window_chance"
)  # fmt: skip
_PIECES = 800  # of the tokenizer


@dataclass(frozen=True)
class Side:
    """`run` reads everything so many times over and returns (seconds of audio, wall-clock seconds)."""

    name: str
    run: Callable[[int], tuple[float, float]]
    epochs: int = 1  # in a round of --quick, so that a fast side is measured about as long as a slow one
    rounds: int = 100  # at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 minutes of audio, within a minute")
    parser.add_argument(
        "--json", help="where to write the result, - for standard output (default: results/loader.json)"
    )
    args = parser.parse_args()
    one_core()
    speech, what = utterances()
    speech = repeated(speech, _QUICK if args.quick else _FULL)
    with tempfile.TemporaryDirectory() as folder:
        sides = make_sides(speech, Path(folder), args.quick)
        rounds = 3
        speeds = in_turn(sides, rounds, args.quick)
        sizes = megabytes_an_hour(Path(folder), seconds_of(speech), args.quick)
    figures = {
        "audio": what,
        "audio_seconds": round(seconds_of(speech)),
        "rounds": rounds,
        **ratios(speeds),
        **padding(),
    }
    figures |= {
        "flac_decoder": flac_decoder(),
        "realtime": {name: round(statistics.median(values), 1) for name, values in speeds.items()},
    }
    figures |= {"megabytes_an_hour": sizes}
    result = machine() | {"versions": machine()["versions"] | versions()} | figures
    if args.json == "-":
        print(json.dumps(result, indent=1))
    else:
        write_json(Path(args.json) if args.json else RESULT, result)


def one_core() -> None:
    """This process and all that it starts share one core: the figures are per core, however many processes."""
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("miniaudio", "av", "webdataset", "lhotse")}


def make_sides(speech: list[Utterance], folder: Path, quick: bool) -> list[Side]:
    """Write every layout, and what reads it."""
    from benchmarks import readers  # not above: every loader worker imports this module anew

    manifest = write_corpus(speech, folder, "speech")
    tokenizer, _ = train_tokenizer(manifest, folder / "speech.model", TokenizerSettings(kind="bpe", size=_PIECES))
    shards = {codec: folder / codec for codec in ("flac", "wav", "opus")}
    for codec, place in shards.items():
        if codec != "opus" or not quick:
            shard_manifest(manifest, place, ShardSettings(codec=codec, shard_seconds=_SHARD_SECONDS), 1)
    per_shard = round(_SHARD_SECONDS / seconds_of(speech) * len(speech))
    total = seconds_of(speech)
    some = repeated(speech, _ORIGINAL_QUICK) if quick else speech
    theirs = {
        "original": readers.original(some, folder / "original", per_shard),
        "webdataset": readers.flac_webdataset(speech, shards["flac"]),
        "lhotse": readers.lhotse_shar(speech, folder / "lhotse", per_shard),
        "loose_wav": readers.loose_files(speech, folder / "loose"),
    }
    payloads = flac_payloads(shards["flac"])
    sides = [
        Side("flac", lambda epochs: ours(shards["flac"], tokenizer, epochs), 4),
        Side("libsndfile_loop", lambda epochs: bare_libsndfile(payloads, total, epochs), 2),
        Side("decoder_loop", lambda epochs: bare_decoder(payloads, total, epochs), 4),
        Side("pcm", lambda epochs: ours(shards["wav"], tokenizer, epochs), 12),
        *(Side(name, lambda epochs, open_=open_: stream(open_, epochs)) for name, open_ in theirs.items()),
    ]
    if not quick:
        sides.append(Side("opus", lambda epochs: ours(shards["opus"], tokenizer, epochs), rounds=1))
    return sides


def ours(shards: Path, tokenizer: Tokenizer, epochs: int) -> tuple[float, float]:
    """One worker of the loader, batches of 180 to 240 s with their padding."""
    index = open_index(shards)
    schedule = Schedule(utterances_of(index, "train", None), ScheduleSettings(window_shards=4))
    last = 0
    while schedule.locate(last)[0] < epochs:
        last += 1
    dataset = BatchDataset(index, schedule, tokenizer)
    with contextlib.closing(batches(dataset, range(last), 1, pin=False)) as loaded:
        return timed(((batch.audio, batch.lengths) for batch in loaded), RATE)


def stream(open_stream: Open, epochs: int) -> tuple[float, float]:
    heard = spent = 0.0
    for _ in range(epochs):
        seconds, clock = timed(open_stream(), RATE)
        heard, spent = heard + seconds, spent + clock
    return heard, spent


def timed(batches_: Stream, rate: int) -> tuple[float, float]:
    """Seconds of audio behind the first batch, and how long they took: until the last is there."""
    samples, started, last = -1, 0.0, 0.0
    for _, lengths in batches_:
        last = time.perf_counter()
        if samples < 0:
            samples, started = 0, last
        else:
            samples += int(lengths.sum())
    return samples / rate, last - started


def flac_payloads(shards: Path) -> list[tuple[bytes, int]]:
    """Every encoded utterance, in memory, and its samples."""
    index = open_index(shards)
    found = []
    for row in range(len(index)):
        with index.shard_path(int(index.shard[row])).open("rb") as file:
            file.seek(int(index.offset[row]))
            found.append((file.read(int(index.size[row])), int(index.samples[row])))
    return found


def bare_libsndfile(payloads: list[tuple[bytes, int]], seconds: float, epochs: int) -> tuple[float, float]:
    started = time.perf_counter()
    for _ in range(epochs):
        for data, _ in payloads:
            soundfile.read(io.BytesIO(data), dtype="int16")
    return epochs * seconds, time.perf_counter() - started


def bare_decoder(payloads: list[tuple[bytes, int]], seconds: float, epochs: int) -> tuple[float, float]:
    """The decoder that the loader uses, into one buffer."""
    buffer = np.empty(max(samples for _, samples in payloads), np.int16)
    started = time.perf_counter()
    for _ in range(epochs):
        for data, samples in payloads:
            decode_into(data, buffer[:samples], RATE)
    return epochs * seconds, time.perf_counter() - started


def in_turn(sides: list[Side], rounds: int, quick: bool) -> dict[str, list[float]]:
    """Times real time in each round; every round has each side once."""
    speeds: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            if number >= side.rounds:
                continue
            heard, spent = side.run(side.epochs if quick else 1)
            speeds[side.name].append(heard / spent)
            print(f"round {number + 1} of {rounds}: {side.name} {heard / spent:.0f}x", file=sys.stderr)
    return speeds


def ratios(speeds: dict[str, list[float]]) -> dict[str, float]:
    """The medians over the rounds of what was measured close together."""

    def ours_over(theirs: str) -> float:
        return round(statistics.median(a / b for a, b in zip(speeds["flac"], speeds[theirs], strict=True)), 3)

    return {
        "flac_vs_decode_limit": ours_over("libsndfile_loop"),
        "flac_vs_chosen_decoder": ours_over("decoder_loop"),
        "flac_vs_webdataset": ours_over("webdataset"),
        "flac_vs_lhotse": ours_over("lhotse"),
        "flac_vs_original": ours_over("original"),
        "flac_vs_loose_wav": ours_over("loose_wav"),
        "pcm_realtime": round(statistics.median(speeds["pcm"]), 1),
    }


def padding() -> dict[str, Any]:
    """Of 100,000 utterances; `benchmarks.padding` has more of it."""
    from benchmarks.padding import padding_figures

    figures = padding_figures(quick=True)
    return {name: figures[name] for name in _PADDING}


def megabytes_an_hour(folder: Path, seconds: float, quick: bool) -> dict[str, float]:
    """Of each layout on disk."""
    hours = {"original": _ORIGINAL_QUICK / 3600} if quick else {}
    places = [place for place in folder.iterdir() if place.is_dir()]
    bytes_of = {place.name: sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) for place in places}
    return {name: round(size / 1e6 / hours.get(name, seconds / 3600), 1) for name, size in sorted(bytes_of.items())}


if __name__ == "__main__":
    main()
