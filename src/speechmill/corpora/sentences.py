"""Sentences with times out of `.nlp` files: the words as written from the reference, their times from the aligned one.

A force-aligned reference spells tagged words out (`2021` is there `twenty twenty one`), so that both are compared unit
by unit: an untagged word, or a run of words with the same tag. Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from speechmill.nlp import NlpToken

SENTENCE_ENDS = (".", "?", "!", "…")
_LONGEST_WORD = 10.0  # seconds; what is longer is where the aligner lost its way (one word of Earnings-22 has 306 s)
_PAD = 0.1  # seconds of the silence around a sentence that belong to it: a forced word's edges are tight


@dataclass(frozen=True)
class Unit:
    """One or more tokens of the reference and the time that they take, where it is known."""

    tokens: tuple[NlpToken, ...]
    start: float | None  # seconds
    end: float | None

    @property
    def timed(self) -> bool:
        return self.start is not None


@dataclass(frozen=True)
class Sentence:
    """Units that were said one after the other by one speaker, up to the mark that ends a sentence."""

    units: tuple[Unit, ...]
    start: float | None  # seconds, with a little of the silence around; null unless all its units are timed
    end: float | None

    @property
    def line(self) -> int:
        return self.units[0].tokens[0].line

    @property
    def speaker(self) -> str:
        return self.units[0].tokens[0].speaker

    @property
    def text(self) -> str:
        return " ".join(token.written for unit in self.units for token in unit.tokens)

    @property
    def untimed(self) -> int:
        """Words without a time."""
        return sum(len(unit.tokens) for unit in self.units if not unit.timed)

    @property
    def marks(self) -> list[str]:
        """What was not understood or is no speech: <inaudible>, <crosstalk>, <unk>."""
        return sorted({token.token for unit in self.units for token in unit.tokens if is_mark(token.token)})


def is_mark(token: str) -> bool:
    return token.startswith("<") and token.endswith(">") and len(token) > 2


def timed_units(reference: Sequence[NlpToken], aligned: Sequence[NlpToken]) -> list[Unit]:
    """The units of the reference with the times of the aligned ones, which may be the reference itself.

    Units are paired by a minimal edit script over their words (of tagged ones: their classes). Those that only one side
    has stay without a time; where as many are replaced by as many they are taken for each other (`<unk>`, filled in).
    """
    left, right = _units(reference), _units(aligned)
    pairs: list[list[NlpToken] | None] = [None] * len(left)
    for step in Levenshtein.opcodes([_key(unit) for unit in left], [_key(unit) for unit in right]):
        if step.src_end - step.src_start == step.dest_end - step.dest_start:
            pairs[step.src_start : step.src_end] = right[step.dest_start : step.dest_end]
    return [Unit(tuple(unit), *_span(other)) for unit, other in zip(left, pairs, strict=True)]


def _units(tokens: Sequence[NlpToken]) -> list[list[NlpToken]]:
    units: list[list[NlpToken]] = []
    for token in tokens:
        if units and token.tags and units[-1][-1].tags[:1] == token.tags[:1]:
            units[-1].append(token)
        else:
            units.append([token])
    return units


def _key(unit: Sequence[NlpToken]) -> str:
    """What must be equal: the class of a tag (its number may differ between the files), or the word without < >."""
    tags = unit[0].tags
    return f"#{tags[0].name}" if tags else unit[0].token.strip("<>").lower()


def _span(unit: Sequence[NlpToken] | None) -> tuple[float | None, float | None]:
    if unit is None:
        return None, None
    for token in unit:
        if token.ts is None or token.end_ts is None or not 0 <= token.end_ts - token.ts <= _LONGEST_WORD:
            return None, None
    return unit[0].ts, unit[-1].end_ts


def sentences(units: Sequence[Unit]) -> list[Sentence]:
    """Cut where a sentence ends or another speaker begins."""
    parts: list[list[int]] = []
    for place, unit in enumerate(units):
        before = units[place - 1].tokens[-1] if place else None
        if before is None or before.speaker != unit.tokens[0].speaker or _ends(before):
            parts.append([])
        parts[-1].append(place)
    return [_sentence(units, part[0], part[-1] + 1) for part in parts]


def _ends(token: NlpToken) -> bool:
    return token.punctuation[-1:] in SENTENCE_ENDS


def _sentence(units: Sequence[Unit], first: int, last: int) -> Sentence:
    inside = tuple(units[first:last])
    start, end = inside[0].start, inside[-1].end
    if start is None or end is None or not all(unit.timed for unit in inside):
        return Sentence(inside, None, None)
    # Half of the silence up to the neighbour, where that has a time: else a word may lie in it.
    before = units[first - 1].end if first else 0.0
    after = units[last].start if last < len(units) else end
    if before is not None:
        start -= min(_PAD, max(0.0, (start - before) / 2))
    if after is not None:
        end += min(_PAD, max(0.0, (after - end) / 2))
    return Sentence(inside, round(start, 4), round(end, 4))
