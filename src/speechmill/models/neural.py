"""A neural language model over tokens: SpeechBrain's RNNLM, behind the contract of `models.language`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from speechbrain.lobes.models.RNNLM import RNNLM
from torch import Tensor, nn

from speechmill.artefact import written
from speechmill.errors import SpeechmillError
from speechmill.tokenizer import ANYTHING, BLANK

_EDGE = BLANK  # stands before the first token and behind the last
_REMEMBERED = 20_000  # prefixes whose state is kept, for searches that go prefix by prefix


class Prefixes(NamedTuple):
    """What the network remembers of rows of prefixes."""

    hidden: Tensor  # [layers, rows, size]
    cell: Tensor
    log_probs: Tensor  # [rows, tokens], of what follows


class NeuralModel(nn.Module):
    """An LSTM language model; `size` units in each of two layers."""

    def __init__(self, tokens: int, size: int) -> None:
        super().__init__()
        self.tokens, self.size = tokens, size
        self.updates = 0  # that it was trained
        self.network = RNNLM(
            output_neurons=tokens, embedding_dim=size // 2, rnn_layers=2, rnn_neurons=size, dnn_neurons=size,
            dropout=0.1, return_hidden=True,
        )  # fmt: skip
        self._remembered: dict[tuple[int, ...], Prefixes] = {}

    def loss(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Mean negative log likelihood of a token, in nats, the ends of sentences included.

        Args:
            tokens: [batch, length], padded with 0; what `ANYTHING` stands for, and what follows it, is not learned.
            lengths: [batch].
        """
        edge = torch.full_like(tokens[:, :1], _EDGE)
        before, following = torch.cat([edge, tokens], dim=1), torch.cat([tokens, edge], dim=1)
        logits, _ = self.network(before.clamp(min=_EDGE))
        inside = torch.arange(following.shape[1], device=tokens.device) <= lengths[:, None]
        inside &= (before != ANYTHING) & (following != ANYTHING)
        return nn.functional.cross_entropy(logits[inside], following[inside])

    def forget(self) -> None:
        """See `LanguageModel.forget`."""
        self._remembered.clear()

    def begin(self, rows: int) -> Prefixes:
        """See `LanguageModel.begin`."""
        device = next(self.parameters()).device
        empty = torch.zeros(2, rows, self.size, device=device)
        return self._step(torch.full((rows,), _EDGE, device=device), empty, empty.clone())

    def score_rows(self, state: Prefixes, candidates: Tensor) -> Tensor:
        """See `LanguageModel.score_rows`."""
        return state.log_probs.gather(1, candidates)

    def extend(self, state: Prefixes, rows: Tensor, tokens: Tensor) -> Prefixes:
        """See `LanguageModel.extend`."""
        return self._step(tokens, state.hidden[:, rows], state.cell[:, rows])

    @torch.no_grad()
    def _step(self, tokens: Tensor, hidden: Tensor, cell: Tensor) -> Prefixes:
        logits, (hidden, cell) = self.network(tokens[:, None], (hidden.contiguous(), cell.contiguous()))
        return Prefixes(hidden, cell, logits[:, 0].float().log_softmax(-1))

    def score(self, prefix: Sequence[int], token: int) -> float:
        """See `LanguageModel.score`."""
        return float(self._of(tuple(prefix)).log_probs[0, token])

    def end(self, prefix: Sequence[int]) -> float:
        """See `LanguageModel.end`."""
        return self.score(prefix, _EDGE)

    def _of(self, prefix: tuple[int, ...]) -> Prefixes:
        if prefix not in self._remembered:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            if prefix:
                last = torch.tensor([prefix[-1]], device=next(self.parameters()).device)
                self._remembered[prefix] = self.extend(self._of(prefix[:-1]), torch.zeros_like(last), last)
            else:
                self._remembered[prefix] = self.begin(1)
        return self._remembered[prefix]

    def save(self, path: Path) -> None:
        with written(path) as partial:
            torch.save(
                {"tokens": self.tokens, "size": self.size, "updates": self.updates, "weights": self.state_dict()},
                partial,
            )

    @classmethod
    def load(cls, path: Path) -> NeuralModel:
        """Raises SpeechmillError where the file is not such a model."""
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            model = cls(found["tokens"], found["size"])
            model.load_state_dict(found["weights"])
            model.updates = int(found.get("updates", 0))
        except Exception as error:  # torch raises many kinds for a damaged file; each is told
            raise SpeechmillError(
                f"{path}: not a language model of Speechmill ({type(error).__name__}: {error})."
            ) from error
        return model.eval()
