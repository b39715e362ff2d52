"""Early stopping: whether training has come to where more of it brings nothing. Pure functions of what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from speechmill.settings import TrainSettings


def early_stop(settings: TrainSettings, epoch_losses: Sequence[float], wers: Sequence[float]) -> str:
    """Why training ends before its last update; empty where it goes on.

    Args:
        epoch_losses: mean training loss of each nominal epoch so far.
        wers: word error rate of each validation so far.
    """
    patience = settings.stagnant_epochs
    if patience and since_better(epoch_losses, settings.stagnant_share) >= patience:
        return f"the training loss has been stagnant for {patience} nominal epochs (train.stagnant_epochs)"
    patience = settings.stagnant_validations
    if patience and since_better(wers, 0.0) >= patience:
        return f"the validation WER has not fallen in {patience} validations (train.stagnant_validations)"
    return ""


def since_better(values: Sequence[float], share: float) -> int:
    """How many of the last values were not lower by more than `share` than the lowest before them."""
    best, since = float("inf"), 0
    for value in values:
        since = 0 if value < best * (1.0 - share) else since + 1
        best = min(best, value)
    return since
