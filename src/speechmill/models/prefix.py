"""CTC prefix scores for a search that goes token by token (Watanabe et al. 2017, algorithm 2), many prefixes at once.

SpeechBrain's scorer needs blank, BOS and EOS to be three tokens, and goes frame by frame in Python. The recursion over
frames, r[t] = x[t] (r[t-1] + phi[t-1]), is linear: divided by the running product of x it is a cumulative sum.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from speechmill.tokenizer import BLANK

_NEVER = -1e30  # log of nothing; finite, so that differences of two are no NaN
_LEAST = -1e5  # of a prefix: searches add up differences of these, which must stay exact
_FLOOR = -200.0  # log probabilities are not lower: sums over frames stay exact


class PrefixState(NamedTuple):
    """Of rows of prefixes: log P of the frames up to each, ending in the prefix's last token or in blank."""

    token: Tensor  # [rows, frames + 1], float64
    blank: Tensor  # [rows, frames + 1]; frame 0 stands before the first
    last: Tensor  # [rows], token ids; -1 of the empty prefix
    score: Tensor  # [rows], log P of all that begin with the prefix


class CtcPrefixes:
    """Scores of the prefixes of a batch. Rows are `beam` to an utterance, utterance by utterance."""

    def __init__(self, log_probs: Tensor, steps: Tensor, beam: int) -> None:
        """`log_probs` [batch, frames, tokens], natural logarithms; `steps` [batch], the frames of each utterance."""
        frames = torch.arange(log_probs.shape[1], device=log_probs.device)
        behind = frames >= steps[:, None]
        wide = log_probs.double().clamp(min=_FLOOR)
        # Behind its end an utterance says blank for certain: a path that has come there stays as it is.
        wide = wide.masked_fill(behind[..., None], _FLOOR)
        wide[..., BLANK] = wide[..., BLANK].masked_fill(behind, 0.0)
        self._inside = ~behind
        self._log_probs = wide
        self._blank_sums = wide[..., BLANK].cumsum(1)
        self._beam = beam

    def begin(self) -> PrefixState:
        """The state of `beam` empty prefixes for each utterance."""
        blank = torch.nn.functional.pad(self._blank_sums, (1, 0)).repeat_interleave(self._beam, 0)
        token = torch.full_like(blank, _NEVER)
        last = torch.full((len(blank),), -1, dtype=torch.int64, device=blank.device)
        return PrefixState(token, blank, last, torch.zeros_like(blank[:, 0]))

    def scores(self, state: PrefixState, candidates: Tensor) -> tuple[Tensor, PrefixState]:
        """log P(prefix and candidate and whatever follows); for the candidate 0, log P(the prefix and nothing more).

        Args:
            candidates: [rows, candidates], token ids.
        Returns:
            [rows, candidates], and the states of the longer prefixes, [rows * candidates] rows: see `keep`.
        """
        rows, count = candidates.shape
        said = self._of_rows(candidates)  # [rows, candidates, frames]
        before = torch.logaddexp(state.token, state.blank)[:, None, :-1]
        same = (candidates == state.last[:, None])[..., None]
        phi = torch.where(same, state.blank[:, None, :-1], before)
        token = _recursion(said, phi)
        blanks = self._log_probs[..., BLANK].repeat_interleave(self._beam, 0)[:, None, :]
        blank = _recursion(blanks.expand_as(said), token[..., :-1])
        total = torch.logsumexp((phi + said).masked_fill(~self._row_inside()[:, None], _NEVER), dim=-1)
        total = total.clamp(min=_LEAST)
        whole = torch.logaddexp(state.token[:, -1], state.blank[:, -1])
        total = torch.where(candidates == BLANK, whole[:, None].clamp(min=_LEAST), total)
        flat = rows * count
        longer = PrefixState(
            token.reshape(flat, -1), blank.reshape(flat, -1), candidates.reshape(flat), total.reshape(flat)
        )
        return total, longer

    @staticmethod
    def keep(longer: PrefixState, places: Tensor) -> PrefixState:
        """Some of the longer prefixes; `places` count through rows and candidates."""
        return PrefixState(*(part[places] for part in longer))

    def _of_rows(self, candidates: Tensor) -> Tensor:
        batch = torch.arange(len(candidates), device=candidates.device) // self._beam
        # [rows, frames, candidates] by picking each row's tokens from its utterance.
        picked = self._log_probs[batch[:, None], :, candidates]
        return picked  # indexing puts the picked dimensions first: [rows, candidates, frames]

    def _row_inside(self) -> Tensor:
        return self._inside.repeat_interleave(self._beam, 0)


def _recursion(said: Tensor, entering: Tensor) -> Tensor:
    """r[t] = said[t] + logaddexp(r[t-1], entering[t-1]) from r = nothing; [..., frames] -> [..., frames + 1]."""
    sums = said.cumsum(-1)
    shifted = torch.nn.functional.pad(sums[..., :-1], (1, 0))
    grown = torch.logcumsumexp(entering - shifted, dim=-1) + sums
    return torch.nn.functional.pad(grown.clamp(min=_NEVER), (1, 0), value=_NEVER)
