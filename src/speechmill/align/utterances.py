"""Sentences become utterances of the wanted length: short ones are joined, long ones cut, at pauses."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from speechmill.align.opened import cut_before
from speechmill.align.recording import Outcome, TimedToken
from speechmill.settings import AlignSettings

_JOIN_GAP = 1.0  # seconds between sentences that are joined at most
_EDGE = 0.05  # seconds of the pause that a cut leaves on each side at most


@dataclass(frozen=True)
class Utterance:
    """A stretch of one speaker: sentences (their places in the transcript) or a part of one (`part` from 1)."""

    places: tuple[int, ...]
    part: int  # 0 where it is whole
    start: float
    end: float
    confidence: float
    tokens: tuple[TimedToken, ...]

    @property
    def seconds(self) -> float:
        return self.end - self.start


def utterances(
    outcomes: Sequence[Outcome],
    groups: Sequence[object],
    others: Sequence[tuple[float, float]],
    settings: AlignSettings,
) -> tuple[list[Utterance], list[Utterance]]:
    """Utterances of `min_seconds` to `max_seconds` from the kept sentences, in the order of time; and what is left out:
    it stays too short, or cannot be cut.

    `groups` tells for each outcome who speaks and in which session: only equals are joined, and only where nothing
    else was heard between (`others`).
    """
    kept = sorted((outcome for outcome in outcomes if outcome.kept), key=lambda outcome: outcome.start or 0.0)
    group_of = {outcome.place: group for outcome, group in zip(outcomes, groups, strict=True)}
    joined: list[Utterance] = []
    for outcome in kept:
        new = Utterance(
            (outcome.place,), 0, outcome.start or 0.0, outcome.end or 0.0, outcome.confidence, outcome.tokens
        )
        if joined and _joins(joined[-1], new, group_of, others, settings):
            joined[-1] = _join(joined[-1], new)
        else:
            joined.append(new)
    parts = [part for utterance in joined for part in split(utterance, settings.max_seconds, settings.min_seconds)]
    fit = [settings.min_seconds <= part.seconds <= settings.max_seconds for part in parts]
    return list(itertools.compress(parts, fit)), list(itertools.compress(parts, [not one for one in fit]))


def _joins(
    last: Utterance,
    new: Utterance,
    group_of: dict[int, object],
    others: Sequence[tuple[float, float]],
    settings: AlignSettings,
) -> bool:
    wanted = max(settings.min_seconds, settings.join_seconds)
    short = last.seconds < wanted or new.seconds < settings.min_seconds
    near = new.start - last.end <= _JOIN_GAP and new.end - last.start <= max(settings.max_seconds, 0.0)
    follows = new.places[0] == last.places[-1] + 1 and group_of[new.places[0]] == group_of[last.places[-1]]
    fits = settings.join_seconds == 0 or new.end - last.start <= max(settings.join_seconds, settings.min_seconds)
    if not (short and near and follows and (fits or min(last.seconds, new.seconds) < settings.min_seconds)):
        return False
    return not any(last.end - 0.05 < (start + end) / 2 < new.start + 0.05 for start, end in others)


def _join(last: Utterance, new: Utterance) -> Utterance:
    return Utterance(
        (*last.places, *new.places), 0, last.start, new.end, min(last.confidence, new.confidence),
        (*last.tokens, *new.tokens),
    )  # fmt: skip


def split(utterance: Utterance, longest: float, shortest: float = 0.0) -> list[Utterance]:
    """Cut an utterance at its longest pauses, near the middle first, until no part is over `longest` seconds; so that
    none is under `shortest` where that can be."""
    if utterance.seconds <= longest:
        return [utterance]
    timed = [number for number, token in enumerate(utterance.tokens) if token.start is not None]
    best, place = (False, -1.0), 0
    for before, after in itertools.pairwise(timed):
        end, start = utterance.tokens[before].end or 0.0, utterance.tokens[after].start or 0.0
        middle = 1 - abs((end + start) / 2 - (utterance.start + utterance.end) / 2) / utterance.seconds
        long_enough = min(end - utterance.start, utterance.end - start) >= shortest
        value = (long_enough, (start - end + 0.05) * middle)
        if value > best:
            best, place = value, after
    if not place:
        return [utterance]
    end = max(token.end or 0.0 for token in utterance.tokens[:place])
    start = utterance.tokens[place].start or end
    room = min(_EDGE, max(0.0, start - end) / 2)
    number = max(utterance.part, 1)
    before_it, from_it = cut_before(utterance.tokens, place)
    left = Utterance(utterance.places, number, utterance.start, end + room, utterance.confidence, before_it)
    right = Utterance(utterance.places, number, start - room, utterance.end, utterance.confidence, from_it)
    parts = [*split(left, longest, shortest), *split(right, longest, shortest)]
    return [
        Utterance(part.places, order, part.start, part.end, part.confidence, part.tokens)
        for order, part in enumerate(parts, 1)
    ]
