"""Error rate by class of entity, for references that tag them (`YEAR`, `MONEY`, `CONTRACTION`, ...).

The words of an entity are those of the alternative that was taken; its errors are the substitutions and deletions of
them and the insertions between them. An entity that its alternative says nothing for has no words and no errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from speechmill.score.counts import Counts
from speechmill.score.result import UtteranceScore


def entity_rates(items: Iterable[UtteranceScore]) -> dict[str, dict[str, Any]]:
    """Return for each class, by name, its number of entities, how many of them have an error, and their word errors."""
    sums: dict[str, Counts] = {}
    entities: dict[str, int] = {}
    wrong: dict[str, int] = {}
    for item in items:
        for entity in item.entities:
            sums[entity.label] = sums.get(entity.label, Counts()) + entity.counts
            entities[entity.label] = entities.get(entity.label, 0) + 1
            wrong[entity.label] = wrong.get(entity.label, 0) + (entity.counts.errors > 0)
    return {
        label: {
            "wer": sums[label].rate,
            "entities": entities[label],
            "wrong": wrong[label],
            "words": sums[label].words,
            "errors": sums[label].errors,
            "insertions": sums[label].insertions,
            "deletions": sums[label].deletions,
            "substitutions": sums[label].substitutions,
        }
        for label in sorted(sums)
    }
