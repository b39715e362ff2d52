"""A text over CTC outputs: the steps of each token on the best path, and how likely that path is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchaudio.functional import forced_align

from speechmill.tokenizer import BLANK


def place_tokens(log_probs: Tensor, tokens: Sequence[int]) -> list[tuple[int, int]] | None:
    """The steps (first, last without) of each token on the best path; None where there are too few steps.

    Args:
        log_probs: [steps, tokens], natural logarithms.
    """
    if not tokens or not _fit(log_probs, tokens):
        return None
    path, _ = _best_path(log_probs, tokens)
    frames: npt.NDArray[np.int64] = path.numpy()
    starts = np.flatnonzero((np.diff(frames, prepend=-1) != 0) & (frames != BLANK))
    ends = np.flatnonzero((np.diff(frames, append=-1) != 0) & (frames != BLANK)) + 1
    return [(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def path_likelihood(log_probs: Tensor, tokens: Sequence[int]) -> float:
    """How likely the best path of a text is, in nats; -inf where there are too few steps.

    Of all paths together a text with one token more has so many more of them in a pause that nothing would need to be
    said there.

    Args:
        log_probs: [steps, tokens], natural logarithms.
    """
    if not tokens:
        return float(log_probs[:, BLANK].sum())
    return float(_best_path(log_probs, tokens)[1].sum()) if _fit(log_probs, tokens) else -math.inf


def _fit(log_probs: Tensor, tokens: Sequence[int]) -> bool:
    """Whether there are steps enough, and no token is the blank."""
    repeats = sum(before == after for before, after in itertools.pairwise(tokens))
    return log_probs.shape[0] >= len(tokens) + repeats and BLANK not in tokens


def _best_path(log_probs: Tensor, tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The token of each step, and its log probability."""
    paths, scores = forced_align(log_probs[None].float(), torch.tensor([list(tokens)], dtype=torch.int32), blank=BLANK)
    return paths[0], scores[0]
