"""The `mms` aligner: torchaudio's MMS_FA bundle (Pratap et al. 2023), where its weights are on disk or can be fetched.

Its tokens are letters without a mark between words, so what is heard is a line of letters. It is laid beside those of
the transcript, and a word of the transcript was heard where most of its letters are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor

from speechmill.align.base import Heard, Sentence
from speechmill.align.ctc import Ctc
from speechmill.align.sound import FRAME, SECONDS, levels, pieces
from speechmill.align.spoken import Token, first_reading, read_aloud
from speechmill.audio import RATE, Pcm
from speechmill.errors import SpeechmillError
from speechmill.models.search import collapse
from speechmill.score.align import align
from speechmill.tokenizer import BLANK

_ENOUGH = 0.7  # share of a word's letters from which it was heard


class MmsEmitter:
    """Letters of MMS_FA. `bundle` is a stand-in in tests."""

    def __init__(self, bundle: Any = None) -> None:
        """Raises SpeechmillError where the weights can neither be found nor fetched."""
        if bundle is None:
            from torchaudio.pipelines import MMS_FA

            bundle = MMS_FA
        self._letters: dict[str, int] = {
            letter: number for letter, number in bundle.get_dict(star=None).items() if len(letter) == 1
        }
        if self._letters.get("-") != BLANK or bundle.sample_rate != RATE:
            raise SpeechmillError(
                "align: this torchaudio's MMS_FA has another alphabet; the aligner mms cannot use it."
            )
        try:
            self._model = bundle.get_model(with_star=False).eval()
        except (OSError, URLError, RuntimeError) as error:
            raise SpeechmillError(
                f"align: the weights of MMS_FA are not on disk and could not be fetched ({error}); download them on a "
                f"machine with a network into $TORCH_HOME/hub/checkpoints, or use another aligner."
            ) from error
        self._names = {number: letter for letter, number in self._letters.items() if number != BLANK}
        self.tokens = max(self._letters.values()) + 1
        self.version, self.writes = "MMS_FA", False

    @torch.inference_mode()
    def log_probs(self, samples: Pcm) -> tuple[Tensor, float]:
        """See `Emitter.log_probs`."""
        sound = torch.from_numpy(samples.astype(np.float32) / 32768.0)[None]
        emission, _ = self._model(sound)
        found = emission[0].log_softmax(-1)
        return found, len(samples) / RATE / max(1, found.shape[0])

    def heard(self, log_probs: Tensor) -> list[int]:
        """See `Emitter.heard`."""
        return collapse(log_probs.argmax(1).numpy())

    def encode(self, word: str) -> list[int]:
        """See `Emitter.encode`."""
        return [self._letters[letter] for letter in re.sub(r"[^a-z']", "", word.lower()) if letter in self._letters]

    def decode(self, ids: list[int]) -> str:
        """Letters, without blanks: the model does not hear where words begin."""
        return "".join(self._names.get(token, "") for token in ids)


class Mms(Ctc):
    """MMS_FA behind the aligners' contract."""

    def __init__(self, bundle: Any = None) -> None:
        super().__init__(MmsEmitter(bundle))
        self._words: list[str] = []

    def read(self, text: str) -> list[Token]:
        """See `Aligner.read`: letters are those of spoken words."""
        return read_aloud(text)

    def prepare(self, sentences: Sequence[Sentence]) -> None:
        """Remember the transcript's words."""
        self._written = {}
        self._words = [word for sentence in sentences for word in first_reading(list(sentence.tokens))]

    def listen(self, samples: Pcm) -> Iterator[list[Heard]]:
        """All letters at once, as a word may lie over the edge of a piece; the sound is worked on piece by piece."""
        letters: list[tuple[str, float]] = []
        for first, last in pieces(levels(samples)):
            log_probs, step = self._emitter.log_probs(samples[first * FRAME : last * FRAME])
            best = log_probs.argmax(-1).numpy()
            changes = np.flatnonzero(np.diff(best, prepend=-1))
            kept = [int(place) for place in changes if best[place] != BLANK]
            text = self._emitter.decode(collapse(best))
            if len(text) == len(kept):
                letters += [(letter, first * SECONDS + place * step) for letter, place in zip(text, kept, strict=True)]
        yield spell(self._words, letters)


def spell(words: Sequence[str], letters: Sequence[tuple[str, float]]) -> list[Heard]:
    """Words of a transcript whose letters were heard, and "?" for each run of letters that are no word's."""
    owners = [number for number, word in enumerate(words) for _ in word]
    hits: dict[int, list[int]] = {}
    ours = theirs = 0
    for edit in align("".join(words), "".join(letter for letter, _ in letters)):
        if edit.op == "=":
            hits.setdefault(owners[ours], []).append(theirs)
        ours += edit.op != "I"
        theirs += edit.op != "D"
    spans = [
        (places[0], places[-1], words[number])
        for number, places in hits.items()
        if len(places) >= _ENOUGH * len(words[number]) and places[-1] - places[0] < 2 * len(words[number])
    ]
    heard: list[Heard] = []
    done = 0
    for first, last, word in sorted(spans):
        if first > done:
            heard.append(Heard("?", letters[done][1], letters[first - 1][1]))
        heard.append(Heard(word, letters[first][1], letters[last][1] + 0.02))
        done = last + 1
    if done < len(letters):
        heard.append(Heard("?", letters[done][1], letters[-1][1]))
    return heard
