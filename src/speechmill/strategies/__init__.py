"""Strategies: how an update is carried out."""

from __future__ import annotations

from speechmill.errors import SpeechmillError
from speechmill.settings import Recipe


def check_strategy(recipe: Recipe) -> None:
    """Raise SpeechmillError for a strategy that is designed but not built yet."""
    if recipe.train.strategy != "single":
        raise SpeechmillError(
            f"train.strategy {recipe.train.strategy}: not available in this version; use train.strategy=single with "
            f"schedule.batches_per_update for the same updates on one device."
        )
