"""Validation: greedy search over the validation split, spread over the processes; the same utterances each time."""

from __future__ import annotations

import time
from typing import Any

from speechmill.group import Group
from speechmill.models.base import Recognizer
from speechmill.ordering import permutation
from speechmill.progress import Progress
from speechmill.recognize import GivenUp, Recognizing
from speechmill.score import score_pairs
from speechmill.settings import Recipe, SearchSettings
from speechmill.shards.index import Index
from speechmill.shards.read import ShardReader
from speechmill.tokenizer import Tokenizer
from speechmill.train.signals import StopRequest


def validation(
    model: Recognizer, tokenizer: Tokenizer, index: Index, recipe: Recipe, group: Group, stop: StopRequest
) -> dict[str, Any]:
    """The scores of a model, on every rank.

    Raises GivenUp on all ranks where one was asked to stop: a long validation would outlast the seconds that a job has
    to save.
    """
    started = time.monotonic()
    rows = index.rows("valid")
    limit = recipe.train.validate_utterances
    if limit and limit < len(rows):
        rows = rows[permutation(len(rows), 0)[:limit]]
    reader = ShardReader(index)
    recognizing = Recognizing(model, tokenizer, SearchSettings(), None, next(model.parameters()).device)
    with Progress("validate", len(rows), "utterances") as progress:
        hypotheses = recognizing.spread(
            lambda i: reader.audio(int(rows[i])), index.samples[rows].tolist(), group, progress, lambda: bool(stop)
        )
    if hypotheses is None:
        raise GivenUp
    rates = score_pairs([reader.about(int(row))["text"] for row in rows], hypotheses)
    return {
        "wer": rates.wer, "wer_p": rates.wer_p, "cer": rates.cer, "cer_p": rates.cer_p, "utterances": len(rows),
        "valid_seconds": time.monotonic() - started,
    }  # fmt: skip
