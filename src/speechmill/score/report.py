"""What `speechmill score` says of a scoring: that of `scores.json`, and by recording, by entity, against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from speechmill.errors import SpeechmillError
from speechmill.score.entities import entity_rates
from speechmill.score.formats.reading import CTM, NLP, RECORDING
from speechmill.score.intervals import Sums, difference
from speechmill.score.matched import error_segments, matched_pairs
from speechmill.score.rates import Rates
from speechmill.score.result import Scoring, UtteranceScore
from speechmill.score.summary import BLOCKS, SEED, UTTERANCE, summarize

WHOLE = (RECORDING, NLP, CTM)
"""Formats whose items are recordings."""
_SHOWN = 300  # characters of a text among the worst; a recording has tens of thousands


def report(scoring: Scoring, block: str | None = None, seed: int = SEED) -> dict[str, Any]:
    """Return what `--json` writes.

    Args:
        block: the column whose values are drawn for the intervals; None takes the call where it is known, else the
            recording.
    """
    names, blocked_by = blocks(scoring, block)
    attributes = {column: [item.attributes.get(column) for item in scoring.items] for column in scoring.by}
    found = summarize(scoring.items, attributes, names, blocked_by, scoring.normalization, seed=seed)
    found["worst"] = [_shortened(line) for line in found["worst"]]
    return found | {
        "by_recording": _by_recording(scoring.items),
        "entities": entity_rates(scoring.items),
        "reference": scoring.reference,
        "hypothesis": scoring.hypothesis,
        "formats": {"reference": scoring.formats[0], "hypothesis": scoring.formats[1]},
        "without_reference": list(scoring.without_reference),
        "notes": list(scoring.notes),
    }


def blocks(scoring: Scoring, block: str | None) -> tuple[list[str], str]:
    """Return the block of each item, and what the blocks are.

    Raises:
        SpeechmillError: an item has no value in the column that is asked for.
    """
    items = scoring.items
    if block == UTTERANCE:
        return [item.id for item in items], block
    column = block or next((name for name in BLOCKS if any(name in item.attributes for item in items)), BLOCKS[0])
    if column == "recording" or not any(column in item.attributes for item in items):
        if block not in (None, *BLOCKS, "recording"):
            raise SpeechmillError(f"--block {block}: neither the references nor --groups have it.")
        whole = scoring.formats[0] in WHOLE or any(item.recording != item.id for item in items)
        return [item.recording for item in items], "recording" if whole else "utterance"
    without = [item.id for item in items if column not in item.attributes]
    if without and block:
        raise SpeechmillError(
            f"--block {column}: {len(without)} of {len(items)} have none, e.g. {without[0]}; give --block recording, "
            f"or a column that all have."
        )
    return [item.attributes.get(column, item.recording) for item in items], column


def comparison(one: Scoring, other: Scoring, block: str | None = None, seed: int = SEED) -> dict[str, Any]:
    """Compare two systems on the same references: WER of `one` less WER of `other`, by blocks and by matched pairs."""
    if [item.id for item in one.items] != [item.id for item in other.items]:
        raise SpeechmillError(f"{other.hypothesis}: not scored on the same references as {one.hypothesis}.")
    names, blocked_by = blocks(one, block)
    sums = [_sums(scoring.items, names) for scoring in (one, other)]
    found = difference(sums[0], sums[1], seed).as_dict()
    return {
        "hypothesis": other.hypothesis,
        "wer": other.rates.wer,
        "errors": other.rates.word.errors,
        "words": other.rates.word.words,
        **found,
        "blocked_by": blocked_by,
        "matched_pairs": _matched_pairs(one.items, other.items),
        "without_reference": list(other.without_reference),
        "notes": list(other.notes),
    }


def _matched_pairs(one: Sequence[UtteranceScore], other: Sequence[UtteranceScore]) -> dict[str, Any]:
    """NIST's test."""
    segments: list[tuple[int, int]] = []
    for first, second in zip(one, other, strict=True):
        segments += error_segments(first.alignment, second.alignment)
    return asdict(matched_pairs(segments))


def _sums(items: Sequence[UtteranceScore], names: Sequence[str]) -> list[Sums]:
    sums: dict[str, list[int]] = {}
    for item, name in zip(items, names, strict=True):
        found = sums.setdefault(name, [0, 0])
        found[0] += item.rates.word.errors
        found[1] += item.rates.word.words
    return [Sums(errors, words) for errors, words in sums.values()]


def _by_recording(items: Sequence[UtteranceScore]) -> dict[str, dict[str, Any]]:
    sums: dict[str, Rates] = {}
    for item in items:
        sums[item.recording] = sums.get(item.recording, Rates()) + item.rates
    return {name: rates.as_dict() for name, rates in sums.items()}


def _shortened(line: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: f"{value[:_SHOWN]}…" if isinstance(value, str) and len(value) > _SHOWN else value
        for key, value in line.items()
    }
