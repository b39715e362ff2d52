"""All that `scores.json` says of a scored set: rates with their intervals, groups and gaps, kinds, confusions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from speechmill.score.confusions import confusions
from speechmill.score.groups import group_name, scores
from speechmill.score.intervals import LEVEL, Sums, gap, rate_interval
from speechmill.score.kinds import as_dict as kinds_dict
from speechmill.score.kinds import kinds_of_texts
from speechmill.score.result import UtteranceScore
from speechmill.text import THESIS

UTTERANCE = "utterance"  # a block of intervals that every set has
BLOCKS = ("call", "speaker")
"""Columns whose values intervals are drawn over, the first that is known: errors within one are not independent."""
SEED = 0
_NONE = Sums(0, 0)

Groups = Mapping[str, Sequence[object]]
"""Attribute -> its value for each utterance, in their order."""


def summarize(
    utterances: Sequence[UtteranceScore], attributes: Groups, blocks: Sequence[str], blocked_by: str,
    normalization: str = THESIS, *, seed: int = SEED,
) -> dict[str, Any]:  # fmt: skip
    """Return what `scores.json` holds: that of `scores`, and beside it

    - `interval`: [low, high] of the WER, or null where none can be had; in each group of `by` too;
    - `uncertainty`: how it was made: level, `blocked_by`, blocks, seed;
    - `gaps`: for each attribute with two groups, the difference of their WER with its interval;
    - `kinds`: WER-P in parts that sum to the whole;
    - `confusions`: the most frequent errors.

    Args:
        blocks: the call (or speaker) of each utterance: what is drawn for the intervals.
        blocked_by: what the blocks are, in a word.
    """
    result = scores(utterances, attributes)
    result["normalization"] = normalization
    whole = _sums(utterances, blocks, [""] * len(utterances)).get("", {})
    result["interval"] = _interval(whole, seed)
    result["uncertainty"] = {"level": LEVEL, "blocked_by": blocked_by, "blocks": len(whole), "seed": seed}
    result["gaps"] = {}
    for attribute, values in attributes.items():
        groups = _sums(utterances, blocks, [group_name(value) for value in values])
        for name, rates in result["by"][attribute].items():
            rates["interval"] = _interval(groups[name], seed)
        if len(groups) == 2:
            result["gaps"][attribute] = _gap(groups, sorted(groups), seed)
    result["kinds"] = kinds_dict(kinds_of_texts((item.reference, item.hypothesis) for item in utterances))
    result["confusions"] = confusions(item.alignment for item in utterances).as_dict()
    return result


def _sums(
    utterances: Iterable[UtteranceScore], blocks: Iterable[str], groups: Iterable[str | None]
) -> dict[str, dict[str, Sums]]:
    """Group -> block -> errors and words; what is in no group (None) is left out."""
    sums: dict[str, dict[str, Sums]] = {}
    for utterance, block, group in zip(utterances, blocks, groups, strict=True):
        if group is not None:
            counts, before = utterance.rates.word, sums.setdefault(group, {}).get(block, _NONE)
            sums[group][block] = Sums(before.errors + counts.errors, before.words + counts.words)
    return sums


def _interval(sums: Mapping[str, Sums], seed: int) -> list[float] | None:
    interval = rate_interval([sums[block] for block in sorted(sums)], seed)
    return interval.as_list() if interval else None


def _gap(groups: Mapping[str, Mapping[str, Sums]], names: Sequence[str], seed: int) -> dict[str, Any]:
    blocks = sorted(set().union(*groups.values()))
    one, other = ([groups[name].get(block, _NONE) for block in blocks] for name in names)
    found = gap(one, other, seed).as_dict()
    return {"of": list(names), "difference": found["difference"], "interval": found["interval"]}
