"""Recordings with damaged transcripts, aligned one at a time, for the parts of `benchmarks.align`."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.align_tally import Tally, from_json
from benchmarks.damage import Said, Written, clips, damaged, demo_call
from benchmarks.lab import speechmill
from speechmill.align.base import Aligner, Sentence
from speechmill.align.recording import Aligned, align_recording
from speechmill.artefact import read_json, write_json
from speechmill.audio import RATE, Pcm, decode


def sentences(aligner: Aligner, written: Sequence[Written]) -> list[Sentence]:
    """A transcript as the aligner takes it."""
    return [Sentence(place, one.text, tuple(aligner.read(one.text)), one.speaker) for place, one in enumerate(written)]


def one_recording(aligner: Aligner, samples: Pcm, written: Sequence[Written], tally: Tally) -> Aligned:
    """Align, and add to a tally."""
    started = time.process_time()
    found = align_recording(aligner, samples, sentences(aligner, written))
    tally.work += time.process_time() - started
    tally.seconds += len(samples) / RATE
    tally.add(written, found.outcomes)
    return found


def once(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was computed before and kept there, or now."""
    if not path.exists():
        found = make()
        write_json(path, found)
        shown = {key: value for key, value in found.items() if not isinstance(value, list)}
        print(f"{path}: {json.dumps(shown)}", file=sys.stderr, flush=True)
    return dict(read_json(path))


def tallied(path: Path, aligner: Aligner, case: Callable[[], tuple[Pcm, Sequence[Written]]]) -> Tally:
    """The tally of one recording, computed once."""

    def make() -> dict[str, Any]:
        tally = Tally()
        one_recording(aligner, *case(), tally)
        return tally.as_json()

    return from_json(once(path, make))


def rows_of(corpus: Path) -> list[list[str]]:
    """metadata.csv of a folder in the shape of ljspeech_part."""
    return [line.split("|") for line in (corpus / "metadata.csv").read_text(encoding="utf-8").splitlines() if line]


def clip_cases(corpus: Path, percent: int, seed: int) -> Iterator[tuple[str, Callable[[], tuple[Pcm, list[Written]]]]]:
    """A folder of clips as two recordings; what is inserted into one's transcript was said in the other."""
    texts = [row[1] for row in rows_of(corpus)]
    middle = len(texts) // 2
    for number, (first, last) in enumerate(((0, middle), (middle, len(texts)))):

        def case(number: int = number, first: int = first, last: int = last) -> tuple[Pcm, list[Written]]:
            samples, said = clips(corpus, first, last)
            return samples, damaged(said, texts[:first] + texts[last:], percent, 10 * seed + number)

        yield f"half{number}", case


def demo_groups(demo: Path, calls: int) -> dict[str, list[Path]]:
    """The first calls of a demo corpus, native and not."""
    metadata = read_json(demo / "metadata" / "BizSpeech_MetaData.json")
    groups: dict[str, list[Path]] = {"native": [], "non-native": []}
    for event, row in metadata.items():
        group = groups["native" if row["partition"] == 5 else "non-native"]
        if len(group) < calls:
            group.append(demo / "MEDIA" / event)
    return groups


def demo_cases(
    folders: Sequence[Path], percent: int, seed: int
) -> Iterator[tuple[str, Callable[[], tuple[Pcm, list[Written]]]]]:
    """Calls of a demo corpus; what is inserted into one's transcript comes from the next."""
    for number, folder in enumerate(folders):

        def case(number: int = number, folder: Path = folder) -> tuple[Pcm, list[Written]]:
            recording, written = demo_transcript(folder, folders[(number + 1) % len(folders)], percent, seed, number)
            return decode(recording), written

        yield folder.name, case


def demo_transcript(folder: Path, other: Path, percent: int, seed: int, number: int) -> tuple[Path, list[Written]]:
    """The recording of a call, and its damaged transcript with sentences of another call."""
    recording, said = demo_call(folder)
    spoken = {one.text for one in said}
    others = [one.text for one in demo_call(other)[1] if one.words and one.text not in spoken]
    return recording, damaged(said, others, percent, 1000 * seed + number)


def undamaged(said: Sequence[Said]) -> list[Written]:
    return damaged(said, [], 0, 0)


def demo_of(args: Namespace) -> Path:
    """The demo corpus that was given, or one made under --work."""
    if args.demo:
        return Path(args.demo)
    folder: Path = args.work / "demo"
    speechmill("demo-corpus", folder, "--calls", args.demo_calls, "--hours", args.demo_calls / 20, "--seed", args.seed)
    return folder
