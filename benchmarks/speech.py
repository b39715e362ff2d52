"""Speech for the benchmarks of shards and loader: real where `../shared/data` is, else synthetic; repeated to a length.

Nothing of it is kept: manifests and recordings live in a benchmark's temporary folder.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import soundfile

from speechmill.errors import SpeechmillError
from speechmill.manifest import write_manifest

RATE = 16_000  # Hz
REAL = Path(__file__).parent.parent.parent / "shared" / "data" / "ljspeech_part"
_SYNTHETIC_HOURS = 0.34  # as much as the real speech has


@dataclass(frozen=True)
class Utterance:
    samples: npt.NDArray[np.int16]
    text: str


def utterances(folder: Path = REAL) -> tuple[list[Utterance], str]:
    """About 20 minutes of utterances at 16 kHz, and what they are."""
    if (folder / "metadata.csv").is_file():
        return _real(folder), f"{folder.name}: read speech, one reader"
    if importlib.util.find_spec("espeakng_loader") is None:
        raise SpeechmillError(
            f"{folder}: no speech there, and no eSpeak NG to make some: pip install 'speechmill[demo]'."
        )
    return _synthetic(), "synthetic speech (eSpeak NG), several voices"


def _real(folder: Path) -> list[Utterance]:
    lines = (line.split("|") for line in (folder / "metadata.csv").read_text(encoding="utf-8").splitlines())
    return [Utterance(soundfile.read(folder / f"{name}.flac", dtype="int16")[0], text) for name, text, _ in lines]


def _synthetic() -> list[Utterance]:
    from speechmill.corpora.demo.render import render
    from speechmill.corpora.demo.script import write_calls

    found = []
    for call in write_calls(2, _SYNTHETIC_HOURS, 0):
        spoken = render(call, RATE, call.event)
        samples = np.clip(np.rint(spoken.samples * 32768), -32768, 32767).astype(np.int16)
        found += [
            Utterance(samples[round(time.start * RATE) : round(time.end * RATE)], sentence.text)
            for sentence, time in zip(call.sentences, spoken.sentences, strict=True)
        ]
    return found


def seconds_of(speech: list[Utterance]) -> float:
    return sum(len(utterance.samples) for utterance in speech) / RATE


def repeated(speech: list[Utterance], seconds: float) -> list[Utterance]:
    """The utterances again and again until they are `seconds` long; no copy is made."""
    found: list[Utterance] = []
    total = 0
    while total < seconds * RATE:
        found.append(speech[len(found) % len(speech)])
        total += len(found[-1].samples)
    return found


def write_corpus(speech: list[Utterance], folder: Path, name: str) -> Path:
    """One recording with all utterances, and a manifest that cuts them out of it; returns the manifest."""
    recording = folder / f"{name}.wav"
    ends = np.cumsum([len(utterance.samples) for utterance in speech]) / RATE
    starts = np.concatenate([[0.0], ends[:-1]])
    soundfile.write(recording, np.concatenate([utterance.samples for utterance in speech]), RATE, subtype="PCM_16")
    table = pl.DataFrame(
        {
            "id": [f"{name}-{number:05d}" for number in range(len(speech))],
            "recording": str(recording),
            "start": starts,
            "end": ends,
            "text": [utterance.text for utterance in speech],
            "speaker": "reader",
            "call": [f"{name}-{number // 50:04d}" for number in range(len(speech))],
            "session": "",
            "native": pl.Series([None] * len(speech), dtype=pl.Boolean),
            "split": "train",
        }
    )
    write_manifest(table, folder / f"{name}.parquet")
    return folder / f"{name}.parquet"
