"""How fast shards are written, beside what others use and the limit that the encoder sets.

    python -m benchmarks.shards [--quick] [--json -]

From decoded 16 kHz samples in memory to shards on disk, each process on a core of its own, sides in turn, medians. Ours
is all that `speechmill shard` does but planning and decoding: checks, audio, fsync, index, ledger, checksums. The limit
(`encode_loop`) is soundfile; `chosen_encoder` is what we encode with, alone; `libsndfile` is ours on a machine without
pyflac, and the bytes of both encoders are compared, utterance by utterance. Two processes write a folder each, as two
workers of a job do: what both wrote in the time of the slower is compared with one alone.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import soundfile

from benchmarks.machine import machine
from benchmarks.speech import RATE, Utterance, repeated, seconds_of, utterances, write_corpus
from speechmill.artefact import write_json
from speechmill.audio import encode_flac
from speechmill.settings import ShardSettings
from speechmill.shards import codecs, flac, write
from speechmill.shards.codecs import decode_into, encode
from speechmill.shards.flac import FlacEncoder

RESULT = Path(__file__).parent / "results" / "shards.json"
_QUICK, _FULL = 40 * 60.0, 5 * 3600.0  # seconds of audio
_SHARD_SECONDS = 900.0
_LEVELS = (0.0, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)  # of libsndfile: libFLAC's 0 to 8


@dataclass
class Writer:
    """What a process needs: the utterances in memory, their manifest, a folder."""

    speech: list[Utterance]
    folder: Path
    per_shard: int

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.manifest = write_corpus(self.speech, self.folder, "speech")
        self.audio = np.concatenate([utterance.samples for utterance in self.speech])

    def run(self, side: str) -> float:
        """Wall-clock seconds of one side, into a new folder."""
        out = self.folder / "out"
        try:
            return float(_SIDES[side](self, out))
        finally:
            shutil.rmtree(out, ignore_errors=True)


def ours(writer: Writer, out: Path, codec: Any = "flac") -> float:
    """All but the plan: that is made once for all workers, before a sample is decoded; `benchmarks.scale` times it."""
    settings = ShardSettings(codec=codec, shard_seconds=_SHARD_SECONDS)
    write._make_plan(writer.manifest, out, settings)
    with replaced(write, "decode", lambda path, rate: writer.audio):  # noqa: ARG005
        started = time.perf_counter()
        write.shard_manifest(writer.manifest, out, settings, 1)
        return time.perf_counter() - started


@contextlib.contextmanager
def replaced(module: ModuleType, name: str, by: Callable[..., Any]) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, by)
    try:
        yield
    finally:
        setattr(module, name, before)


def by_libsndfile(writer: Writer, out: Path) -> float:
    with replaced(codecs, "_flac_encoder", libsndfile_encoder):
        return ours(writer, out)


@cache
def libsndfile_encoder() -> FlacEncoder:
    with replaced(flac, "_trusted_libflac", lambda: None):
        return FlacEncoder()


def bare_encoding(writer: Writer, out: Path) -> float:
    """The limit: every utterance encoded by soundfile into memory, nothing written."""
    del out
    started = time.perf_counter()
    for utterance in writer.speech:
        encode_flac(utterance.samples, RATE)
    return time.perf_counter() - started


def chosen_encoder(writer: Writer, out: Path) -> float:
    """The same by the encoder that the shards are written with."""
    del out
    started = time.perf_counter()
    for utterance in writer.speech:
        encode("flac", utterance.samples, RATE)
    return time.perf_counter() - started


def lhotse(writer: Writer, out: Path) -> float:
    from benchmarks.readers import write_lhotse

    started = time.perf_counter()
    write_lhotse(writer.speech, out, writer.per_shard)
    return time.perf_counter() - started


def webdataset(writer: Writer, out: Path) -> float:
    from webdataset import TarWriter

    out.mkdir()
    started = time.perf_counter()
    for first in range(0, len(writer.speech), writer.per_shard):
        with TarWriter(str(out / f"{first:06d}.tar")) as tar:
            for number, utterance in enumerate(writer.speech[first : first + writer.per_shard], first):
                audio = io.BytesIO()
                soundfile.write(audio, utterance.samples, RATE, format="FLAC", subtype="PCM_16")
                about = json.dumps({"text": utterance.text}).encode()
                tar.write({"__key__": f"{number:06d}", "flac": audio.getvalue(), "json": about})
    return time.perf_counter() - started


def original(writer: Writer, out: Path) -> float:
    from benchmarks.readers import original as layout

    started = time.perf_counter()
    layout(writer.speech, out, writer.per_shard)
    return time.perf_counter() - started


_SIDES: dict[str, Callable[[Writer, Path], float]] = {
    "flac": ours,
    "encode_loop": bare_encoding,
    "chosen_encoder": chosen_encoder,
    "libsndfile": by_libsndfile,
    "lhotse": lhotse,
    "webdataset": webdataset,
    "original": original,
    "wav": lambda writer, out: ours(writer, out, "wav"),
    "opus": lambda writer, out: ours(writer, out, "opus"),
}


def serve(connection: Connection, core: int, folder: str, seconds: float) -> None:
    """A process that writes what it is asked for; it answers with wall-clock seconds."""
    os.sched_setaffinity(0, {core})
    speech = repeated(utterances()[0], seconds)
    writer = Writer(speech, Path(folder), round(_SHARD_SECONDS / seconds_of(speech) * len(speech)))
    bare_encoding(Writer(speech[:10], Path(folder) / "warm", 1), Path())
    connection.send(seconds_of(speech))
    while side := connection.recv():
        connection.send(writer.run(side))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 minutes of audio, within a minute")
    parser.add_argument(
        "--json", help="where to write the result, - for standard output (default: results/shards.json)"
    )
    args = parser.parse_args()
    seconds, rounds = (_QUICK, 5) if args.quick else (_FULL, 3)
    with tempfile.TemporaryDirectory() as folder, processes(Path(folder), seconds) as workers:
        heard = workers[0].recv(), workers[1].recv()
        figures = measured(
            workers,
            heard[0],
            rounds,
            ["flac", "encode_loop", "chosen_encoder", "libsndfile", "lhotse", "webdataset", "two"],
        )
        slow = measured(workers, heard[0], 1, ["wav"] if args.quick else ["wav", "opus", "original"])
    speeds = figures["realtime"] | slow["realtime"]
    result = machine() | {
        "audio": utterances()[1],
        "audio_seconds": round(heard[0]),
        "rounds": rounds,
        "flac_vs_encode_limit": ratio(figures["of_round"], "flac", "encode_loop"),
        "flac_encoder": codecs.flac_encoder(),
        "utterances_with_other_bytes_by_libsndfile": other_bytes(),
        "libsndfile_vs_encode_limit": ratio(figures["of_round"], "libsndfile", "encode_loop"),
        "flac_vs_chosen_encoder": ratio(figures["of_round"], "flac", "chosen_encoder"),
        "flac_vs_lhotse": ratio(figures["of_round"], "flac", "lhotse"),
        "flac_vs_webdataset": ratio(figures["of_round"], "flac", "webdataset"),
        "two_process_speedup": ratio(figures["of_round"], "two", "flac"),
        "realtime": speeds,
        "flac_levels": [] if args.quick else levels(),
    }
    if args.json == "-":
        print(json.dumps(result, indent=1))
    else:
        write_json(Path(args.json) if args.json else RESULT, result)


@contextlib.contextmanager
def processes(folder: Path, seconds: float) -> Iterator[list[Connection]]:
    """Two of them, each with its core (the last two that there are) and its folder."""
    context = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0))
    started = []
    for number in range(2):
        here, there = context.Pipe()
        core = cores[-1 - number % len(cores)]
        process = context.Process(target=serve, args=(there, core, str(folder / f"of-{number}"), seconds), daemon=True)
        process.start()
        started.append((process, here))
    try:
        yield [here for _, here in started]
    finally:
        for process, here in started:
            with contextlib.suppress(OSError):
                here.send("")
            process.join()


def measured(workers: list[Connection], seconds: float, rounds: int, sides: list[str]) -> dict[str, Any]:
    """Times real time of each side: of every round, and the median. "two" is both processes at once."""
    of_round: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds):
        # The other core in the next round: cores of a shared machine are not alike.
        one = workers[number % 2]
        for side in sides if number % 2 == 0 else reversed(sides):
            asked = workers if side == "two" else [one]
            for worker in asked:
                worker.send("flac" if side == "two" else side)
            slowest = max(worker.recv() for worker in asked)
            of_round[side].append(len(asked) * seconds / slowest)
            print(f"round {number + 1} of {rounds}: {side} {of_round[side][-1]:.0f}x", file=sys.stderr)
    return {"of_round": of_round, "realtime": {side: round(statistics.median(of_round[side]), 1) for side in sides}}


def ratio(of_round: dict[str, list[float]], ours_: str, theirs: str) -> float:
    """The median over the rounds of what was measured close together."""
    return round(statistics.median(a / b for a, b in zip(of_round[ours_], of_round[theirs], strict=True)), 3)


def other_bytes() -> int:
    """Utterances of the corpus (not repeated) that the two encoders do not give the same bytes for."""
    one, other = FlacEncoder(), libsndfile_encoder()
    return sum(one.encode(each.samples, RATE) != other.encode(each.samples, RATE) for each in utterances()[0])


def levels() -> list[dict[str, float]]:
    """Speed and size of libFLAC's levels, on 20 minutes; decoding by the loader's decoder."""
    speech = utterances()[0]
    seconds, rows = seconds_of(speech), []
    for level in _LEVELS:
        started = time.perf_counter()
        coded = [encoded(utterance, level) for utterance in speech]
        written = time.perf_counter()
        for data, utterance in zip(coded, speech, strict=True):
            decode_into(data, np.empty(len(utterance.samples), np.int16), RATE)
        read = time.perf_counter()
        size = sum(map(len, coded)) / seconds * 0.0036
        speed = {"encode": round(seconds / (written - started)), "decode": round(seconds / (read - written))}
        rows.append({"level": level, "megabytes_an_hour": round(size, 1), **speed})
    return rows


def encoded(utterance: Utterance, level: float) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, utterance.samples, RATE, format="FLAC", subtype="PCM_16", compression_level=level)
    return stream.getvalue()


if __name__ == "__main__":
    main()
