"""A text over CTC outputs: the steps of each token on the best path, and how likely it is over all paths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import ctc_loss
from torchaudio.functional import forced_align

from speechmill.tokenizer import BLANK


def place_tokens(log_probs: Tensor, tokens: Sequence[int]) -> list[tuple[int, int]] | None:
    """The steps (first, last without) of each token on the best path; None where there are too few steps.

    Args:
        log_probs: [steps, tokens], natural logarithms.
    """
    repeats = sum(before == after for before, after in itertools.pairwise(tokens))
    if not tokens or log_probs.shape[0] < len(tokens) + repeats or BLANK in tokens:
        return None
    path, _ = forced_align(log_probs[None].float(), torch.tensor([list(tokens)], dtype=torch.int32), blank=BLANK)
    frames: npt.NDArray[np.int64] = path[0].numpy()
    starts = np.flatnonzero((np.diff(frames, prepend=-1) != 0) & (frames != BLANK))
    ends = np.flatnonzero((np.diff(frames, append=-1) != 0) & (frames != BLANK)) + 1
    return [(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def log_likelihood(log_probs: Tensor, tokens: Sequence[int]) -> float:
    """How likely a text is over all its paths, in nats; -inf where there are too few steps.

    Args:
        log_probs: [steps, tokens], natural logarithms.
    """
    steps = log_probs.shape[0]
    if not tokens or not steps:
        return float(log_probs[:, BLANK].sum()) if not tokens else -math.inf
    lengths = torch.tensor([steps]), torch.tensor([len(tokens)])
    loss = ctc_loss(log_probs[:, None].float(), torch.tensor([list(tokens)]), *lengths, blank=BLANK, reduction="sum")
    return -float(loss)
