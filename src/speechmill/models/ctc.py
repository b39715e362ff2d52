"""A small CTC recognizer for CPUs. Hypotheses do not depend on what else is in the batch: padding is masked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speechmill.losses import LossSum, ctc_loss, joint, log_softmax
from speechmill.models.base import Encoded, Found, Recognizer
from speechmill.models.language import LanguageModel
from speechmill.models.search import ctc_search
from speechmill.models.stem import Stem
from speechmill.settings import CtcSettings, FeatureSettings, SearchSettings


class CtcRecognizer(Recognizer):
    """Strided convolutions, then blocks over time, then one linear layer over the tokens."""

    def __init__(self, features: FeatureSettings, settings: CtcSettings, tokens: int) -> None:
        super().__init__(features)
        self.step_frames, self.step_begins = settings.stride, -settings.stride / 2  # step k is about frame k stride
        self.stem = Stem(features.n_mels, settings.channels, settings.stride, settings.size, settings.dropout)
        self.blocks = nn.ModuleList(LstmBlock(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.size)
        self.head = nn.Linear(settings.size, tokens)
        self.inner = settings.inner_ctc if settings.layers > 1 else 0.0

    def outputs(self, features: Tensor, frames: Tensor) -> tuple[list[Tensor], Tensor]:
        """The outputs of the blocks that have a loss, [batch, steps, size], the last block's at the end; and steps."""
        x, steps = self.stem(features, frames)
        inside = torch.arange(x.shape[1], device=x.device) < steps[:, None]
        outputs = []
        for number, block in enumerate(self.blocks, 1):
            x = block(x, steps, inside)
            if (self.training and self.inner) or number == len(self.blocks):
                outputs.append(x)
        return outputs, steps

    def log_probs(self, features: Tensor, frames: Tensor) -> tuple[list[Tensor], Tensor]:
        """Log probabilities after those blocks, [batch, steps, tokens], and the steps of each utterance, [batch]."""
        outputs, steps = self.outputs(features, frames)
        return [log_softmax(self.head(self.norm(x))) for x in outputs], steps

    def loss(
        self, features: Tensor, frames: Tensor, targets: Tensor, target_lengths: Tensor, *, with_ctc: bool = True
    ) -> LossSum:
        del with_ctc  # there is nothing else to train
        outputs, _ = self.log_probs(features, frames)
        steps = self.stem.steps(frames)
        losses = [ctc_loss(log_probs, steps, targets, target_lengths) for log_probs in outputs]
        weights = [self.inner / max(1, len(losses) - 1)] * (len(losses) - 1) + [1.0 - self.inner]
        return joint(list(zip(weights, losses, strict=True)), losses[-1].count)

    def encoded(self, features: Tensor, frames: Tensor) -> Encoded:
        outputs, steps = self.outputs(features, frames)
        return Encoded(outputs[-1], steps)

    def steps(self, frames: Tensor, total: int) -> Tensor:
        del total
        return self.stem.steps(frames)

    def ctc_logits(self, encoded: Encoded) -> Tensor:
        logits: Tensor = self.head(self.norm(encoded.states))
        return logits

    def search(self, encoded: Encoded, search: SearchSettings, language_model: LanguageModel | None) -> list[Found]:
        return ctc_search(log_softmax(self.ctc_logits(encoded)), encoded.steps, search, language_model)


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
