"""Utterances -> hypotheses: what validation, `evaluate` and `transcribe` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from speechmill.group import ALONE, Group
from speechmill.loader import padded
from speechmill.models.base import Recognizer
from speechmill.models.ngram import NgramModel
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
    language_model: NgramModel | None
    device: torch.device

    @torch.inference_mode()
    def batch(self, audio: list[Audio]) -> list[str]:
        """The hypotheses of a few utterances, each of int16 samples at the model's rate."""
        stacked, lengths = padded(list(audio), np.int16)
        samples = stacked.to(self.device).to(next(self.model.parameters()).dtype) / 32768.0
        features, frames = self.model.log_mel(samples, lengths.to(self.device))
        tokens = self.model.transcribe(features, frames, self.search, self.language_model)
        return [self.tokenizer.decode(ids) for ids in tokens]

    def all(
        self,
        audio: Callable[[int], Audio],
        samples: Sequence[int],
        progress: Progress | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> list[str]:
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
    ) -> list[str] | None:
        """As `all`, each batch on one of the ranks of a group; all ranks get all hypotheses, or None after a stop.

        The batches do not depend on the number of ranks: what a model that sees padding hears neither.
        """
        found: dict[int, str] = {}
        stopped = False
        rate = self.model.log_mel.settings.sample_rate
        was_training = self.model.training
        self.model.eval()
        try:
            for number, places in enumerate(_groups(samples, int(_PADDED_SECONDS * rate))):
                stopped = stop is not None and stop()
                if stopped:
                    break
                if number % group.size == group.rank:
                    found.update(zip(places, self.batch([audio(i) for i in places]), strict=True))
                    group.alive()
                if progress is not None:
                    progress.advance(len(places))
        finally:
            self.model.train(was_training)
        parts = group.gather((stopped, found))
        if any(stopped for stopped, _ in parts):
            return None
        hypotheses = [""] * len(samples)
        for _, part in parts:
            for place, text in part.items():
                hypotheses[place] = text
        return hypotheses


def _groups(samples: Sequence[int], limit: int) -> list[list[int]]:
    """Utterances by ascending length, as many together as the padded limit allows."""
    groups: list[list[int]] = []
    for place in sorted(range(len(samples)), key=lambda i: (samples[i], i)):
        if groups and samples[place] * (len(groups[-1]) + 1) <= limit:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups
