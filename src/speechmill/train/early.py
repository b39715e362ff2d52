"""Early stopping: whether training has come to where more of it brings nothing. Pure functions of what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from speechmill.settings import CtcSettings, Recipe
from speechmill.strategies.step import ctc_is_trained


def early_stop(recipe: Recipe, epoch_losses: Sequence[float], wers: Sequence[float]) -> str:
    """Why training ends before its last update; empty where it goes on.

    Args:
        epoch_losses: mean training loss of each nominal epoch so far. Once the recipe has given CTC up, those before
            are of another loss and are not compared with.
        wers: word error rate of each validation so far.
    """
    settings, joint = recipe.train, recipe.loss.ctc_epochs
    changes = not isinstance(recipe.model, CtcSettings) and recipe.loss.ctc_weight > 0.0
    if changes and not ctc_is_trained(recipe, (len(epoch_losses) - 1) * settings.nominal_epoch):
        epoch_losses = epoch_losses[joint:]
    patience = settings.stagnant_epochs
    if patience and since_better(epoch_losses, settings.stagnant_share) >= patience:
        return f"the training loss has been stagnant for {patience} nominal epochs (train.stagnant_epochs)"
    patience = settings.stagnant_validations
    if patience and since_better(wers, 0.0) >= patience:
        return f"the validation WER has not fallen in {patience} validations (train.stagnant_validations)"
    return ""


def patience_outlasts(recipe: Recipe) -> str:
    """What to tell of early stopping that this training is too short for; empty where there is nothing to tell."""
    settings = recipe.train
    needed = (settings.stagnant_epochs + 1) * settings.nominal_epoch  # the first is never stagnant
    if not settings.stagnant_epochs or needed < settings.updates:
        return ""
    return (
        f"train.stagnant_epochs {settings.stagnant_epochs} of train.nominal_epoch {settings.nominal_epoch} updates "
        f"cannot end a training of train.updates {settings.updates}"
    )


def since_better(values: Sequence[float], share: float) -> int:
    """How many of the last values were not lower by more than `share` than the lowest before them."""
    best, since = float("inf"), 0
    for value in values:
        since = 0 if value < best * (1.0 - share) else since + 1
        best = min(best, value)
    return since
