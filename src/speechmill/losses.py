"""Losses return (sum, count); one place divides by the global count of an update.

That is what makes accumulation, several processes and uneven batches agree. The count is the number of target tokens.
Lengths and targets may be on the CPU where log probabilities are on a GPU: then nothing here waits for it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from speechmill.device import sent
from speechmill.tokenizer import ANYTHING, BLANK


class LossSum(NamedTuple):
    """A loss before division: its sum, a scalar on the device, and what it is divided by (target tokens)."""

    sum: Tensor  # scalar, attached to the graph
    count: int  # type: ignore[assignment]  # target tokens without wildcards; tuple.count is not used


def log_softmax(logits: Tensor) -> Tensor:
    """Log probabilities over the last axis, in float32 at least, whatever the precision of the encoder."""
    return torch.nn.functional.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=-1)


def ctc_loss(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> LossSum:
    """Connectionist temporal classification (Graves et al. 2006), summed over the batch, in nats.

    An utterance that has fewer frames than CTC needs for its targets has an infinite loss; it counts as zero, and has
    no gradient. A target `ANYTHING` is a wildcard (after Pratap et al. 2022, star temporal classification): a token
    that is as likely at each frame as the likeliest of the model's. So it lasts as long as nothing that is known fits
    better, and of its frames nothing is learned. With a probability of one it would swallow known words while the model
    is unsure.

    Args:
        log_probs: [batch, frames, tokens], log-softmaxed.
        lengths: [batch], frames.
        targets: [batch, length], token ids or ANYTHING, padded.
        target_lengths: [batch].
    """
    given, anything = _counted(targets, target_lengths)
    if anything:
        # One more token, a constant to the gradient: PyTorch's, made for normalised columns, is right for the others.
        targets = targets.masked_fill(targets == ANYTHING, log_probs.shape[-1])
        log_probs = torch.cat([log_probs, log_probs.detach().amax(-1, keepdim=True)], dim=-1)
    targets, lengths, target_lengths = sent(targets, log_probs.device), lengths.cpu(), target_lengths.cpu()
    total = torch.nn.functional.ctc_loss(
        log_probs.transpose(0, 1), targets, lengths, target_lengths, BLANK, reduction="sum", zero_infinity=True
    )
    return LossSum(total, given)


def known(targets: Tensor, target_lengths: Tensor) -> int:
    """Target tokens, [batch, length], that are learned: without wildcards."""
    return _counted(targets, target_lengths)[0]


def _counted(targets: Tensor, target_lengths: Tensor) -> tuple[int, int]:
    """Target tokens, and wildcards among the targets; where they are on a GPU it is waited for."""
    total, anything = torch.stack([target_lengths.sum(), (targets == ANYTHING).sum()]).tolist()
    return total - anything, anything


def smoothed_nll(log_probs: Tensor, targets: Tensor, target_lengths: Tensor, smoothing: float) -> LossSum:
    """Label-smoothed negative log-likelihood (Szegedy et al. 2016), summed over the batch's tokens, in nats.

    Args:
        log_probs: [batch, length, tokens].
        targets: [batch, length], padded; where they are ANYTHING nothing is learned.
        target_lengths: [batch]; positions behind are not counted.
    """
    inside = torch.arange(targets.shape[1], device=targets.device) < target_lengths[:, None]
    inside &= targets != ANYTHING
    true = log_probs.gather(-1, sent(targets.clamp(min=0), log_probs.device)[..., None]).squeeze(-1)
    per_token = -(1.0 - smoothing) * true - smoothing * log_probs.mean(-1)
    return LossSum((per_token * sent(inside, log_probs.device)).sum(), known(targets, target_lengths))


def joint(parts: list[tuple[float, LossSum]], count: int) -> LossSum:
    """A weighted sum of losses, over a common count."""
    total = torch.stack([weight * part.sum for weight, part in parts]).sum()
    return LossSum(total, count)
