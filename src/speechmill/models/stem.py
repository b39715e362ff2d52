"""The front of the encoders that mask padding: strided convolutions, then a projection."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from speechmill.device import sent


class Stem(nn.Module):
    """3x3 convolutions of stride 2 in time and frequency, then a projection."""

    def __init__(self, n_mels: int, channels: int, stride: int, size: int, dropout: float) -> None:
        super().__init__()
        halvings = {4: 2, 8: 3}[stride]
        sizes = [1] + [channels] * halvings
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(sizes))
        bins = n_mels
        for _ in range(halvings):
            bins = (bins + 1) // 2
        self.project = nn.Linear(channels * bins, size)
        self.dropout = nn.Dropout(dropout)

    def steps(self, frames: Tensor) -> Tensor:
        for _ in self.convolutions:
            frames = (frames + 1) // 2
        return frames

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, frames, n_mels] -> [batch, steps, size], and the steps of each utterance."""
        x, frames = features[:, None], sent(frames, features.device)
        for convolution in self.convolutions:
            x = functional.relu(convolution(x))
            frames = (frames + 1) // 2
            inside = torch.arange(x.shape[2], device=x.device) < frames[:, None]
            x = x * inside[:, None, :, None]
        x = self.project(x.transpose(1, 2).flatten(2))
        return self.dropout(x), frames
