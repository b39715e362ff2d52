"""The weights that recognize: of a checkpoint or of the mean of some, with a CTC head that fits their encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from speechmill.artefact import fingerprint
from speechmill.group import ALONE, Group
from speechmill.loader import BatchDataset
from speechmill.models import build_model
from speechmill.models.base import Recognizer
from speechmill.recognize import GivenUp
from speechmill.settings import LossSettings, Recipe
from speechmill.tokenizer import Tokenizer
from speechmill.train.average import average_weights, checkpoints_to_average, is_average
from speechmill.train.batchnorm import has_statistics, refresh
from speechmill.train.checkpoint import (
    find_checkpoint,
    load_weights,
    put_weights,
    read_state,
    update_of,
    weights_file,
)
from speechmill.train.data import batches_of, open_train_index
from speechmill.train.refit import fit_head, head_is_stale, load_head, save_head

_USUAL = LossSettings().refit_updates


def weights_name(run: Path, which: str) -> str:
    """The name of the checkpoint that `which` means (see `find_checkpoint`), or `which`, where it is an average."""
    return which if is_average(which) else find_checkpoint(run, which).name


def weight_files(run: Path, which: str) -> list[Path]:
    """The files of the weights that `which` means."""
    return [weights_file(path) for path in _checkpoints_of(run, which)]


def _checkpoints_of(run: Path, which: str) -> list[Path]:
    return checkpoints_to_average(run, which) if is_average(which) else [find_checkpoint(run, which)]


def open_weights(
    run: Path, recipe: Recipe, which: str, tokenizer: Tokenizer, device: torch.device, group: Group = ALONE,
    stop: object = False,
) -> Recognizer:  # fmt: skip
    """A run's model in evaluation mode, on the device.

    Args:
        which: a checkpoint (see `find_checkpoint`), or best-K or last-K.
        stop: true once this process was asked to stop; where a head has to be fitted, GivenUp is raised then.
    Raises SpeechmillError where there is none, or the train shards are gone that a model with batch normalisation
    needs, of an average or of a checkpoint that was made for a stop, or a CTC head that the recipe has stopped
    training.
    """
    model = build_model(recipe, len(tokenizer))
    data = _TrainData(recipe, tokenizer)
    paths = _checkpoints_of(run, which)
    if is_average(which):
        put_weights(average_weights(paths, recipe.model_fingerprint()), model, paths[-1])
    else:
        load_weights(paths[0], model, recipe.model_fingerprint())
    model = model.float().to(device)
    if has_statistics(model) and (is_average(which) or not read_state(paths[0]).refreshed):
        refresh(model, data(), recipe, group, device)
    head = model.ctc_head_apart()
    if head is not None and head_is_stale(recipe, update_of(paths[-1])):
        names, updates = [one.name for one in paths], recipe.loss.refit_updates
        # The name has the number of updates where it is not the usual one.
        path = run / "ctc_heads" / f"{fingerprint(names if updates == _USUAL else [names, updates])}.pt"
        if not group.broadcast(
            path.is_file() or (group.leads and _fitted(model, head, path, data, recipe, group, stop))
        ):
            raise GivenUp
        load_head(head, path)
    return model.eval()


def _fitted(
    model: Recognizer, head: torch.nn.Module, path: Path, data: Callable[[], BatchDataset], recipe: Recipe,
    group: Group, stop: object,
) -> bool:  # fmt: skip
    """Fit the head and keep it in `path`; False after a stop."""
    if not fit_head(model, head, data(), recipe, group, stop):
        return False
    save_head(head, path)
    return True


class _TrainData:
    """The batches of training, opened when they are needed."""

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer) -> None:
        self._recipe, self._tokenizer = recipe, tokenizer
        self._dataset: BatchDataset | None = None

    def __call__(self) -> BatchDataset:
        if self._dataset is None:
            self._dataset = batches_of(open_train_index(self._recipe), self._tokenizer, self._recipe, [0])
        return self._dataset
