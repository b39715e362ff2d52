"""Scores over all utterances and by group: each utterance counts in its own group, whatever batch it was decoded in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from speechmill.errors import SpeechmillError
from speechmill.score.rates import Rates, compare_texts
from speechmill.score.result import UtteranceScore
from speechmill.text import THESIS

WORST = 20
"""So many of the worst utterances are listed in `scores.json`."""


def score_utterance(identifier: str, reference: str, hypothesis: str) -> UtteranceScore:
    """Score one utterance, both texts as written."""
    rates, alignment = compare_texts(reference, hypothesis)
    return UtteranceScore(identifier, reference, hypothesis, rates, tuple(alignment))


def scores(utterances: Sequence[UtteranceScore], attributes: Mapping[str, Sequence[object]]) -> dict[str, Any]:
    """Return what `scores.json` holds: rates over all, `by` attribute and value, and the worst utterances.

    Args:
        utterances: the scored utterances.
        attributes: attribute (`native`, `session`, ...) -> its value for each utterance, in their order. Values become
            keys as text, booleans as `true` and `false`; an utterance without a value (None or "") is in no group of
            that attribute. An attribute without any value has an empty entry.

    Raises:
        SpeechmillError: an attribute has more or fewer values than there are utterances.
    """
    for attribute, values in attributes.items():
        if len(values) != len(utterances):
            raise SpeechmillError(
                f"scoring by {attribute!r}: {len(values)} values for {len(utterances)} utterances; give one for each"
            )
    return {
        **sum((utterance.rates for utterance in utterances), start=Rates()).as_dict(),
        "by": {attribute: _by_value(utterances, values) for attribute, values in attributes.items()},
        "normalization": THESIS,
        "worst": [_summary(utterance) for utterance in worst(utterances)],
    }


def worst(utterances: Iterable[UtteranceScore], count: int = WORST) -> list[UtteranceScore]:
    """Return up to `count` utterances that have errors: highest rate first, then most errors, then by id.

    Words heard where the reference has none come first: their rate has no bound.
    """
    wrong = (utterance for utterance in utterances if utterance.rates.word.errors)
    return sorted(wrong, key=_badness)[:count]


def _badness(utterance: UtteranceScore) -> tuple[float, int, str]:
    rate = utterance.rates.wer
    return (float("-inf") if rate is None else -rate, -utterance.rates.word.errors, utterance.id)


def _summary(utterance: UtteranceScore) -> dict[str, Any]:
    counts = utterance.rates.word
    return {
        "id": utterance.id, "wer": counts.rate, "errors": counts.errors, "words": counts.words,
        "reference": utterance.reference, "hypothesis": utterance.hypothesis,
    }  # fmt: skip


def group_name(value: object) -> str | None:
    """Return the name of the group of an attribute's value, None where it has none."""
    if value is None or value == "":
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _by_value(utterances: Iterable[UtteranceScore], values: Iterable[object]) -> dict[str, dict[str, Any]]:
    sums: dict[str, Rates] = {}
    for utterance, value in zip(utterances, values, strict=True):
        key = group_name(value)
        if key is not None:
            sums[key] = sums.get(key, Rates()) + utterance.rates
    return {key: sums[key].as_dict() for key in sorted(sums)}
