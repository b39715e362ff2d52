"""A small CTC recognizer for CPUs. Hypotheses do not depend on what else is in the batch: padding is masked."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from speechmill.losses import LossSum, ctc_loss, joint, log_softmax
from speechmill.models.base import Recognizer
from speechmill.models.ngram import NgramModel
from speechmill.models.search import ctc_beam, ctc_greedy
from speechmill.settings import CtcSettings, FeatureSettings, SearchSettings


class CtcRecognizer(Recognizer):
    """Strided convolutions, then blocks over time, then one linear layer over the tokens."""

    def __init__(self, features: FeatureSettings, settings: CtcSettings, tokens: int) -> None:
        super().__init__(features)
        self.stem = Stem(features.n_mels, settings)
        self.blocks = nn.ModuleList(LstmBlock(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.size)
        self.head = nn.Linear(settings.size, tokens)
        self.inner = settings.inner_ctc if settings.layers > 1 else 0.0

    def log_probs(self, features: Tensor, frames: Tensor) -> tuple[list[Tensor], Tensor]:
        """Log probabilities after each block, [batch, steps, tokens], and the steps of each utterance, [batch]."""
        x, steps = self.stem(features, frames)
        inside = torch.arange(x.shape[1], device=x.device) < steps[:, None]
        outputs = []
        for number, block in enumerate(self.blocks, 1):
            x = block(x, steps, inside)
            if (self.training and self.inner) or number == len(self.blocks):
                outputs.append(log_softmax(self.head(self.norm(x))))
        return outputs, steps

    def loss(
        self, features: Tensor, frames: Tensor, targets: Tensor, target_lengths: Tensor, *, with_ctc: bool = True
    ) -> LossSum:
        del with_ctc  # there is nothing else to train
        outputs, steps = self.log_probs(features, frames)
        losses = [ctc_loss(log_probs, steps, targets, target_lengths) for log_probs in outputs]
        weights = [self.inner / max(1, len(losses) - 1)] * (len(losses) - 1) + [1.0 - self.inner]
        return joint(list(zip(weights, losses, strict=True)), losses[-1].count)

    def transcribe(
        self, features: Tensor, frames: Tensor, search: SearchSettings, language_model: NgramModel | None
    ) -> list[list[int]]:
        outputs, steps = self.log_probs(features, frames)
        log_probs = outputs[-1]
        if search.kind == "greedy":
            return ctc_greedy(log_probs, steps)
        return [
            ctc_beam(utterance[:length].cpu().numpy(), search, language_model)
            for utterance, length in zip(log_probs, steps.tolist(), strict=True)
        ]


class Stem(nn.Module):
    """3x3 convolutions of stride 2 in time and frequency, then a projection."""

    def __init__(self, n_mels: int, settings: CtcSettings) -> None:
        super().__init__()
        halvings = {4: 2, 8: 3}[settings.stride]
        sizes = [1] + [settings.channels] * halvings
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(sizes))
        bins = n_mels
        for _ in range(halvings):
            bins = (bins + 1) // 2
        self.project = nn.Linear(settings.channels * bins, settings.size)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        x = features[:, None]
        for convolution in self.convolutions:
            x = functional.relu(convolution(x))
            frames = (frames + 1) // 2
            inside = torch.arange(x.shape[2], device=x.device) < frames[:, None]
            x = x * inside[:, None, :, None]
        x = self.project(x.transpose(1, 2).flatten(2))
        return self.dropout(x), frames


class LstmBlock(nn.Module):
    """Pre-normalised bidirectional LSTM with a residual connection.

    The backward direction reads each utterance reversed within its own length, so that it never starts on padding.
    """

    def __init__(self, settings: CtcSettings) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(settings.size)
        self.ahead = nn.LSTM(settings.size, settings.size, batch_first=True)
        self.back = nn.LSTM(settings.size, settings.size, batch_first=True)
        self.project = nn.Linear(2 * settings.size, settings.size)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, steps: Tensor, inside: Tensor) -> Tensor:
        y = self.norm(x)
        place = torch.arange(x.shape[1], device=x.device)
        mirrored = torch.where(inside, steps[:, None] - 1 - place, place)[..., None]
        ahead = self.ahead(y)[0]
        back = self.back(y.gather(1, mirrored.expand_as(y)))[0]
        back = back.gather(1, mirrored.expand_as(back))
        added: Tensor = self.dropout(self.project(torch.cat([ahead, back], dim=-1)))
        return x + added
