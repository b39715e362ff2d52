"""Beam search of an attention decoder together with CTC prefix scores and a language model, over a batch at once.

Plain beam search is SpeechBrain's. Its joint one needs blank, BOS and EOS to be three tokens, and the thesis has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from speechmill.losses import log_softmax
from speechmill.models.base import Encoded, Found
from speechmill.models.caught import caught
from speechmill.models.language import LanguageModel
from speechmill.models.prefix import CtcPrefixes, PrefixState
from speechmill.settings import SearchSettings
from speechmill.tokenizer import BLANK

_EOS = BLANK
_EOS_THRESHOLD = 1.5  # the sentence may end where log P(end) > 1.5 log P(best token): Hannun et al. 2019, SpeechBrain
_CANDIDATES = 2  # times the beam: tokens of each prefix that CTC and language model look at
_NEVER = -1e30
_MARGIN = 10.0  # a prefix that is so far behind the best sentence that ended is given up


class StepDecoder(Protocol):
    """An attention decoder that goes token by token over rows of prefixes, `beam` to an utterance."""

    def begin(self, encoded: Encoded, beam: int) -> Any:
        """The state of empty prefixes."""

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits of what follows the last tokens ([rows]; at first BOS), [rows, tokens], and the state."""

    def select(self, state: Any, rows: Tensor) -> Any:
        """The state of some of the rows."""


@dataclass
class _Beam:
    """Prefixes that are alive, and the best sentence of each utterance that has ended.

    An utterance is through when its prefixes are far behind, or have as many tokens as it has steps; the others of the
    batch change nothing of it then.
    """

    steps: list[int]  # of each utterance
    width: int
    tokens: Tensor  # [rows, length]
    scores: Tensor  # [rows]
    best: list[tuple[float, list[int]] | None]
    found: list[Found | None]

    def end(self, scores: Tensor) -> None:
        """Take in the scores of the prefixes as whole sentences."""
        highest = scores.view(-1, self.width).max(1)
        for utterance, (score, row) in enumerate(zip(highest.values.tolist(), highest.indices.tolist(), strict=True)):
            known = self.best[utterance]
            if score > _NEVER / 2 and (known is None or score > known[0]):
                self.best[utterance] = (score, self.tokens[utterance * self.width + row].tolist())

    def leave(self) -> bool:
        """Let those utterances go that are through; whether all are."""
        leading = self.scores.view(-1, self.width).max(1)
        length = self.tokens.shape[1]
        for utterance, (score, row) in enumerate(zip(leading.values.tolist(), leading.indices.tolist(), strict=True)):
            known = self.best[utterance]
            behind = known is not None and score <= known[0] - _MARGIN
            if self.found[utterance] is not None or not (behind or length > self.steps[utterance]):
                continue
            if known is not None and (behind or known[0] >= score):
                self.found[utterance] = Found(known[1], caught(known[1], ended=True))
            else:  # at the limit of its length, and a sentence that ended is not as good
                tokens = self.tokens[utterance * self.width + row].tolist()
                self.found[utterance] = Found(tokens, caught(tokens, ended=False))
        return all(found is not None for found in self.found)


def joint_search(
    decoder: StepDecoder, encoded: Encoded, ctc_logits: Tensor | None, search: SearchSettings,
    language_model: LanguageModel | None,
) -> list[Found]:  # fmt: skip
    """The best sentence of each utterance by (1 - ctc_weight) attention + ctc_weight CTC + lm_weight LM + bonus.

    Args:
        ctc_logits: [batch, steps, tokens]; None searches without.
    """
    batch, width = len(encoded.steps), search.beam
    device = encoded.states.device
    state = decoder.begin(encoded, width)
    scorers = _Scorers(ctc_logits, encoded.steps, search, language_model, batch * width)
    scores = torch.full((batch, width), _NEVER, dtype=torch.float64, device=device)
    scores[:, 0] = 0.0  # the others are the same prefix
    last = torch.full((batch * width,), _EOS, dtype=torch.int64, device=device)
    beam = _Beam(encoded.steps.tolist(), width, last.new_empty(batch * width, 0), scores.view(-1), [None] * batch,
                 [None] * batch)  # fmt: skip
    offset = torch.arange(batch, device=device)[:, None] * width
    while not beam.leave():
        logits, state = decoder.step(last, state)
        log_probs = log_softmax(logits).double() * scorers.attention
        allowed = log_probs[:, _EOS] > _EOS_THRESHOLD * log_probs[:, 1:].amax(1)
        rest = log_probs[:, 1:].topk(min(_CANDIDATES * width, log_probs.shape[1] - 1), dim=1)
        candidates = torch.cat([torch.full_like(last, _EOS)[:, None], rest.indices + 1], dim=1)
        own = torch.cat([log_probs[:, _EOS, None], rest.values], dim=1)
        total = beam.scores[:, None] + own + scorers.score(candidates)
        beam.end(torch.where(allowed, total[:, 0], _NEVER))
        count = candidates.shape[1]
        chosen = total[:, 1:].reshape(batch, -1).topk(width, dim=1)
        rows = (chosen.indices // (count - 1) + offset).view(-1)
        column = (chosen.indices % (count - 1)).view(-1) + 1
        last = candidates[rows, column]
        beam.scores = chosen.values.reshape(-1)
        beam.tokens = torch.cat([beam.tokens[rows], last[:, None]], dim=1)
        state = decoder.select(state, rows)
        scorers.extend(rows, column, count, last)
    return [found for found in beam.found if found is not None]


class _Scorers:
    """What CTC and the language model add to the candidates."""

    def __init__(
        self, ctc_logits: Tensor | None, steps: Tensor, search: SearchSettings, language_model: LanguageModel | None,
        rows: int,
    ) -> None:  # fmt: skip
        self.search = search
        self.attention = 1.0 - search.ctc_weight if ctc_logits is not None else 1.0
        self.ctc = CtcPrefixes(log_softmax(ctc_logits), steps, search.beam) if ctc_logits is not None else None
        self.language_model = language_model
        self.ctc_state = self.ctc.begin() if self.ctc else None
        self.ctc_longer: PrefixState | None = None
        self.language_state = language_model.begin(rows) if language_model else None

    def score(self, candidates: Tensor) -> Tensor:
        """[rows, candidates]; the first candidate is the end of the sentence."""
        added = torch.full(candidates.shape, self.search.length_bonus, dtype=torch.float64, device=candidates.device)
        added[:, 0] = 0.0
        if self.ctc is not None and self.ctc_state is not None:
            scores, self.ctc_longer = self.ctc.scores(self.ctc_state, candidates)
            added += self.search.ctc_weight * (scores - self.ctc_state.score[:, None])
        if self.language_model is not None:
            added += self.search.lm_weight * self.language_model.score_rows(self.language_state, candidates)
        return added

    def extend(self, rows: Tensor, column: Tensor, count: int, tokens: Tensor) -> None:
        """Go on with candidate `column[i]` of prefix `rows[i]`."""
        if self.ctc_longer is not None:
            self.ctc_state = CtcPrefixes.keep(self.ctc_longer, rows * count + column)
        if self.language_model is not None:
            self.language_state = self.language_model.extend(self.language_state, rows, tokens)
