"""Utterances -> hypotheses: what validation, `evaluate` and `transcribe` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from speechmill.group import ALONE, Group
from speechmill.hypothesis import Hypothesis, Word, words_of
from speechmill.loader import padded
from speechmill.losses import log_softmax
from speechmill.models.base import Recognizer
from speechmill.models.language import LanguageModel
from speechmill.models.search import ctc_greedy
from speechmill.progress import Progress
from speechmill.settings import SearchSettings
from speechmill.tokenizer import Tokenizer

_PADDED_SECONDS = 120.0  # of audio in a batch, about

Audio = npt.NDArray[np.int16]


class GivenUp(Exception):
    """A stop was asked for before all utterances were recognized."""


@dataclass(frozen=True)
class Recognizing:
    """A recognizer ready to be used: model (in evaluation mode), tokenizer, search."""

    model: Recognizer
    tokenizer: Tokenizer
    search: SearchSettings
    language_model: LanguageModel | None
    device: torch.device

    times: bool = True  # whether hypotheses have the times of their words
    mend: bool = True  # whether CTC's text stands where the decoder went astray; its head must fit the encoder

    @torch.inference_mode()
    def batch(self, audio: list[Audio]) -> list[Hypothesis]:
        """The hypotheses of a few utterances, each of int16 samples at the model's rate."""
        stacked, lengths = padded(list(audio), np.int16)
        samples = stacked.to(self.device).to(next(self.model.parameters()).dtype) / 32768.0
        encoded = self.model.encoded(*self.model.log_mel(samples, lengths.to(self.device)))
        found = self.model.search(encoded, self.search, self.language_model)
        if not self.times and not (self.mend and any(one.caught for one in found)):
            return [Hypothesis(self.tokenizer.decode(one.tokens), caught=one.caught) for one in found]
        log_probs = log_softmax(self.model.ctc_logits(encoded))
        heard = ctc_greedy(log_probs, encoded.steps)
        rows = zip(found, heard, log_probs.cpu(), encoded.steps.tolist(), strict=True)
        return [
            self._hypothesis(heard if self.mend and one.caught else one.tokens, one.caught, scores[:steps])
            for one, heard, scores, steps in rows
        ]

    def _hypothesis(self, tokens: list[int], caught: str, log_probs: Tensor) -> Hypothesis:
        words: tuple[Word, ...] = ()
        if self.times:
            words = words_of(tokens, log_probs, self.tokenizer, *self.model.step_times())
        return Hypothesis(self.tokenizer.decode(tokens), words, caught)

    def all(
        self,
        audio: Callable[[int], Audio],
        samples: Sequence[int],
        progress: Progress | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> list[Hypothesis]:
        """The hypotheses of many utterances, in their order.

        Args:
            audio: gives the samples of utterance i.
            samples: how many samples each has; utterances of like length are recognized together.
            progress: counts the utterances.
            stop: asked before each batch; GivenUp is raised where it says so.
        """
        hypotheses = self.spread(audio, samples, ALONE, progress, stop)
        if hypotheses is None:
            raise GivenUp
        return hypotheses

    def spread(
        self,
        audio: Callable[[int], Audio],
        samples: Sequence[int],
        group: Group,
        progress: Progress | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> list[Hypothesis] | None:
        """As `all`, each batch on one of the ranks of a group; all ranks get all hypotheses, or None after a stop.

        The batches do not depend on the number of ranks: what a model that sees padding hears neither.
        """
        parts = group.gather(self.own(audio, samples, group, progress, stop))
        hypotheses: dict[int, Hypothesis] = {}
        for part in parts:
            if part is None:
                return None
            hypotheses.update(part)
        return [hypotheses[place] for place in range(len(samples))]

    def own(
        self,
        audio: Callable[[int], Audio],
        samples: Sequence[int],
        group: Group,
        progress: Progress | None = None,
        stop: Callable[[], bool] | None = None,
        first: int = 0,
    ) -> dict[int, Hypothesis] | None:
        """This rank's part of `spread`, by place; nobody is waited for. None after a stop.

        Args:
            first: the rank that has the first batch.
        """
        found: dict[int, Hypothesis] = {}
        rate = self.model.log_mel.settings.sample_rate
        was_training = self.model.training
        self.model.eval()
        try:
            for number, places in enumerate(_groups(samples, int(_PADDED_SECONDS * rate))):
                if stop is not None and stop():
                    return None
                if (first + number) % group.size == group.rank:
                    found.update(zip(places, self.batch([audio(i) for i in places]), strict=True))
                    group.alive()
                if progress is not None:
                    progress.advance(len(places))
        finally:
            self.model.train(was_training)
        return found


def _groups(samples: Sequence[int], limit: int) -> list[list[int]]:
    """Utterances by ascending length, as many together as the padded limit allows."""
    groups: list[list[int]] = []
    for place in sorted(range(len(samples)), key=lambda i: (samples[i], i)):
        if groups and samples[place] * (len(groups[-1]) + 1) <= limit:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups
