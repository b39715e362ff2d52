"""Open places of a sentence: what was not heard as written, or is not written at all; and what is said there instead.

An open place begins at a token that was heard and has `extra` words after it, or at one that was not heard, and goes on
over the tokens that were not heard. Its first token (its head) says what is said instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from speechmill.align.base import Aligner, Open
from speechmill.align.place import LONGEST
from speechmill.align.recording import Outcome, TimedToken
from speechmill.audio import RATE, Pcm
from speechmill.text import WILDCARD


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
    wildcard where it cannot tell, or hears nothing; what is written, where that is about as likely. Of a sentence that
    is too long to be worked on at once nothing can be told.

    `samples` are the whole recording's.
    """
    begin = heads(outcome.tokens)
    if not begin or outcome.start is None or outcome.end is None:
        return outcome
    words: list[str | list[str]] = []  # a list has what is written in an open place
    written: list[str] = []
    for place, token in enumerate(outcome.tokens):
        if token.start is not None and token.heard:
            words.append(token.written)
        if place in begin:
            written = []
            words.append(written)
        if token.start is not None and not token.heard:
            written.append(token.written)
    asked = [word if isinstance(word, str) else Open(tuple(word)) for word in words]
    is_long = outcome.end - outcome.start > LONGEST  # a hold of minutes in the middle of it
    part = samples[: 0 if is_long else None][round(outcome.start * RATE) : round(outcome.end * RATE)]
    heard = aligner.hear_between(part, asked)
    if heard is None:
        return outcome
    tokens = list(outcome.tokens)
    for place, text in zip(begin, heard, strict=True):
        # That nothing is heard instead does not tell that nothing is said: a model that is taught so would miss it ever
        # again.
        tokens[place] = replace(tokens[place], instead=text or WILDCARD)
        if text == "" and tokens[place].heard:  # nothing is said behind it, as nothing is written
            tokens[place] = replace(tokens[place], instead=None, extra=0)
    return replace(outcome, tokens=tuple(tokens))


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
