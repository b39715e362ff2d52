"""Open places of a sentence: what was not heard as written, or is not written at all; and what is said there instead.

An open place begins at a token that was heard and has `extra` words after it, or at one that was not heard, and goes on
over the tokens that were not heard. Its first token (its head) says what is said instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from speechmill.align.base import Aligner, Open, Transcribed
from speechmill.align.place import LONGEST
from speechmill.align.recording import Outcome, TimedToken
from speechmill.align.sound import SECONDS, levels, quiet_frames
from speechmill.audio import RATE, Pcm
from speechmill.text import WILDCARD

_BESIDE = 0.8  # seconds of sound beside a sentence in which a word that its edge cuts is heard whole
_QUIET_BESIDE = 0.05  # seconds from an edge in which a quiet frame tells that no word is cut
_ROOM = 0.06  # seconds, at most, between such a word, as a model places it, and the edge


def heads(tokens: Sequence[TimedToken]) -> list[int]:
    """The first tokens of the open places, in order. Tokens that are not said ("--") are passed over."""
    found: list[int] = []
    is_open = False
    for place, token in enumerate(tokens):
        if token.start is None:
            continue
        begins = token.extra > 0 if token.heard else not is_open
        if begins:
            found.append(place)
        is_open = begins or not token.heard
    return found


def hear_open_places(aligner: Aligner, samples: Pcm, outcome: Outcome) -> Outcome:
    """The outcome of a kept sentence with `instead` at the heads of its open places: what the aligner hears there, a
    wildcard where it cannot tell, or hears nothing; what is written, where that is about as likely. A word after which
    something is clearly said that is not written becomes such a head. Of a sentence that is too long to be worked on at
    once nothing can be told.

    `samples` are the whole recording's.
    """
    if not outcome.kept or outcome.start is None or outcome.end is None:
        return outcome
    begin = heads(outcome.tokens)
    asked: list[str | list[str]] = []  # a list has what is written in an open place
    places: list[int] = []  # the tokens of what is asked
    written: list[str] = []
    for place, token in enumerate(outcome.tokens):
        if token.start is not None and token.heard:
            asked.append(token.written)
            places.append(place)
        if place in begin:
            written = []
            asked.append(written)
            places.append(place)
        if token.start is not None and not token.heard:
            written.append(token.written)
    words = [word if isinstance(word, str) else Open(tuple(word)) for word in asked]
    is_long = outcome.end - outcome.start > LONGEST  # a hold of minutes in the middle of it
    part = samples[: 0 if is_long else None][round(outcome.start * RATE) : round(outcome.end * RATE)]
    heard = aligner.hear_between(part, words)
    if heard is None:
        return outcome
    tokens = list(outcome.tokens)
    for place, word, text in zip(places, words, heard, strict=True):
        if isinstance(word, str):
            if text:
                tokens[place] = replace(tokens[place], instead=text, extra=len(text.split()))
            continue
        # That nothing is heard instead does not tell that nothing is said: a model that is taught so would miss it ever
        # again.
        tokens[place] = replace(tokens[place], instead=text or WILDCARD)
        if text == "" and tokens[place].heard:  # nothing is said behind it, as nothing is written
            tokens[place] = replace(tokens[place], instead=None, extra=0)
    return replace(outcome, tokens=tuple(tokens))


def with_whole_words(aligner: Aligner, samples: Pcm, outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The outcomes of a recording; a kept sentence whose first or last word was not heard as written, and whose edge is
    in the middle of sound, has the whole of the word that the edge cuts, as far as no other sentence has it: that edge
    was reckoned from what is written.

    `samples` are the whole recording's.
    """
    found = list(outcomes)
    quiet = quiet_frames(levels(samples)) if outcomes else np.zeros(0, np.bool_)

    def cuts(token: TimedToken, edge: float) -> bool:
        """Whether a sentence's edge is in the middle of sound, and was reckoned."""
        near = slice(max(0, round((edge - _QUIET_BESIDE) / SECONDS)), round((edge + _QUIET_BESIDE) / SECONDS))
        return not token.heard and not quiet[near].any()

    in_time = sorted((one.start or 0.0, number) for number, one in enumerate(outcomes) if one.kept)
    before = 0.0
    for (_, number), (after, _) in pairwise([*in_time, (len(samples) / RATE, -1)]):
        outcome = found[number]
        said = [token for token in outcome.tokens if token.start is not None]
        start, end = outcome.start or 0.0, outcome.end or 0.0
        low = max(min(before, start), start - _BESIDE) if said and cuts(said[0], start) else start
        high = min(max(after, end), end + _BESIDE) if said and cuts(said[-1], end) else end
        if low < start or high > end:
            heard = aligner.hear(samples[round(low * RATE) : round(high * RATE)]) if high - low <= LONGEST else None
            found[number] = _widened(outcome, *around(heard or [], start - low, end - low, high - low), low)
        before = max(before, found[number].end or 0.0)
    return tuple(found)


def around(heard: Sequence[Transcribed], start: float, end: float, seconds: float) -> tuple[float, float]:
    """The edges of a part of some sound, moved outwards to those of the words that they cut: half-way to the words
    beside them, but `_ROOM` at most."""
    wider = start, end
    for number, word in enumerate(heard):
        before = heard[number - 1].end if number else 0.0
        after = heard[number + 1].start if number + 1 < len(heard) else seconds
        if word.start < start < word.end:
            wider = max(word.start - _ROOM, (before + word.start) / 2), wider[1]
        if word.start < end < word.end:
            wider = wider[0], min(word.end + _ROOM, (word.end + after) / 2)
    return wider


def _widened(outcome: Outcome, start: float, end: float, offset: float) -> Outcome:
    """The outcome with other edges, which are those of its first and last said words, too."""
    said = [place for place, token in enumerate(outcome.tokens) if token.start is not None]
    tokens = list(outcome.tokens)
    start, end = min(outcome.start or 0.0, start + offset), max(outcome.end or 0.0, end + offset)
    if not tokens[said[0]].heard:
        tokens[said[0]] = replace(tokens[said[0]], start=min(tokens[said[0]].start or 0.0, start))
    if not tokens[said[-1]].heard:
        tokens[said[-1]] = replace(tokens[said[-1]], end=max(tokens[said[-1]].end or 0.0, end))
    return replace(outcome, start=start, end=end, tokens=tuple(tokens))


def cut_before(tokens: Sequence[TimedToken], place: int) -> tuple[tuple[TimedToken, ...], tuple[TimedToken, ...]]:
    """The tokens before `place` and from it on. Where what is said in an open place beside the cut is not what is
    written there, it is not known any more on which side it is said."""
    found = list(tokens)
    head = _head_of(tokens, place)
    if head is not None:
        before = _unheard(tokens, head + tokens[head].heard, place)
        after = _unheard(tokens, max(place, head + tokens[head].heard), len(tokens))
        as_written = _written(tokens, before + after) == tokens[head].instead
        found[head] = replace(found[head], instead=WILDCARD)
        if after:
            found[after[0]] = replace(found[after[0]], instead=_written(tokens, after) if as_written else WILDCARD)
        if before and as_written:
            found[head] = replace(found[head], instead=_written(tokens, before))
        elif as_written and tokens[head].heard:  # and nothing is said behind it
            found[head] = replace(found[head], instead=None, extra=0)
    return tuple(found[:place]), tuple(found[place:])


def _head_of(tokens: Sequence[TimedToken], place: int) -> int | None:
    """The head of the open place that goes on to `place`, or begins there; None where there is none, or nobody was
    asked what is said in it."""
    for number in reversed(range(place)):
        if tokens[number].instead is not None:
            return number
        if tokens[number].start is not None and tokens[number].heard:
            break
    first = next((number for number in range(place, len(tokens)) if tokens[number].start is not None), None)
    return first if first is not None and not tokens[first].heard and tokens[first].instead is not None else None


def _unheard(tokens: Sequence[TimedToken], first: int, last: int) -> list[int]:
    """The unheard tokens of an open place from `first` on, before `last`."""
    found: list[int] = []
    for number in range(first, last):
        if tokens[number].start is None:
            continue
        if tokens[number].heard or (found and tokens[number].instead is not None):
            break
        found.append(number)
    return found


def _written(tokens: Sequence[TimedToken], places: Sequence[int]) -> str:
    return " ".join(tokens[place].written for place in places)
