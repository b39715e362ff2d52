"""Validation: greedy search over the validation split, spread over the processes; the same utterances each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from speechmill.errors import SpeechmillError, StorageError
from speechmill.group import Group
from speechmill.loader import Damage
from speechmill.models.base import Recognizer
from speechmill.ordering import permutation
from speechmill.progress import Progress
from speechmill.recognize import GivenUp, Recognizing
from speechmill.score import Rates, score_pairs
from speechmill.settings import Recipe, SearchSettings
from speechmill.shards.foreign import open_reader
from speechmill.shards.index import Index
from speechmill.shards.read import ShardReader
from speechmill.tokenizer import Tokenizer
from speechmill.train.refit import head_is_stale
from speechmill.train.signals import StopRequest


def validation(
    model: Recognizer, tokenizer: Tokenizer, index: Index, recipe: Recipe, group: Group, stop: StopRequest,
    update: int = 0,
) -> tuple[dict[str, Any], list[Damage]]:  # fmt: skip
    """The scores of a model and the utterances that could not be read and are left out of them, on every rank.

    Args:
        update: that the model has come to: from it is known whether its CTC head fits.
    Raises GivenUp on all ranks where one was asked to stop: a long validation would outlast the seconds that a job has
    to save.
    """
    rows = index.rows("valid")
    limit = recipe.train.validate_utterances
    if limit and limit < len(rows):
        rows = rows[permutation(len(rows), 0)[:limit]]
    reader = open_reader(index)
    device, mend = next(model.parameters()).device, not head_is_stale(recipe, update)
    recognizing = Recognizing(model, tokenizer, SearchSettings(), None, device, times=False, mend=mend)
    silent: dict[int, Damage] = {}
    with Progress("validate", len(rows), "utterances") as progress:
        hypotheses = recognizing.spread(
            _audio(reader, rows, silent), index.samples[rows].tolist(), group, progress, lambda: bool(stop)
        )
    if hypotheses is None:
        raise GivenUp
    damaged = {place: damage for each in group.gather(silent) for place, damage in each.items()}
    mine = [place for place in range(group.rank, len(rows), group.size) if place not in damaged]
    references = _references(reader, rows, mine, damaged)
    own = score_pairs(list(references.values()), [hypotheses[place].text for place in references])
    told = group.gather((own, {place: damaged[place] for place in mine if place in damaged}))
    damaged.update({place: damage for _, unread in told for place, damage in unread.items()})
    rates = sum((counted for counted, _ in told), start=Rates())
    scores = {
        "wer": rates.wer, "wer_p": rates.wer_p, "cer": rates.cer, "cer_p": rates.cer_p, "utterances": rates.utterances,
    }  # fmt: skip
    return scores, [damaged[place] for place in sorted(damaged)]


def _references(
    reader: ShardReader, rows: npt.NDArray[np.int64], places: list[int], damaged: dict[int, Damage]
) -> dict[int, str]:
    """Texts by place in `rows`; those that cannot be read are noted in `damaged`."""
    references: dict[int, str] = {}
    for place in places:
        row = int(rows[place])
        try:
            references[place] = reader.about(row)["text"]
        except StorageError:
            raise
        except SpeechmillError as error:
            damaged[place] = Damage(reader.index.id(row), str(error))
    return references


def _audio(
    reader: ShardReader, rows: npt.NDArray[np.int64], silent: dict[int, Damage]
) -> Callable[[int], npt.NDArray[np.int16]]:
    """Audio by place in `rows`; what cannot be read is silence, and noted in `silent`."""

    def audio(place: int) -> npt.NDArray[np.int16]:
        row = int(rows[place])
        try:
            return reader.audio(row)
        except StorageError:
            raise
        except SpeechmillError as error:
            silent[place] = Damage(reader.index.id(row), str(error))
            return np.zeros(int(reader.index.samples[row]), dtype=np.int16)

    return audio
