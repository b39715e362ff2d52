"""Speech that no kept sentence has, with what a model hears in it: utterances of which nothing is written.

What is left between kept sentences is cut where it is quietest. A piece in which words are heard clearly becomes an
utterance; words that are not clear are wildcards. One in which too little is clear is speech for the account, one
without words silence or music; so are one or two unclear ones: noise has these as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from speechmill.align.base import SURE, Aligner, Transcribed
from speechmill.align.recording import Outcome
from speechmill.align.sound import SECONDS, edges, levels, pieces
from speechmill.audio import RATE, Pcm
from speechmill.settings import AlignSettings
from speechmill.text import WILDCARD, joined

_WORDS, _CLEAR = 3, 0.5  # an utterance has so many clear words, and they are such a share of all
_PIECE = (2.0, 8.0)  # seconds, as `ctc:` listens
_APART = 0.2  # seconds of the sound beside a kept sentence that are left to it: of 5 % the end is as much too early


@dataclass(frozen=True)
class Rest:
    """An utterance (seconds) of which nothing is written. `confidence` is the share of clear words."""

    start: float
    end: float
    text: str  # as it is heard, a wildcard for words that are not clear
    confidence: float


def hear_rest(
    aligner: Aligner, samples: Pcm, outcomes: Sequence[Outcome], settings: AlignSettings
) -> tuple[list[Rest], list[tuple[float, float]]]:
    """What is said in a recording's int16 `[samples]` where no sentence was kept, in the order of time; and where
    something is said (seconds) of which too little is clear."""
    found_levels = levels(samples)
    kept = [(one.start or 0.0, one.end or 0.0) for one in outcomes if one.kept]
    longest = min(_PIECE[1], settings.max_seconds)
    found: list[Rest] = []
    unclear: list[tuple[float, float]] = []
    for low, high in gaps(kept, len(samples) / RATE):
        first = round(low / SECONDS)
        for begin, stop in pieces(found_levels[first : round(high / SECONDS)], min(_PIECE[0], longest / 2), longest):
            start, end = (first + begin) * SECONDS, (first + stop) * SECONDS
            start, end = edges(found_levels, start, end, start, end)
            if end - start < settings.min_seconds:
                continue
            heard = aligner.hear(samples[round(start * RATE) : round(end * RATE)]) or []
            clear = sum(one.sure >= SURE for one in heard)
            if clear >= _WORDS and clear >= _CLEAR * len(heard):
                found.append(Rest(start, end, with_wildcards(heard), clear / len(heard)))
            elif clear or len(heard) >= _WORDS:
                unclear.append((start, end))
    return found, unclear


def gaps(kept: Sequence[tuple[float, float]], seconds: float) -> Iterator[tuple[float, float]]:
    """What lies between stretches, in the order of time."""
    edge = 0.0
    for start, end in [*sorted(kept), (seconds + _APART, seconds)]:
        if start - _APART > edge:
            yield edge, start - _APART
        edge = max(edge, end + _APART)


def with_wildcards(heard: Sequence[Transcribed]) -> str:
    """The clear words, and a wildcard for each run of others."""
    return joined(one.word if one.sure >= SURE else WILDCARD for one in heard)
