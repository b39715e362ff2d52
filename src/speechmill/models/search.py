"""Search over CTC outputs: greedy, and prefix beam search with a language model over tokens."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from torch import Tensor

from speechmill.models.base import Found
from speechmill.models.language import LanguageModel
from speechmill.settings import SearchSettings
from speechmill.tokenizer import BLANK

_PRUNE = -7.0  # tokens less likely than this (natural log) in a frame are not tried
_NEVER = -math.inf


def ctc_search(
    log_probs: Tensor, steps: Tensor, search: SearchSettings, language_model: LanguageModel | None
) -> list[Found]:
    """Greedy or beam search in CTC outputs, [batch, steps, tokens]."""
    if search.kind == "greedy":
        return [Found(tokens) for tokens in ctc_greedy(log_probs, steps)]
    return [
        Found(ctc_beam(utterance[:length].cpu().numpy(), search, language_model))
        for utterance, length in zip(log_probs, steps.tolist(), strict=True)
    ]


def ctc_greedy(log_probs: Tensor, steps: Tensor) -> list[list[int]]:
    """The best token of each frame, repeats merged, blanks dropped. log_probs: [batch, steps, tokens]."""
    best = log_probs.argmax(-1).cpu().numpy()
    return [collapse(frames[:length]) for frames, length in zip(best, steps.tolist(), strict=True)]


def collapse(frames: npt.NDArray[np.integer]) -> list[int]:
    """Merge repeats, then drop blanks."""
    changes = np.flatnonzero(np.diff(frames, prepend=-1))
    return [int(token) for token in frames[changes] if token != BLANK]


def ctc_beam(
    log_probs: npt.NDArray[np.float32], search: SearchSettings, language_model: LanguageModel | None
) -> list[int]:
    """CTC prefix beam search (Hannun et al. 2014) with a token language model.

    Args:
        log_probs: [steps, tokens], natural logarithms.
    Returns:
        the tokens of the best prefix: log P_ctc + lm_weight * log P_lm + length_bonus * tokens.
    """
    # prefix -> (log P that it ends in blank, log P that it ends in its last token, language score)
    beam: dict[tuple[int, ...], tuple[float, float, float]] = {(): (0.0, _NEVER, 0.0)}
    for frame in log_probs:
        tried = (frame > _PRUNE) | (frame == frame.max())  # one at least, however flat the frame
        likely = [(int(token), float(frame[token])) for token in np.flatnonzero(tried)]
        ended: dict[tuple[int, ...], list[float]] = {}
        for prefix, (blank, token_end, language) in beam.items():
            _extend(prefix, blank, token_end, language, likely, ended, search, language_model)
        ranked = sorted(ended.items(), key=lambda item: _add(item[1][0], item[1][1]) + item[1][2], reverse=True)
        beam = {prefix: (scores[0], scores[1], scores[2]) for prefix, scores in ranked[: search.beam]}
    if language_model is not None:
        finished = {
            prefix: _add(blank, token) + language + search.lm_weight * language_model.end(prefix)
            for prefix, (blank, token, language) in beam.items()
        }
        return list(max(finished.items(), key=lambda item: item[1])[0])
    return list(next(iter(beam)))


def _extend(
    prefix: tuple[int, ...], blank: float, token_end: float, language: float, likely: list[tuple[int, float]],
    ended: dict[tuple[int, ...], list[float]], search: SearchSettings, language_model: LanguageModel | None,
) -> None:  # fmt: skip
    """Add to `ended` what a prefix becomes with each likely token of the frame."""
    total = _add(blank, token_end)
    for token, score in likely:
        if token == BLANK:
            scores = ended.setdefault(prefix, [_NEVER, _NEVER, language])
            scores[0] = _add(scores[0], total + score)
            continue
        repeated = bool(prefix) and token == prefix[-1]
        if repeated:
            scores = ended.setdefault(prefix, [_NEVER, _NEVER, language])
            scores[1] = _add(scores[1], token_end + score)
        start = blank if repeated else total
        if start == _NEVER:
            continue
        longer = (*prefix, token)
        if longer not in ended:
            bonus = search.length_bonus
            if language_model is not None:
                bonus += search.lm_weight * language_model.score(prefix, token)
            ended[longer] = [_NEVER, _NEVER, language + bonus]
        scores = ended[longer]
        scores[1] = _add(scores[1], start + score)


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == _NEVER else a + math.log1p(math.exp(b - a))
