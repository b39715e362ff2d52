"""One call spoken: samples of the recording, and the times of sentences and words."""

# ruff: noqa: SIM905  (words are read best as a line of words)

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
import numpy.typing as npt
import soxr

from speechmill.corpora.demo.accents import accented, table_name
from speechmill.corpora.demo.espeak import RATE, espeak, find_library, phoneme_table
from speechmill.corpora.demo.reading import Token, read_sentence
from speechmill.corpora.demo.script import INSTRUCTIONS, Call
from speechmill.corpora.demo.voices import Voice

Samples = npt.NDArray[np.float32]

_SILENT = 0.004  # of the loudest sample: below it nothing is said
_LEVEL = 0.08  # RMS of a sentence before the speaker's gain
_PAUSE, _TURN_PAUSE = (0.2, 0.6), (0.6, 1.2)  # seconds
_ENGLISH = "en-us"  # the voice that knows the phonemes of English words
# eSpeak speaks some pairs of words as one and then gives no time for the second: as phonemes it stays a word.
_APART: dict[str, tuple[frozenset[str], str]] = {
    "the": (frozenset("for on in of from with was that".split()), "D@"),
    "am": (frozenset({"i"}), "am"),
    "is": (frozenset("that it there".split()), "Iz"),
    "was": (frozenset("that it".split()), "wVz"),
    "be": (frozenset({"to"}), "bi:"),
    "not": (frozenset("do has".split()), "n'0t"),
    "of": (frozenset("many most".split()), "Vv"),
    "a": (frozenset("was for of".split()), "@"),
    "one": (frozenset({"that"}), "w,Vn"),
    "much": (frozenset({"too"}), "m'VtS"),
    "it": (frozenset({"at"}), "It"),
}
_REDUCED = {"a": ["@"]}  # alone it would be the letter


@dataclass(frozen=True)
class Word:
    """A written token and when it is said, in seconds from the start of its recording (or sentence)."""

    written: str
    start: float
    end: float


@dataclass(frozen=True)
class TimedSentence:
    start: float
    end: float
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Recording:
    """Mono samples in -1..1 at `rate` Hz with the times of the call's sentences, in their order."""

    samples: Samples
    rate: int
    sentences: tuple[TimedSentence, ...]


class Speaker:
    """Says sentences in any voice of the corpus."""

    def __init__(self) -> None:
        self._espeak = espeak()
        self._data = find_library()[1]
        self._phonemes: dict[str, list[str]] = dict(_REDUCED)
        self.table = cache(lambda name: phoneme_table(self._data, name))

    def say(self, tokens: list[Token], voice: Voice) -> tuple[Samples, tuple[Word, ...]]:
        """Samples at RATE from the first sound to the last, and the times of the tokens in them."""
        words = [(word, place) for place, token in enumerate(tokens) for word in token.spoken]
        inputs = self._inputs([word for word, _ in words], voice)
        text, offsets = _joined(inputs, words, tokens)
        self._espeak.set_voice(voice.espeak_name)
        spoken = self._espeak.speak(text, voice.rate, voice.pitch)
        samples: Samples = spoken.samples.astype(np.float32) / np.float32(32768)
        first, last = _sounding(samples)
        starts = np.clip(_starts(offsets, spoken.words, last), first, last - 1)
        times = _token_times(samples, starts, last, [place for _, place in words])
        return samples[first:last], tuple(
            Word(token.written, (begin - first) / RATE, (end - first) / RATE)
            for token, (begin, end) in zip(tokens, times, strict=True)
        )

    def _inputs(self, words: list[str], voice: Voice) -> list[str]:
        """What eSpeak gets for each word: the word, or its phonemes for a voice of another language."""
        if voice.native:
            return [_apart(before, word) for before, word in zip(["", *words], words, strict=False)]
        missing = [word for word in words if word not in self._phonemes]
        if missing:
            self._espeak.set_voice(_ENGLISH)
            self._phonemes |= {word: self._espeak.phonemes(word) for word in missing}
        table = self.table(table_name(voice.language))
        return [accented(word, self._phonemes[word], voice.language, table) for word in words]


def _apart(before: str, word: str) -> str:
    first_words, phonemes = _APART.get(word.lower(), (frozenset(), ""))
    return f"[[{phonemes}]]" if before.lower() in first_words else word


def _joined(inputs: list[str], words: list[tuple[str, int]], tokens: list[Token]) -> tuple[str, list[int]]:
    """The text for eSpeak with the tokens' punctuation, and where in it each word begins."""
    text, offsets = "", []
    for place, (given, (_, token)) in enumerate(zip(inputs, words, strict=True)):
        offsets.append(len(text))
        ends_token = place + 1 == len(words) or words[place + 1][1] != token
        text += given + (tokens[token].mark if ends_token else "") + " "
    return text.strip(), offsets


def _sounding(samples: Samples) -> tuple[int, int]:
    """First sample that is heard and the one behind the last."""
    loud = np.flatnonzero(np.abs(samples) > _SILENT * np.abs(samples).max())
    return int(loud[0]), int(loud[-1]) + 1


def _starts(offsets: list[int], events: list[tuple[int, int]], last: int) -> npt.NDArray[np.int64]:
    """Sample at which each word begins; a word without an event lies evenly between its neighbours."""
    known: dict[int, int] = {}
    for position, sample in events:
        known.setdefault(max(0, bisect_right(offsets, position) - 1), sample)
    places = sorted(known)
    return np.interp(
        np.arange(len(offsets)), [*places, len(offsets)], [*(known[place] for place in places), last]
    ).astype(np.int64)


def _token_times(
    samples: Samples, starts: npt.NDArray[np.int64], last: int, token_of_word: list[int]
) -> list[tuple[int, int]]:
    """Start of a token's first word and end of its last; silence before the next word belongs to neither."""
    times: dict[int, tuple[int, int]] = {}
    limits = [*starts[1:].tolist(), last]
    quiet = _SILENT * np.abs(samples).max()
    for start, limit, token in zip(starts.tolist(), limits, token_of_word, strict=True):
        loud = np.flatnonzero(np.abs(samples[start:limit]) > quiet)
        end = start + int(loud[-1]) + 1 if len(loud) else limit
        times[token] = (times[token][0] if token in times else start, end)
    return [times[token] for token in range(len(times))]


def render(call: Call, rate: int, seed: str) -> Recording:
    """Speak a call at `rate` Hz. Its samples are a function of the arguments in a process that spoke nothing before."""
    random = Random(seed)  # noqa: S311  (reproducible pauses and levels)
    speaker = Speaker()
    gains: dict[str, float] = {}
    clock = round(random.uniform(300, 900))  # milliseconds; sentences begin at whole ones
    chunks: list[tuple[int, Samples]] = []
    timed: list[TimedSentence] = []
    before = call.sentences[0].speaker
    for place, sentence in enumerate(call.sentences):
        person = sentence.speaker
        if place:
            clock += round(1000 * random.uniform(*(_PAUSE if person == before else _TURN_PAUSE)))
        samples, words = speaker.say(read_sentence(sentence.spoken), person.voice)
        gain = gains.setdefault(person.id, 10 ** (random.uniform(-5, 3) / 20))
        chunks.append((clock, _levelled(soxr.resample(samples, RATE, rate), gain)))
        start, length = clock / 1000, len(samples) / RATE
        placed = tuple(Word(word.written, start + word.start, start + word.end) for word in words)
        timed.append(TimedSentence(start, start + length, placed if sentence.text != INSTRUCTIONS else ()))
        clock += int(np.ceil(1000 * length))
        before = person
    total = clock + round(random.uniform(400, 900))
    return Recording(_mixed(chunks, total * rate // 1000, rate, random), rate, tuple(timed))


def _levelled(samples: Samples, gain: float) -> Samples:
    """At the common level times the speaker's gain, but never clipped."""
    level = float(np.sqrt(np.mean(np.square(samples))))
    scale = _LEVEL * gain / max(level, 1e-6)
    return samples * np.float32(min(scale, 0.98 / float(np.abs(samples).max())))


def _mixed(chunks: list[tuple[int, Samples]], length: int, rate: int, random: Random) -> Samples:
    """Sentences at their milliseconds over the faint noise of the line."""
    noise = np.random.default_rng(random.getrandbits(64)).standard_normal(length, dtype=np.float32)
    mixed: Samples = noise * np.float32(10 ** (random.uniform(-75, -60) / 20))
    for begin, samples in chunks:
        start = begin * rate // 1000
        stretch = samples[: length - start]
        mixed[start : start + len(stretch)] += stretch
    return np.clip(mixed, -1, 1)
