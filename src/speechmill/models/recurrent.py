"""A bidirectional LSTM over padded utterances, none of which hears its padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def bidirectional(lstm: nn.LSTM, x: Tensor, steps: Tensor) -> Tensor:
    """What `lstm` gives for packed sequences, but by the library's fast kernels, which take no packed ones on a CPU.

    The backward direction reads each utterance reversed within its own steps, so that it never starts on padding.

    Args:
        x: [batch, steps, input_size].
        steps: [batch], of each utterance.
    Returns:
        [batch, steps, 2 hidden_size]; behind an utterance's steps it means nothing.
    """
    place = torch.arange(x.shape[1], device=x.device)
    mirrored = torch.where(place < steps[:, None], steps[:, None] - 1 - place, place)[..., None]
    for layer in range(lstm.num_layers):
        if layer:
            x = functional.dropout(x, lstm.dropout, lstm.training)
        ahead = _direction(lstm, x, f"l{layer}")
        back = _direction(lstm, x.gather(1, mirrored.expand_as(x)), f"l{layer}_reverse")
        x = torch.cat([ahead, back.gather(1, mirrored.expand_as(back))], dim=-1)
    return x


def _direction(lstm: nn.LSTM, x: Tensor, name: str) -> Tensor:
    weights = [getattr(lstm, f"{part}_{name}") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    start = x.new_zeros(1, x.shape[0], lstm.hidden_size)
    found: Tensor = torch._VF.lstm(x, (start, start), weights, True, 1, 0.0, lstm.training, False, True)[0]
    return found
