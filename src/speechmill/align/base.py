"""The contract of an aligner: it listens to a recording with its transcript in mind, and places words in a stretch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from speechmill.align.spoken import Token
from speechmill.audio import Pcm

Floats = npt.NDArray[np.float32]

SURE = 0.6  # of words heard without a transcript: one that is less likely is not clear


class Heard(NamedTuple):
    """A spoken word with its times in seconds from the start of the samples that it was heard in.

    `more`: between it and the next one of the same piece of sound something was said that the aligner can hear, but not
    tell; only `ctc:` says so.
    """

    word: str
    start: float
    end: float
    more: bool = False


class Transcribed(NamedTuple):
    """A word that was heard whatever a transcript says, as the model writes it: how likely it is (0 to 1), and its
    times in seconds from the start of the samples that it was heard in."""

    word: str
    sure: float
    start: float
    end: float


@dataclass(frozen=True)
class Sentence:
    """A sentence of a transcript, read aloud. `place` is its row among the recording's sentences."""

    place: int
    text: str
    tokens: tuple[Token, ...]
    speaker: str = ""


class Open(NamedTuple):
    """An open place of a text, with the words that are written there and were not heard."""

    written: tuple[str, ...] = ()


@dataclass(frozen=True)
class Passage:
    """A stretch of a recording (seconds) with the words that are said in it, each with its speaker."""

    start: float
    end: float
    words: tuple[tuple[str, str], ...]


class Stretch(Protocol):
    """Sound in which one looks for a text. Seconds are from its start."""

    def fits(self, texts: Sequence[Sequence[str]], cuts: Sequence[float], longest: float) -> Floats:
        """`[texts, cuts, cuts]`: how well exactly the words of each text are said from one cut (seconds) to another, at
        most `longest` seconds later, as a mean over the frames of words (higher is better, comparable over the same
        sound); -inf where they are not.
        """

    def times(self, words: Sequence[str], start: float, end: float) -> list[Heard] | None:
        """When each word is said, if exactly these are from `start` to `end`; None where they do not fit in."""


class Aligner(Protocol):
    """What aligns one recording at a time; a process has one, and it keeps nothing from one recording to the next."""

    version: str  # of the model and of what the aligner does: outputs of another version are made anew

    def read(self, text: str) -> list[Token]:
        """The tokens of a written text with their readings, in the words that `listen` gives."""

    def prepare(self, sentences: Sequence[Sentence]) -> None:
        """Learn the words and the language of a transcript; called once before `listen` and `fit`."""

    def listen(self, samples: Pcm) -> Iterator[list[Heard]]:
        """Recognise int16 `[samples]` (16 kHz, mono), piece by piece: each list continues the one before.

        Times are from the start of `samples`, in order.
        """

    def learn_voices(self, samples: Pcm, passages: Sequence[Passage]) -> None:
        """Learn how the speakers of a recording sound, for `listen_again`; most of the words are right, not all."""

    def listen_again(self, samples: Pcm, expected: Sequence[Sentence]) -> list[Heard] | None:
        """Recognise a stretch in which these sentences are likely; None where the aligner can do no better."""

    def stretch(self, samples: Pcm, start: float, end: float, speaker: str) -> Stretch | None:
        """A part of a recording (seconds), said by a speaker, to lay texts over; None where the aligner cannot tell how
        they fit. `samples` are the whole recording's.
        """

    def hear(self, samples: Pcm) -> list[Transcribed] | None:
        """The words of int16 `[samples]` by a model's own search; None where the aligner hears only what it expects."""

    def hear_between(self, samples: Pcm, words: Sequence[str | Open]) -> list[str | None] | None:
        """What is said in the open places between written words, and after these: one for each of `words`. None for the
        whole where the aligner cannot tell.

        In an open place what is written there, or "" where nothing is, if that is about as likely as anything; else
        words as the model writes them; None where that is not clear, or nothing is heard. After a written word what is
        clearly said before the written one that follows it, which the text does not have; mostly "".
        """

    def fit(self, samples: Pcm, words: Sequence[str]) -> list[Heard] | None:
        """Times of exactly these words in int16 `[samples]`, one each, in order; None where they cannot be fitted."""
