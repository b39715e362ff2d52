"""Language models over tokens, as searches ask them: many prefixes at once, each with a few candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor


class LanguageModel(Protocol):
    """log P(token | tokens before it). State is what a model remembers of rows of prefixes, at first empty ones.

    Token 0 (blank, BOS and EOS in one) stands for the end of the sentence.
    """

    def score(self, prefix: Sequence[int], token: int) -> float:
        """log P(token | prefix), natural logarithm, for a search that goes prefix by prefix."""

    def end(self, prefix: Sequence[int]) -> float:
        """log P(the sentence ends here | prefix)."""

    def forget(self) -> None:
        """Give up what is remembered from one call to the next, which makes the same questions cheaper."""

    def begin(self, rows: int) -> Any:
        """The state of so many empty prefixes."""

    def score_rows(self, state: Any, candidates: Tensor) -> Tensor:
        """[rows, candidates]: log P of each candidate (token ids, [rows, candidates]; 0: the end) after each prefix."""

    def extend(self, state: Any, rows: Tensor, tokens: Tensor) -> Any:
        """The state of new prefixes: old prefix `rows[i]` with `tokens[i]` behind it."""
