"""Open places of a sentence: what was not heard as written, or is not written at all; and what is said there instead.

An open place begins at a token that was heard and has `extra` words after it, or at one that was not heard, and goes on
over the tokens that were not heard. Its first token (its head) says what is said instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from speechmill.align.base import Aligner, Open
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
    wildcard where it cannot tell, or hears nothing; what is written, where that is about as likely.

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
    heard = aligner.hear_between(samples[round(outcome.start * RATE) : round(outcome.end * RATE)], asked)
    if heard is None:
        return outcome
    tokens = list(outcome.tokens)
    for place, text in zip(begin, heard, strict=True):
        # That nothing is heard does not tell that nothing is said: a model that is taught so would miss it ever again.
        tokens[place] = replace(tokens[place], instead=text or WILDCARD)
    return replace(outcome, tokens=tuple(tokens))


def cut_before(tokens: Sequence[TimedToken], place: int) -> tuple[tuple[TimedToken, ...], tuple[TimedToken, ...]]:
    """The tokens before `place` and from it on. Of an open place beside the cut it is not known any more on which side
    is said what is said there."""
    first, second = list(tokens[:place]), list(tokens[place:])
    for number in reversed(range(len(first))):
        token = first[number]
        if token.instead is not None:
            first[number] = replace(token, instead=WILDCARD)
        if token.start is not None and (token.heard or token.instead is not None):
            break
    for number, token in enumerate(second):
        if token.start is not None:
            if not token.heard and token.instead is not None:
                second[number] = replace(token, instead=WILDCARD)
            break
    return tuple(first), tuple(second)
