"""A CTC head fitted anew to a frozen encoder, for recipes that stop training it: word times come from it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

from speechmill.artefact import written
from speechmill.errors import SpeechmillError
from speechmill.group import Group
from speechmill.loader import BatchDataset, batches
from speechmill.losses import ctc_loss, log_softmax
from speechmill.models.base import Recognizer
from speechmill.ordering import permutation
from speechmill.progress import Progress
from speechmill.settings import Recipe
from speechmill.strategies.step import ctc_is_trained

_LR, _FINAL_LR = 2e-3, 1e-5  # of Adam, falling linearly: the head is one layer


def head_is_stale(recipe: Recipe, update: int) -> bool:
    """Whether the CTC head of a checkpoint after `update` updates was left behind by its encoder."""
    return not ctc_is_trained(recipe, max(0, update - 1))


def fit_head(
    model: Recognizer, head: torch.nn.Module, dataset: BatchDataset, recipe: Recipe, group: Group,
    stop: object = False,
) -> bool:  # fmt: skip
    """Train `head`, the model's CTC head, on `loss.refit_updates` batches; nothing else changes.

    The batches are spread over the first epoch, and gone over again where it has not as many. The encoder
    is as it recognizes: in evaluation mode, without augmentation. False where `stop` became true meanwhile.
    """
    model.eval()
    optimizer = torch.optim.Adam(head.parameters(), lr=_LR)
    total = recipe.loss.refit_updates
    epoch = dataset.schedule.evenly(total)
    rounds = range(-(-total // len(epoch)))
    numbers = [epoch[place] for once in rounds for place in permutation(len(epoch), recipe.train.seed, once)][:total]
    with (
        Progress("fit the CTC head", total, "updates") as progress,
        contextlib.closing(batches(dataset, numbers, recipe.train.loader_workers, pin=False)) as loaded,
    ):
        for number, whole in enumerate(loaded):
            progress.advance()
            group.alive()
            if stop:
                return False
            if not whole.ids:
                continue  # all damage
            batch = whole.to(next(model.parameters()).device)
            with torch.no_grad():
                audio = batch.audio.to(next(model.parameters()).dtype) / 32768.0
                encoded = model.encoded(*model.log_mel(audio, batch.lengths))
            with torch.enable_grad():
                log_probs = log_softmax(model.ctc_logits(encoded))
                loss = ctc_loss(log_probs, encoded.steps, batch.targets, batch.target_lengths)
            for settings in optimizer.param_groups:
                settings["lr"] = _FINAL_LR + (_LR - _FINAL_LR) * (1.0 - number / total)
            optimizer.zero_grad()
            (loss.sum / max(1, loss.count)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return True


def save_head(head: torch.nn.Module, path: Path) -> None:
    with written(path) as partial:
        torch.save(head.state_dict(), partial)


def load_head(head: torch.nn.Module, path: Path) -> None:
    """Raises SpeechmillError where the file is not such a head."""
    try:
        head.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises many kinds for a damaged file; each is told
        raise SpeechmillError(f"{path}: damaged ({type(error).__name__}: {error}); remove it.") from error
