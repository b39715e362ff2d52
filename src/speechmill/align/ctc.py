"""Aligners over the outputs of a CTC model: a Speechmill run's (`ctc:RUN`), or MMS_FA's (`mms`).

A model gives log probabilities of its tokens for a piece of sound; hearing is a prefix beam search with a model of the
transcript's tokens; word times come from `torchaudio.functional.forced_align`. Pieces and stretches are at most some
tens of seconds, so that memory does not grow with the recording.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from speechmill.align.base import SURE, Heard, Open, Passage, Sentence, Transcribed
from speechmill.align.sound import FRAME, SECONDS, levels, long_pauses, pieces
from speechmill.align.spoken import Token, brackets, is_unsaid
from speechmill.artefact import fingerprint, sha256_file
from speechmill.audio import RATE, Pcm
from speechmill.config import load_recipe
from speechmill.errors import SpeechmillError
from speechmill.losses import log_softmax
from speechmill.models.forced import path_likelihood, place_tokens
from speechmill.models.ngram import NgramModel
from speechmill.models.search import ctc_beam, ctc_search
from speechmill.recognize import Recognizing
from speechmill.score.align import align
from speechmill.settings import SearchSettings
from speechmill.text import normalize
from speechmill.tokenizer import BLANK
from speechmill.train.language import LANGUAGE_MODEL_NAME, NEURAL_MODEL_NAME

_SEARCH = SearchSettings(kind="beam", beam=8, lm_order=5, lm_weight=0.8, length_bonus=1.5)
# Seconds: about as long as the utterances that models are trained on, which begin and end in pauses.
_PIECE = (2.0, 8.0)
# Nats, summed over the steps between two words: by so much other tokens are likelier than blank, where something was
# said there.
_CLEAR = 1.0
_AWAY = 0.1  # nats a step by which a known token is preferred to "anything" where it is the likeliest
# Nats for each token that is written in an open place by which anything may be likelier there: it was misheard.
_AS_WRITTEN = 4.0
_MORE = 3.0  # nats by which anything beside it may make it likelier; beyond, more is said there than is written
_VERSION = 13


class Emitter(Protocol):
    """A CTC model with its tokens."""

    version: str
    tokens: int
    writes: bool  # its words are spelled as transcripts are

    def log_probs(self, samples: Pcm) -> tuple[Tensor, float]:
        """`[steps, tokens]` (natural logarithms) of int16 `[samples]` at 16 kHz, and the seconds of a step."""

    def heard(self, log_probs: Tensor) -> list[int]:
        """The token ids that the model's own search hears, whatever a transcript says."""

    def encode(self, word: str) -> list[int]:
        """The token ids of a word as written; empty where the model cannot spell it."""

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, words parted by blanks."""


class Spelled(NamedTuple):
    """A word as written, from one step of the model's outputs to the one after its last."""

    word: str
    first: int
    last: int


def as_written(text: str) -> list[Token]:
    """The tokens of a text as a model spells them that was trained on written text: one reading each, and nothing
    where it stands in square brackets, which is mostly not said.
    """
    parts = text.split()
    said = [not is_unsaid(bracket) for bracket in brackets(parts)]
    words = [normalize(part).lower().split() if is_said else [] for part, is_said in zip(parts, said, strict=True)]
    return [Token(part, (tuple(one),)) for part, one in zip(parts, words, strict=True)]


class Ctc:
    """A CTC model behind the aligners' contract."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self.version = f"{_VERSION} {emitter.version}"
        self._written: dict[str, str] = {}
        self._language: NgramModel | None = None

    def read(self, text: str) -> list[Token]:
        """See `Aligner.read`: as written, which is what the model was trained to give."""
        return as_written(text)

    def prepare(self, sentences: Sequence[Sentence]) -> None:
        """Count the transcript's tokens, and remember how its words are written."""
        self._written = {}
        for sentence in sentences:
            for token in sentence.tokens:
                for word in token.readings[0]:
                    single = len(token.readings[0]) == 1
                    self._written.setdefault(word, token.written if single else word)
        texts = [self._ids(sentence) for sentence in sentences]
        # A piece of sound begins with a sentence, and others follow each other in it: as one stream, too.
        stream = [token for text in texts for token in text]
        self._language = NgramModel.train([*texts, stream], _SEARCH.lm_order, self._emitter.tokens)

    def _ids(self, sentence: Sentence) -> list[int]:
        said = [token.written for token in sentence.tokens if token.readings[0]]
        return [token for word in said for token in self._emitter.encode(word)]

    def listen(self, samples: Pcm) -> Iterator[list[Heard]]:
        """See `Aligner.listen`."""
        found = levels(samples)
        quiet = long_pauses(found)
        for first, last in pieces(found, *_PIECE):
            part = samples[first * FRAME : last * FRAME]
            log_probs, step = self._emitter.log_probs(part)
            words = self._spelled(log_probs, self._decoded(log_probs), (quiet - first * SECONDS) / step)
            heard: list[Heard] = []
            for one, more in zip(words, passed_over(words, log_probs), strict=True):
                start, end = (first * SECONDS + edge * step for edge in (one.first, one.last))
                heard += [Heard(word, start, end) for word in self._normal(one.word)]
                if more and heard:
                    heard[-1] = heard[-1]._replace(more=True)
            yield heard

    def _decoded(self, log_probs: Tensor) -> list[str]:
        return self._emitter.decode(ctc_beam(log_probs.numpy(), _SEARCH, self._language)).split()

    def _normal(self, written: str) -> list[str]:
        words = normalize(written).lower().split()
        if len(words) == 1:
            self._written.setdefault(words[0], written)
        return words

    def learn_voices(self, samples: Pcm, passages: Sequence[Passage]) -> None:
        """See `Aligner.learn_voices`: the model knows many voices; it learns none."""
        del samples, passages

    def listen_again(self, samples: Pcm, expected: Sequence[Sentence]) -> list[Heard] | None:
        """See `Aligner.listen_again`: the first listening was as careful."""
        del samples, expected
        return None

    def stretch(self, samples: Pcm, start: float, end: float, speaker: str) -> None:
        """See `Aligner.stretch`: what the model did not hear it does not place."""
        del samples, start, end, speaker

    def fit(self, samples: Pcm, words: Sequence[str]) -> list[Heard] | None:
        """See `Aligner.fit`."""
        if len(samples) < RATE // 10 or not words:
            return None
        log_probs, step = self._emitter.log_probs(samples)
        found = self._spelled(log_probs, [self._written.get(word, word) for word in words])
        if len(found) != len(words):
            return None
        return [Heard(word, one.first * step, one.last * step) for word, one in zip(words, found, strict=True)]

    def hear_between(self, samples: Pcm, words: Sequence[str | Open]) -> list[str | None] | None:
        """See `Aligner.hear_between`."""
        if not self._emitter.writes:
            return None
        coded = [self._emitter.encode(word) if isinstance(word, str) else [] for word in words]
        # The sound of a word that it cannot spell would be taken for what is said beside it.
        unknown = any(isinstance(word, str) and not ids for word, ids in zip(words, coded, strict=True))
        if len(samples) < RATE // 10 or unknown:
            return ["" if isinstance(word, str) else None for word in words]
        log_probs, step = self._emitter.log_probs(samples)
        anything = log_probs.shape[1]
        over = TextOver(log_probs, [ids or [anything] for ids in coded])
        found: list[str | None] = []
        for number, (word, said) in enumerate(
            zip(words, said_between(words, self._heard(log_probs, step)), strict=True)
        ):
            if isinstance(word, str):
                found.append(said if said and over.gained(number, self._tokens(said)) > _MORE else "")
            else:
                found.append(" ".join(word.written) if self._may_be_said(over, number, word, said) else said)
        return found

    def _tokens(self, text: str) -> list[int]:
        return [token for word in text.split() for token in self._emitter.encode(word)]

    def _may_be_said(self, over: TextOver, number: int, place: Open, instead: str | None) -> bool:
        """Whether what is written in an open place, that at `number`, is about as likely there as anything, and as with
        anything beside it. Where nothing is written: whether nothing is said, of which anything makes more by itself,
        so that it must not have been heard, either."""
        coded = [self._emitter.encode(word) for word in place.written]
        if not all(coded) or (not coded and instead is not None):
            return False
        written = [token for ids in coded for token in ids]
        misheard, more = over.likelier(number, written)
        return misheard <= max(_AS_WRITTEN * len(written), _MORE) and more <= _MORE

    def hear(self, samples: Pcm) -> list[Transcribed] | None:
        """See `Aligner.hear`."""
        if not self._emitter.writes:
            return None
        if len(samples) < RATE // 10:
            return []
        return self._heard(*self._emitter.log_probs(samples))

    def _heard(self, log_probs: Tensor, step: float) -> list[Transcribed]:
        """The words that the model's own search hears, each as likely as its tokens are in the (geometric) mean, at the
        best of their steps, which take `step` seconds."""
        tokens = self._emitter.heard(log_probs)
        steps = place_tokens(log_probs, tokens)
        if steps is None:
            return []
        of_word: dict[int, list[int]] = {}  # the numbers of its tokens
        for number in range(len(tokens)):
            place = max(1, len(self._emitter.decode(tokens[: number + 1]).split()))
            of_word.setdefault(place, []).append(number)
        best = [float(log_probs[slice(*edges), token].max()) for token, edges in zip(tokens, steps, strict=True)]
        found = []
        for place, word in enumerate(self._emitter.decode(tokens).split(), 1):
            mine = of_word[place]
            sure = math.exp(statistics.fmean(best[number] for number in mine))
            found.append(Transcribed(word, sure, steps[mine[0]][0] * step, steps[mine[-1]][1] * step))
        return [one for one in found if normalize(one.word)]  # a dash is no word that is said

    def _spelled(
        self, log_probs: Tensor, written: Sequence[str], pauses: npt.NDArray[np.float64] | None = None
    ) -> list[Spelled]:
        """The words that the model can spell, in their places; none where they do not fit. One that goes on behind one
        of the `pauses` (`[pauses, 2]`, steps) is two: the model missed that another begins there."""
        coded = [(word, self._emitter.encode(word)) for word in written]
        coded = [(word, ids) for word, ids in coded if ids]
        steps = place_tokens(log_probs, [token for _, ids in coded for token in ids])
        if steps is None:
            return []
        found = []
        place = 0
        for word, ids in coded:
            mine = steps[place : place + len(ids)]
            place += len(ids)
            gaps = [(before[1], after[0]) for before, after in itertools.pairwise(mine)]
            cuts = [number for number, gap in enumerate(gaps, 1) if pauses is not None and _in_gap(pauses, gap)]
            for first, last in itertools.pairwise([0, *cuts, len(ids)]):
                text = self._emitter.decode(ids[first:last]) if cuts else word
                found.append(Spelled(text, mine[first][0], mine[last - 1][1]))
        return found


class TextOver:
    """A text with open places, laid over the sound as a whole: beside a misheard word others may be off their steps."""

    def __init__(self, log_probs: Tensor, parts: Sequence[list[int]]) -> None:
        """
        Args:
            log_probs: [steps, tokens], natural logarithms.
            parts: the tokens of each word; the number of tokens, which stands for anything, in an open place.
        """
        self._log_probs = torch.cat([log_probs, log_probs.amax(1, keepdim=True) - _AWAY], 1)
        self._anything = log_probs.shape[1]
        self._parts = parts
        self._open = self._likely([token for ids in parts for token in ids])

    def _likely(self, tokens: Sequence[int]) -> float:
        return path_likelihood(self._log_probs, tokens)

    def gained(self, number: int, more: Sequence[int]) -> float:
        """The nats by which the text is likelier with these tokens behind the part at `number`."""
        parts = [*self._parts[: number + 1], list(more), *self._parts[number + 1 :]]
        return self._likely([token for ids in parts for token in ids]) - self._open

    def likelier(self, number: int, written: Sequence[int]) -> tuple[float, float]:
        """The nats by which anything is likelier in the open place at `number` than these tokens, and by which they are
        likelier with anything before or behind them."""
        before = [token for ids in self._parts[:number] for token in ids]
        after = [token for ids in self._parts[number + 1 :] for token in ids]
        as_written = self._likely([*before, *written, *after])
        if as_written == -math.inf:
            return math.inf, math.inf
        beside = ([self._anything, *written], [*written, self._anything])
        return self._open - as_written, max(self._likely([*before, *one, *after]) for one in beside) - as_written


def passed_over(words: Sequence[Spelled], log_probs: Tensor) -> list[bool]:
    """For each word whether the model hears something between it and the next one; False for the last.

    The search that gave the words believes in what is written, and passes over a word that was left out there.

    Args:
        log_probs: [steps, tokens], natural logarithms.
    """
    clearer = (log_probs.amax(1) - log_probs[:, BLANK]).numpy()
    between = [float(clearer[word.last : after.first].sum()) for word, after in itertools.pairwise(words)]
    return [said >= _CLEAR for said in between] + [False] * bool(words)


def said_between(words: Sequence[str | Open], heard: Sequence[Transcribed]) -> list[str | None]:
    """What is heard in each open place of a text, and after each known word that another one follows: what stands
    between the known words beside it. None where nothing does, one of these was heard otherwise, or a word between is
    not so likely (`SURE`)."""
    known = [normalize(word) for word in words if isinstance(word, str)]
    agree = [True, *[False] * len(known), True]  # the edges, too
    between: list[list[Transcribed]] = [[] for _ in range(len(known) + 1)]
    done = place = 0
    for edit in align(known, [normalize(one.word) for one in heard]):
        done += edit.op != "I"
        agree[done] |= edit.op == "="
        if edit.op == "I":
            between[done].append(heard[place])
        place += edit.op != "D"
    found: list[str | None] = []
    done = 0
    for word, following in itertools.pairwise([*words, Open(())]):
        done += isinstance(word, str)
        clear = agree[done] and agree[done + 1] and all(one.sure >= SURE for one in between[done])
        is_asked = not isinstance(word, str) or isinstance(following, str)
        found.append((is_asked and clear and " ".join(one.word for one in between[done])) or None)
    return found


def _in_gap(pauses: npt.NDArray[np.float64], gap: tuple[int, int]) -> bool:
    """Whether most of one of the pauses (`[pauses, 2]`, steps) is between two tokens."""
    inside = np.minimum(pauses[:, 1], gap[1]) - np.maximum(pauses[:, 0], gap[0])
    return bool((inside > 0.5 * (pauses[:, 1] - pauses[:, 0])).any())


class RunEmitter:
    """The CTC head of a run's best checkpoint."""

    def __init__(self, run: Path) -> None:
        """Raises SpeechmillError where `run` is no run folder, or hears another rate."""
        from speechmill.evaluate import open_recognizer

        recipe = load_recipe(run / "config.yaml", [])
        self._recognizing: Recognizing = open_recognizer(run, recipe, "best")
        model = self._recognizing.model
        rate = model.log_mel.settings.sample_rate
        if rate != RATE:
            raise SpeechmillError(
                f"{run}: its model hears {rate} Hz and align works at {RATE} Hz; train one on shards with "
                f"shard.sample_rate={RATE}."
            )
        self.tokens = len(self._recognizing.tokenizer)
        self.writes = self._recognizing.tokenizer.settings.text == "as_written"
        weights = hashlib.sha256()
        for value in model.state_dict().values():
            weights.update(value.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        language_models = [run / name for name in (LANGUAGE_MODEL_NAME, NEURAL_MODEL_NAME)]
        self.version = fingerprint(
            [
                recipe.model_fingerprint(), self._recognizing.tokenizer.fingerprint, weights.hexdigest(),
                recipe.search.model_dump(mode="json"),
                *(sha256_file(path) for path in language_models if path.is_file()),
            ]
        )  # fmt: skip

    @torch.inference_mode()
    def log_probs(self, samples: Pcm) -> tuple[Tensor, float]:
        """See `Emitter.log_probs`."""
        model = self._recognizing.model
        sound = torch.from_numpy(samples.astype(np.float32) / 32768.0)[None].to(self._recognizing.device)
        features, frames = model.log_mel(sound, torch.tensor([len(samples)], device=sound.device))
        found = log_softmax(model.ctc_logits(model.encoded(features, frames)))
        return found[0].cpu(), len(samples) / RATE / max(1, found.shape[1])

    def heard(self, log_probs: Tensor) -> list[int]:
        """See `Emitter.heard`."""
        given = self._recognizing
        (found,) = ctc_search(log_probs[None], torch.tensor([len(log_probs)]), given.search, given.language_model)
        return found.tokens

    def encode(self, word: str) -> list[int]:
        """See `Emitter.encode`."""
        ids = self._recognizing.tokenizer.encode(word)
        return [] if any(token <= BLANK for token in ids) else ids  # unknown characters, or a wildcard

    def decode(self, ids: list[int]) -> str:
        """See `Emitter.decode`."""
        return self._recognizing.tokenizer.decode(ids)
