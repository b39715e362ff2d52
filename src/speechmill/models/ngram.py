"""An n-gram model over tokens, with interpolated Witten-Bell smoothing; for small train texts."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speechmill.artefact import written
from speechmill.errors import SpeechmillError
from speechmill.tokenizer import ANYTHING

_REMEMBERED = 1_000_000  # probabilities kept from one call to the next, a fifth of a gigabyte
_EDGE = -1  # stands before the first token and behind the last
_OPEN = -3  # stands for a wildcard while n-grams are counted


class NgramModel:
    """P(token | the order-1 tokens before), interpolated over all shorter contexts (Witten and Bell 1991).

    A context's own estimate weighs count / (count + distinct continuations); the rest goes to the next shorter context,
    and at last to the uniform distribution.
    """

    def __init__(self, order: int, tokens: int, counts: dict[tuple[int, ...], int]) -> None:
        self.order, self.tokens, self._counts = order, tokens, counts
        self._followed: dict[tuple[int, ...], list[int]] = {}  # context -> [occurrences, distinct continuations]
        for gram, count in counts.items():
            entry = self._followed.setdefault(gram[:-1], [0, 0])
            entry[0] += count
            entry[1] += 1
        self._cache: dict[tuple[int, ...], float] = {}

    @classmethod
    def train(cls, sentences: Iterable[Sequence[int]], order: int, tokens: int) -> NgramModel:
        """Count n-grams up to `order` in token sequences; none across a wildcard, where anything may be said."""
        counts: dict[tuple[int, ...], int] = {}
        for sentence in sentences:
            given = [_OPEN if token == ANYTHING else token for token in sentence]
            padded = (*[_EDGE] * (order - 1), *given, _EDGE)
            open_from = 0  # behind the last wildcard
            for end in range(order - 1, len(padded)):
                open_from = end + 1 if padded[end] == _OPEN else open_from
                for start in range(max(open_from, end - order + 1), end + 1):
                    gram = padded[start : end + 1]
                    counts[gram] = counts.get(gram, 0) + 1
        return cls(order, tokens, counts)

    def score(self, prefix: Sequence[int], token: int) -> float:
        """log P(token | prefix), natural logarithm."""
        context = tuple(prefix[-(self.order - 1) :]) if self.order > 1 else ()
        context = (_EDGE,) * (self.order - 1 - len(context)) + context
        gram = (*context, token)
        if gram not in self._cache:
            if len(self._cache) >= _REMEMBERED:
                self._cache.clear()
            self._cache[gram] = math.log(self._probability(gram))
        return self._cache[gram]

    def end(self, prefix: Sequence[int]) -> float:
        """log P(the sentence ends here | prefix)."""
        return self.score(prefix, _EDGE)

    def forget(self) -> None:
        """See `LanguageModel.forget`."""
        self._cache.clear()

    def begin(self, rows: int) -> list[tuple[int, ...]]:
        """See `LanguageModel.begin`."""
        return [()] * rows

    def score_rows(self, state: list[tuple[int, ...]], candidates: Tensor) -> Tensor:
        """See `LanguageModel.score_rows`."""
        scores = [
            [self.score(prefix, token or _EDGE) for token in tokens]
            for prefix, tokens in zip(state, candidates.tolist(), strict=True)
        ]
        return torch.tensor(scores, dtype=torch.float32, device=candidates.device)

    def extend(self, state: list[tuple[int, ...]], rows: Tensor, tokens: Tensor) -> list[tuple[int, ...]]:
        """See `LanguageModel.extend`."""
        keep = max(1, self.order - 1)
        return [(*state[row], token)[-keep:] for row, token in zip(rows.tolist(), tokens.tolist(), strict=True)]

    def _probability(self, gram: tuple[int, ...]) -> float:
        probability = 1.0 / (self.tokens + 1)
        for start in range(len(gram) - 1, -1, -1):
            part = gram[start:]
            occurrences, distinct = self._followed.get(part[:-1], (0, 0))
            if not occurrences:
                break
            probability = (self._counts.get(part, 0) + distinct * probability) / (occurrences + distinct)
        return probability

    def save(self, path: Path) -> None:
        """Write counts as plain arrays: grams in rows of `order`, filled in front with -2."""
        grams = np.full((len(self._counts), self.order), -2, dtype=np.int32)
        for row, gram in enumerate(self._counts):
            grams[row, self.order - len(gram) :] = gram
        counts = np.fromiter(self._counts.values(), dtype=np.int64, count=len(self._counts))
        with written(path) as partial, partial.open("wb") as stream:
            np.savez_compressed(stream, grams=grams, counts=counts, tokens=np.int64(self.tokens))

    @classmethod
    def load(cls, path: Path) -> NgramModel:
        """Raises SpeechmillError where the file is not such a model."""
        try:
            with np.load(path, allow_pickle=False) as data:
                grams, counts, tokens = data["grams"], data["counts"], int(data["tokens"])
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise SpeechmillError(f"{path}: not a language model of Speechmill ({error}).") from error
        rows = (tuple(gram[gram != -2].tolist()) for gram in grams)
        return cls(grams.shape[1], tokens, dict(zip(rows, counts.tolist(), strict=True)))
