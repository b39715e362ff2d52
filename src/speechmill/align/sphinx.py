"""The `pocketsphinx` aligner: PocketSphinx with the US-English model and dictionary of its wheel.

Listening is tree search with a trigram model of the transcript (`language`); placing is forced alignment, where it is
not clear which stretch a text has in NumPy (`spot`). Speech is
recognised in pieces cut where it is quiet, so that a piece is one utterance with its own cepstral mean. Listening again
is done with the voices of the speakers (`mllr`), which are learned from the recording itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from speechmill.align import acoustics, mllr, pocket
from speechmill.align.base import Heard, Open, Passage, Sentence
from speechmill.align.language import Counts, count, likelier, with_others, write_arpa
from speechmill.align.sound import FRAME, SECONDS, SILENT, Levels, levels, pieces
from speechmill.align.spoken import Token, first_reading, read_aloud
from speechmill.align.spot import Pronunciations, Spotter
from speechmill.audio import Pcm
from speechmill.score.align import align

_EXPECTED = 0.5  # share of the words of a second listening that its sentences are expected to be
_CLEAR, _CLEAR_WORDS = 0.7, 5  # share of the heard words, and least number, that agree with what a speaker is to say
_VOICE = 2.0  # seconds of speech from which a voice is learned
_VERSION = 4


class Sphinx:
    """PocketSphinx behind the aligners' contract. Raises SpeechmillError where it is not installed."""

    def __init__(self, **tuning: Any) -> None:
        """`tuning` replaces PocketSphinx's settings of the first pass (for the curve of speed against accuracy)."""
        self._tuning: dict[str, Any] = {"fwdflat": False, "bestpath": False, "lw": 10.0, "ds": 2} | tuning
        self.version = f"{_VERSION} {pocket.installed()} {sorted(self._tuning.items())}"
        self._folder = tempfile.TemporaryDirectory(prefix="speechmill-")
        self._dictionary = Path(self._folder.name) / "transcript.dict"
        self._listener: Any = None
        self._fitter: Any = None
        self._cepstra: pocket.Cepstra | None = None  # of the recording, once they are asked for
        self._said: Pronunciations = {}
        self._voices: dict[str, Path] = {}  # of speakers: a file for the decoders
        self._transforms: dict[str, acoustics.Array] = {}  # of the same speakers, for all senones
        self._stretch: tuple[tuple[float, float, Path | None], Spotter] | None = None  # the last one
        self._passages: dict[Passage, list[tuple[str, str, acoustics.Array]]] = {}
        self._counts = Counts()
        self._known: set[str] = set()

    def read(self, text: str) -> list[Token]:
        """See `Aligner.read`: as read aloud."""
        return read_aloud(text)

    def prepare(self, sentences: Sequence[Sentence]) -> None:
        """Make the decoders anew: dictionary of the transcript's words, language model of the transcript."""
        self._counts = with_others(count(sentences))
        self._known = pocket.write_dictionary(self._counts.ones, self._dictionary)
        self._cepstra, self._voices, self._transforms, self._passages = None, {}, {}, {}
        self._stretch = None
        if self._known:
            self._said = pocket.pronunciations(self._dictionary)
            self._listener = pocket.decoder(self._dictionary, **self._tuning)
            self._fitter = pocket.decoder(self._dictionary, bestpath=False)
            _speak_like(self._listener, self._language(self._counts))

    def _language(self, counts: Counts) -> Path:
        """The file of a language model, until the next one is made."""
        path = Path(self._folder.name) / "transcript.arpa"
        write_arpa(counts, self._known, path)
        return path

    def listen(self, samples: Pcm) -> Iterator[list[Heard]]:
        """See `Aligner.listen`."""
        found = levels(samples)
        for first, last in pieces(found):
            yield self._hear(self._listener, samples, found, first, last)

    def _hear(self, decoder: Any, samples: Pcm, found: Levels, first: int, last: int) -> list[Heard]:
        """Words in the frames `first` to `last`; none in silence, where PocketSphinx hears the likeliest ones."""
        if not self._known or found[first:last].max() < SILENT:
            return []
        return [
            Heard(word, (first + start) * SECONDS, (first + end) * SECONDS)
            for word, start, end in pocket.run(decoder, samples[first * FRAME : last * FRAME])
        ]

    def learn_voices(self, samples: Pcm, passages: Sequence[Passage]) -> None:
        """See `Aligner.learn_voices`: a transform of the model for each speaker."""
        self._stretch = None
        spoken: dict[str, list[tuple[str, acoustics.Array]]] = {}
        for passage in passages if self._known else ():
            for speaker, phone, frames in self._spoken(samples, passage):
                spoken.setdefault(speaker, []).append((phone, frames))
        for speaker, part in spoken.items():
            if sum(len(frames) for _, frames in part) * SECONDS >= _VOICE:
                path = Path(self._folder.name) / f"voice-{len(self._voices)}.mllr"
                path = self._voices.setdefault(speaker, path)
                transform = mllr.estimate(acoustics.gaussians(pocket.model_folder()), part)
                self._transforms[speaker] = transform
                mllr.write(transform, path)

    def _spoken(self, samples: Pcm, passage: Passage) -> list[tuple[str, str, acoustics.Array]]:
        """Speaker, phone and frames of each phone in a passage; nothing where its words do not fit."""
        if passage not in self._passages:
            said = [(word, speaker) for word, speaker in passage.words if word in self._known]
            frames = self._frames(samples, passage.start, passage.end)
            phones = self._spotter(frames, None).phones([word for word, _ in said])
            self._passages[passage] = [(said[word][1], phone, frames[a:b]) for phone, word, a, b in phones]
        return self._passages[passage]

    def _frames(self, samples: Pcm, start: float, end: float) -> acoustics.Array:
        """What the acoustic model is made for, of a part of a recording."""
        if self._cepstra is None:
            self._cepstra = pocket.cepstra(samples, self._dictionary, next(iter(self._said)))
        first, last = round(start / SECONDS), round(end / SECONDS)
        return acoustics.differences(self._cepstra[first:last])

    def hear(self, samples: Pcm) -> None:
        """See `Aligner.hear`: it hears only what it expects."""
        del samples

    def hear_between(self, samples: Pcm, words: Sequence[str | Open]) -> None:
        """See `Aligner.hear_between`: it hears only what it expects."""
        del samples, words

    def listen_again(self, samples: Pcm, expected: Sequence[Sentence]) -> list[Heard] | None:
        """See `Aligner.listen_again`: with the voices of these sentences' speakers, of which in each piece the one
        counts that agrees best with what its speaker is to say, or the first that agrees well; every frame where a
        voice is not known. Half of all words are expected to be of these sentences.
        """
        if not self._known:
            return None
        language = self._language(likelier(self._counts, expected, _EXPECTED))
        wanted: dict[str, list[str]] = {}
        for sentence in expected:
            wanted.setdefault(sentence.speaker, []).extend(first_reading(list(sentence.tokens)))
        ears: dict[Path | None, Any] = {}  # made when it is their turn: of many speakers the first often do
        order = list(wanted)
        found = levels(samples)
        heard: list[Heard] = []
        for first, last in pieces(found):
            each: dict[Path | None, list[Heard]] = {}
            best: tuple[int, str, list[Heard]] = (-1, order[0], [])
            for speaker in order:
                voice = self._voices.get(speaker)
                if voice not in ears:
                    ears[voice] = self._ears(voice, language)
                if voice not in each:
                    each[voice] = self._hear(ears[voice], samples, found, first, last)
                agreeing = _agreeing(each[voice], wanted[speaker])
                best = max(best, (agreeing, speaker, each[voice]), key=lambda one: one[0])
                if agreeing >= max(_CLEAR * len(each[voice]), _CLEAR_WORDS):
                    break
            heard += best[2]
            order.sort(key=best[1].__ne__)  # who speaks goes on speaking
        return heard

    def _ears(self, voice: Path | None, language: Path) -> Any:
        """A decoder for a voice, made for one gap and not kept: it starts in 12 ms, and a call has many speakers."""
        tuning = self._tuning | ({"mllr": str(voice)} if voice else {"ds": 1})
        decoder = pocket.decoder(self._dictionary, **tuning)
        _speak_like(decoder, language)
        return decoder

    def stretch(self, samples: Pcm, start: float, end: float, speaker: str) -> Spotter | None:
        """See `Aligner.stretch`: with the speaker's voice where it is known."""
        if not self._known:
            return None
        key = (start, end, self._voices.get(speaker))  # speakers whose voices are not known share a stretch
        if self._stretch is None or self._stretch[0] != key:
            self._stretch = None  # it takes 2 MB a second: not two at once
            self._stretch = key, self._spotter(self._frames(samples, start, end), self._transforms.get(speaker))
        return self._stretch[1]

    def _spotter(self, frames: acoustics.Array, voice: acoustics.Array | None) -> Spotter:
        return Spotter(pocket.model_folder(), self._said, frames, voice)

    def fit(self, samples: Pcm, words: Sequence[str]) -> list[Heard] | None:
        """See `Aligner.fit`."""
        known = [word for word in words if word in self._known]
        if not known or len(known) < len(words) or len(samples) < pocket.SHORTEST * FRAME * len(words):
            return None
        self._fitter.set_align_text(" ".join(words))
        segments = pocket.run(self._fitter, samples)
        if [word for word, _, _ in segments] != list(words):
            return None
        return [Heard(word, start * SECONDS, end * SECONDS) for word, start, end in segments]


def _speak_like(decoder: Any, language: Path) -> None:
    """Give a decoder a language model in the place of the one that it has."""
    decoder.add_lm_file("transcript", str(language))
    decoder.activate_search("transcript")


def _agreeing(heard: Sequence[Heard], wanted: Sequence[str]) -> int:
    return sum(edit.op == "=" for edit in align(wanted, [word.word for word in heard]))
