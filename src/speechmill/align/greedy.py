"""What a CTC model hears on its likeliest path, and how sure it is of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor

from speechmill.tokenizer import BLANK

_LIKELY = 0.2  # nothing is said where no token is so likely


def likeliest_tokens(log_probs: Tensor) -> list[tuple[int, float]]:
    """The tokens of the likeliest path, each with how likely it is at its best step.

    Args:
        log_probs: [steps, tokens], natural logarithms.
    """
    values, ids = log_probs.max(1)
    found: list[tuple[int, float]] = []
    before = BLANK
    for token, value in zip(ids.tolist(), values.exp().tolist(), strict=True):
        if token != BLANK:
            found = [*found, (token, value)] if token != before else [*found[:-1], (token, max(found[-1][1], value))]
        before = token
    return found


def trusted(heard: Sequence[tuple[int, float]], log_probs: Tensor) -> list[float]:
    """How likely the likeliest tokens are; 0 for one with a doubtful step between it and the one before, and for the
    last where one follows it."""
    ids = [BLANK, *log_probs.argmax(1).tolist()]
    begins = [step for step, (before, here) in enumerate(itertools.pairwise(ids)) if here not in (BLANK, before)]
    doubtful = _doubtful_steps(log_probs, BLANK, BLANK)
    bounds = [0, *begins, len(doubtful)]
    doubts = [any(doubtful[low:high]) for low, high in itertools.pairwise(bounds)]
    values = [0.0 if doubt else value for doubt, (_, value) in zip(doubts, heard, strict=False)]
    return [*values[:-1], 0.0] if values and doubts[-1] else values


def is_doubtful(log_probs: Tensor, before: int, after: int) -> bool:
    """Whether a step between two tokens is doubtful."""
    return any(_doubtful_steps(log_probs, before, after))


def _doubtful_steps(log_probs: Tensor, before: int, after: int) -> list[bool]:
    """Where nothing is the likeliest, and a token is likely that is not that of a step beside it."""
    likeliest = [before, *log_probs.argmax(1).tolist(), after]
    values, tokens = log_probs[:, BLANK + 1 :].max(1)
    found = zip(tokens.tolist(), values.exp().tolist(), likeliest[1:], strict=False)
    return [
        here == BLANK and value >= _LIKELY and token + BLANK + 1 not in (likeliest[step], likeliest[step + 2])
        for step, (token, value, here) in enumerate(found)
    ]
