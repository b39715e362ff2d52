"""Recognizers. Nothing here knows how training is distributed."""

from __future__ import annotations

from speechmill.models.base import Recognizer
from speechmill.settings import CtcSettings, Recipe


def build_model(recipe: Recipe, tokens: int) -> Recognizer:
    """The recipe's recognizer, with freshly drawn weights, for a tokenizer of so many pieces."""
    if isinstance(recipe.model, CtcSettings):
        from speechmill.models.ctc import CtcRecognizer

        return CtcRecognizer(recipe.features, recipe.model, tokens)
    from speechmill.models.crdnn import CrdnnRecognizer

    return CrdnnRecognizer(recipe.features, recipe.model, recipe.loss, tokens)
