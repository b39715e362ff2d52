"""The `pocketsphinx` aligner: PocketSphinx with the US-English model and dictionary of its wheel.

Listening is tree search with a trigram model of the transcript (`language`); placing is forced alignment. Speech is
recognised in pieces cut where it is quiet, so that a piece is one utterance with its own cepstral mean.
"""

from __future__ import annotations

import importlib.metadata
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from speechmill.align.base import Heard, Sentence
from speechmill.align.language import Counts, count, likelier, write_arpa
from speechmill.align.pronounce import pronounce
from speechmill.align.sound import FRAME, SECONDS, SILENT, Levels, levels, pieces
from speechmill.align.spoken import Token, read_aloud
from speechmill.audio import Pcm
from speechmill.errors import SpeechmillError

_VARIANT = re.compile(r"\(\d+\)$")
_SHORTEST = 4  # frames: less sound than this cannot be searched
_EXPECTED = 0.5  # share of the words of a second listening that its sentences are expected to be
_VERSION = 1


class Sphinx:
    """PocketSphinx behind the aligners' contract. Raises SpeechmillError where it is not installed."""

    name = "pocketsphinx"

    def __init__(self, **tuning: Any) -> None:
        """`tuning` replaces PocketSphinx's settings of the first pass (for the curve of speed against accuracy)."""
        self._tuning: dict[str, Any] = {"fwdflat": False, "bestpath": False, "lw": 10.0, "ds": 2} | tuning
        self.version = f"{_VERSION} {_installed()} {sorted(self._tuning.items())}"
        self._listener: Any = None
        self._fitter: Any = None
        self._careful: Any = None
        self._counts = Counts()
        self._known: set[str] = set()
        self._taught: dict[str, str] = {}

    def read(self, text: str) -> list[Token]:
        """See `Aligner.read`: as read aloud."""
        return read_aloud(text)

    def prepare(self, sentences: Sequence[Sentence]) -> None:
        """Make the decoders anew: dictionary with the transcript's words, language model of the transcript."""
        self._listener = _decoder(**self._tuning)
        self._fitter = _decoder(bestpath=False)
        self._careful, self._taught = None, {}
        self._counts = count(sentences)
        self._known = {word for word in sorted(self._counts.ones) if self._learn(word)}
        if self._known:
            self._speak_like(self._listener, self._counts)

    def _speak_like(self, decoder: Any, counts: Counts) -> None:
        """Give a decoder a language model in the place of the one that it has."""
        with tempfile.TemporaryDirectory(prefix="speechmill-") as folder:
            path = Path(folder) / "transcript.arpa"
            write_arpa(counts, self._known, path)
            decoder.add_lm_file("transcript", str(path))
        decoder.activate_search("transcript")

    def _learn(self, word: str) -> bool:
        """See that both decoders can say a word; False for one that has no pronunciation."""
        if self._fitter.lookup_word(word) is not None:
            return True
        phones = pronounce(word)
        if phones is None:
            return False
        for decoder in (self._listener, self._fitter):
            decoder.add_word(word, phones, False)
        self._taught[word] = phones
        return True

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
            for word, start, end in _decode(decoder, samples[first * FRAME : last * FRAME])
        ]

    def listen_again(self, samples: Pcm, expected: Sequence[Sentence]) -> list[Heard] | None:
        """See `Aligner.listen_again`: every frame, and half of all words expected to be of these sentences."""
        if not self._known:
            return None
        if self._careful is None:
            self._careful = _decoder(**(self._tuning | {"ds": 1}))
            for word, phones in self._taught.items():
                self._careful.add_word(word, phones, False)
        self._speak_like(self._careful, likelier(self._counts, expected, _EXPECTED))
        found = levels(samples)
        return [
            word
            for first, last in pieces(found)
            for word in self._hear(self._careful, samples, found, first, last)
        ]  # fmt: skip

    def fit(self, samples: Pcm, words: Sequence[str]) -> list[Heard] | None:
        """See `Aligner.fit`."""
        known = [word for word in words if word in self._known]
        if not known or len(known) < len(words) or len(samples) < _SHORTEST * FRAME * len(words):
            return None
        self._fitter.set_align_text(" ".join(words))
        segments = _decode(self._fitter, samples)
        if [word for word, _, _ in segments] != list(words):
            return None
        return [Heard(word, start * SECONDS, end * SECONDS) for word, start, end in segments]


def _installed() -> str:
    try:
        return importlib.metadata.version("pocketsphinx")
    except importlib.metadata.PackageNotFoundError as error:
        raise SpeechmillError("the aligner pocketsphinx is not installed: pip install pocketsphinx") from error


def _decoder(**settings: Any) -> Any:
    from pocketsphinx import Config, Decoder

    return Decoder(Config(lm=None, loglevel="FATAL", **settings))


def _decode(decoder: Any, samples: Pcm) -> list[tuple[str, int, int]]:
    """Words with their first frame and the one after their last; none where the search found no way through."""
    if len(samples) < _SHORTEST * FRAME:
        return []
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), full_utt=True)
    decoder.end_utt()
    return [
        (_VARIANT.sub("", segment.word), segment.start_frame, segment.end_frame + 1)
        for segment in decoder.seg() or ()
        if segment.word[0] not in "<[(" and segment.word != "NULL"
    ]
