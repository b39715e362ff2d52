"""Recordings with true times and transcripts that lie: for `benchmarks.align`, a function of a seed.

Long recordings come from a folder in the shape of `ljspeech_part` (`metadata.csv` = id|text|..., ID.flac or ID.wav
beside), joined clip after clip in the order of the list, or are a demo corpus's calls.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from speechmill.align.sound import SECONDS, levels
from speechmill.audio import RATE, Pcm, decode

INSTRUCTIONS = "Operator Instructions"
RANGE = 40.0  # dB under a clip's peak frame: where its speech begins and ends
LEVELS = (0, 10, 20, 30)  # % of damage in all


@dataclass(frozen=True)
class Said:
    """A sentence as it was said: speech from `start` to `end` (seconds), word times where they are known."""

    text: str
    start: float
    end: float
    words: tuple[tuple[str, float, float], ...] = ()
    speaker: str = ""
    session: str = ""


@dataclass(frozen=True)
class Written:
    """A sentence of a damaged transcript. `said` is null where it is false; `harmed` are the numbers of its words that
    were substituted; `dropped` counts words left out of it; `moved` tells that it changed places with its neighbour."""

    text: str
    said: Said | None
    harmed: tuple[int, ...] = ()
    dropped: int = 0
    moved: bool = False
    speaker: str = ""
    session: str = ""

    @property
    def damaged(self) -> bool:
        return bool(self.harmed or self.dropped)


def speech_edges(samples: Pcm) -> tuple[float, float]:
    """Start and end of the speech in a clip, seconds: the first and last 10 ms frame within 40 dB of the loudest."""
    found = levels(samples)
    loud = np.flatnonzero(found >= found.max() - RANGE)
    return float(loud[0]) * SECONDS, float(loud[-1] + 1) * SECONDS


def clips(corpus: Path, first: int = 0, last: int | None = None) -> tuple[Pcm, list[Said]]:
    """The clips `first` to `last` of a folder as one recording at 16 kHz."""
    rows = [line.split("|") for line in (corpus / "metadata.csv").read_text(encoding="utf-8").splitlines() if line]
    parts: list[Pcm] = []
    said: list[Said] = []
    length = 0
    for row in rows[first:last]:
        path = next(path for end in ("flac", "wav") if (path := corpus / f"{row[0]}.{end}").exists())
        samples = decode(path)
        start, end = speech_edges(samples)
        said.append(Said(row[1], length / RATE + start, length / RATE + end))
        parts.append(samples)
        length += len(samples)
    return np.concatenate(parts), said


def demo_call(folder: Path) -> tuple[Path, list[Said]]:
    """A call of the demo corpus; rows whose words are not said ("Operator Instructions") are left to `from_demo`."""
    times: dict[str, list[tuple[str, float, float]]] = {}
    for line in (folder / "words.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        sentence, word, start, end = line.split("\t")
        times.setdefault(sentence, []).append((word, float(start), float(end)))
    said = []
    for line in (folder / "transcript_timealigned.txt").read_text(encoding="utf-8").splitlines()[1:-1]:
        sentence, speaker, session, _, text = line.split("\t")
        words = tuple(times.get(sentence, ()))
        start, end = (words[0][1], words[-1][2]) if words else (0.0, 0.0)
        said.append(Said(text, start, end, words, speaker, session))
    recording = next(folder / f"recording{end}" for end in (".wav", ".mp3") if (folder / f"recording{end}").exists())
    return recording, said


def damaged(said: Sequence[Said], others: Sequence[str], percent: int, seed: int) -> list[Written]:
    """A transcript of which about `percent` % is wrong, in equal parts: sentences removed, replaced by "Operator
    Instructions", inserted (from `others`), changed places with the next; and words (5 % at 20 %, else in proportion)
    substituted or dropped in a third of the rest.
    """
    rng = random.Random(f"{seed} {percent}")
    share = percent / 100 / 4
    written = [
        Written(s.text, s if s.words or s.end > s.start else None, speaker=s.speaker, session=s.session) for s in said
    ]
    vocabulary = sorted({word for s in said for word in s.text.split() if word.isalpha()})
    result: list[Written] = []
    for one in written:
        chance = rng.random()
        if chance < share:
            continue
        if chance < 2 * share:
            result.append(replace(one, text=INSTRUCTIONS, said=None))
        else:
            result.append(one)
            if chance < 3 * share and others:
                result.append(replace(one, text=rng.choice(list(others)), said=None))
            elif chance < 4 * share and len(result) > 1 and not result[-2].moved:
                result[-2:] = [replace(result[-1], moved=True), replace(result[-2], moved=True)]
    return [_harm(one, percent / 400, vocabulary, rng) if one.said else one for one in result]


def _harm(one: Written, share: float, vocabulary: Sequence[str], rng: random.Random) -> Written:
    """Substitute or drop words in a third of the sentences, three times as many there as in the mean."""
    if not share or rng.random() > 1 / 3 or not vocabulary:
        return one
    words: list[str] = []
    harmed: list[int] = []
    dropped = 0
    for word in one.text.split():
        chance = rng.random()
        if chance < 1.5 * share and len(one.text.split()) - dropped > 2:
            dropped += 1
        elif chance < 3 * share:
            harmed.append(len(words))
            words.append(rng.choice(list(vocabulary)))
        else:
            words.append(word)
    return replace(one, text=" ".join(words), harmed=tuple(harmed), dropped=dropped)
