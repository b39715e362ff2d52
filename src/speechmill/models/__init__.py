"""Recognizers. Nothing here knows how training is distributed."""

from __future__ import annotations

from torch.nn.modules.batchnorm import _BatchNorm

from speechmill.models.base import Recognizer
from speechmill.settings import ConformerSettings, CtcSettings, Recipe


def build_model(recipe: Recipe, tokens: int) -> Recognizer:
    """The recipe's recognizer, with freshly drawn weights, for a tokenizer of so many pieces.

    Batch normalisation takes each training batch by itself and keeps no running averages, which would depend on the
    order of batches: what evaluation needs is computed before it (train.batchnorm).
    """
    model = _build(recipe, tokens)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.track_running_stats = False
    return model


def _build(recipe: Recipe, tokens: int) -> Recognizer:
    if isinstance(recipe.model, CtcSettings):
        from speechmill.models.ctc import CtcRecognizer

        return CtcRecognizer(recipe.features, recipe.model, tokens)
    if isinstance(recipe.model, ConformerSettings):
        from speechmill.models.conformer import ConformerRecognizer

        return ConformerRecognizer(recipe.features, recipe.model, recipe.loss, tokens)
    from speechmill.models.crdnn import CrdnnRecognizer

    return CrdnnRecognizer(recipe.features, recipe.model, recipe.loss, tokens)
