"""A stand-in aligner that hears what a script says, and sound to go with it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import soundfile

from speechmill.align.base import Floats, Heard, Open, Passage, Sentence, Stretch, Transcribed
from speechmill.align.spoken import Token, read_aloud
from speechmill.audio import RATE, Pcm
from speechmill.manifest import SCHEMA, write_manifest

WORD = 0.3  # seconds of a word in `said`
PAUSE = 0.5  # seconds between its sentences
SHORTEST = 0.05  # seconds a letter: words that have less fit worse


class Scripted:
    """Hears `script`, whatever the sound; fits nothing, so that first-pass times stand."""

    version = "1"

    def __init__(self, script: Sequence[Heard]) -> None:
        self.script = list(script)

    def read(self, text: str) -> list[Token]:
        return read_aloud(text)

    def prepare(self, sentences: Sequence[Sentence]) -> None:
        self.sentences = sentences

    def listen(self, samples: Pcm) -> Iterator[list[Heard]]:
        del samples
        yield self.script

    def learn_voices(self, samples: Pcm, passages: Sequence[Passage]) -> None:
        del samples, passages

    def hear(self, samples: Pcm) -> list[Transcribed] | None:
        del samples
        return None

    def hear_between(self, samples: Pcm, words: Sequence[str | Open]) -> list[str | None] | None:
        del samples, words
        return None

    def listen_again(self, samples: Pcm, expected: Sequence[Sentence]) -> None:
        del samples, expected

    def stretch(self, samples: Pcm, start: float, end: float, speaker: str) -> Stretch | None:
        del samples, start, end, speaker
        return None

    def fit(self, samples: Pcm, words: Sequence[str]) -> None:
        del samples, words


class Loud:
    """Tells by the loudness of each sample which sentence is spoken, and fits no other one's words as well."""

    def __init__(self, samples: Pcm, loudness: dict[tuple[str, ...], int]) -> None:
        self.samples, self.loudness = samples, loudness

    def fits(self, texts: Sequence[Sequence[str]], cuts: Sequence[float], longest: float) -> Floats:
        found = np.full((len(texts), len(cuts), len(cuts)), -np.inf, np.float32)
        for number, text in enumerate(texts):
            for (first, start), (last, end) in itertools.combinations(enumerate(cuts), 2):
                part = self.samples[round(start * RATE) : round(end * RATE)]
                if end - start <= longest and part.any():
                    right = np.mean(np.abs(part[part != 0]) == self.loudness.get(tuple(text), -1))
                    needed = SHORTEST * sum(len(word) + 1 for word in text)
                    found[number, first, last] = -9.0 + 3.0 * right * min(1.0, np.count_nonzero(part) / RATE / needed)
        return found

    def times(self, words: Sequence[str], start: float, end: float) -> list[Heard]:
        spoken = np.flatnonzero(self.samples[round(start * RATE) : round(end * RATE)]) / RATE + start
        step = (spoken[-1] - spoken[0]) / len(words)
        return [Heard(word, spoken[0] + n * step, spoken[0] + (n + 1) * step) for n, word in enumerate(words)]


def sentences(texts: Sequence[str]) -> list[Sentence]:
    return [Sentence(place, text, tuple(read_aloud(text))) for place, text in enumerate(texts)]


def said(texts: Sequence[str], start: float = 0.5) -> tuple[Pcm, list[Heard], list[tuple[float, float]]]:
    """Sound with a burst for each word, what an aligner would hear of it, and each sentence's start and end."""
    heard: list[Heard] = []
    spans: list[tuple[float, float]] = []
    clock = start
    for sentence in sentences(texts):
        begin = clock
        for token in sentence.tokens:
            for word in token.readings[0]:
                heard.append(Heard(word, clock, clock + WORD))
                clock += WORD
        spans.append((begin, clock))
        clock += PAUSE
    samples = np.zeros(round((clock + 0.5) * RATE), np.int16)
    rng = np.random.default_rng(0)
    for word in heard:
        first, last = round(word.start * RATE), round(word.end * RATE)
        samples[first:last] = rng.integers(-9000, 9000, last - first)
    return samples, heard, spans


def manifest(folder: Path, recordings: dict[str, tuple[Pcm, Sequence[str]]], **columns: object) -> Path:
    """A manifest over recordings (name -> samples, sentences) without times; extra columns are the same in each row."""
    rows = []
    for name, (samples, texts) in recordings.items():
        path = folder / f"{name}.wav"
        if len(samples):
            soundfile.write(path, samples, RATE, subtype="PCM_16")
        rows += [
            {"id": f"{name}_{place}", "recording": str(path), "start": None, "end": None, "text": text, "speaker": "s",
             "call": name, "session": "", "native": True, "split": "", **columns}
            for place, text in enumerate(texts)
        ]  # fmt: skip
    schema = {**SCHEMA, **{name: pl.Series([value]).dtype for name, value in columns.items()}}
    write_manifest(pl.DataFrame(rows, schema=schema), folder / "in.parquet")
    return folder / "in.parquet"
