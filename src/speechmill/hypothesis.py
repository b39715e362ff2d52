"""A hypothesis: text, and for each of its words when it was said and how sure the recognizer is."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from speechmill.models.forced import place_tokens
from speechmill.tokenizer import Tokenizer


@dataclass(frozen=True)
class Word:
    """A word as written, when it was said (seconds from the start of the audio), and a confidence from 0 to 1."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Hypothesis:
    """What was heard in a piece of audio.

    `words` is empty where no times were asked for. Of a text that has more tokens than its audio has steps, the words
    are spread evenly over it, with a confidence of 0; `caught` says why a
    decoder's own text was not believed and CTC's stands here ("loop", "length").
    """

    text: str
    words: tuple[Word, ...] = ()
    caught: str = ""


def words_of(
    tokens: Sequence[int], log_probs: Tensor, tokenizer: Tokenizer, step_seconds: float, offset_seconds: float
) -> tuple[Word, ...]:
    """The words of a hypothesis on the best path of its tokens through CTC outputs.

    A word's confidence is the geometric mean, over its tokens, of the highest probability that CTC gives the token
    among the steps where it lies.

    Args:
        log_probs: [steps, tokens], natural logarithms.
        step_seconds, offset_seconds: as `Recognizer.step_times` gives them.
    """
    if not tokens:
        return ()
    steps = place_tokens(log_probs, tokens)
    if steps is None:
        return _spread(tokens, len(log_probs), tokenizer, step_seconds, offset_seconds)
    words = []
    for first, last in _spans(tokens, tokenizer):
        text = tokenizer.decode(list(tokens[first:last])).strip()
        # A bare mark of a new word is no part of what was said. Where the pause is short it tells where the word
        # begins; in a long one it lies anywhere. A step before the first letters is as near on the demo corpus.
        # Nor is a comma by itself, which CTC puts anywhere in the pause behind the word; "%" is.
        written = [place for place in range(first, last) if tokenizer.letters(tokens[place])]
        spoken = [place for place in written if any(map(_is_said, tokenizer.letters(tokens[place])))] or written
        if not text or not spoken:
            continue
        sure = [float(log_probs[slice(*steps[place]), tokens[place]].max()) for place in spoken]
        start, end = max(steps[first][0], steps[spoken[0]][0] - 1), steps[spoken[-1]][1]
        times = _seconds(start, step_seconds, offset_seconds), _seconds(end, step_seconds, offset_seconds)
        words.append(Word(text, *times, round(math.exp(sum(sure) / len(sure)), 4)))
    return tuple(words)


def _is_said(character: str) -> bool:
    return character in "%&@#" or not unicodedata.category(character).startswith("P")


def _spread(
    tokens: Sequence[int], steps: int, tokenizer: Tokenizer, step_seconds: float, offset_seconds: float
) -> tuple[Word, ...]:
    """Words evenly over the audio, by their tokens; nobody knows when they were said."""
    words = []
    for first, last in _spans(tokens, tokenizer):
        if text := tokenizer.decode(list(tokens[first:last])).strip():
            start, end = (
                _seconds(steps * place / len(tokens), step_seconds, offset_seconds) for place in (first, last)
            )
            words.append(Word(text, start, end, 0.0))
    return tuple(words)


def _seconds(step: float, step_seconds: float, offset_seconds: float) -> float:
    return round(max(0.0, step * step_seconds + offset_seconds), 3)


def _spans(tokens: Sequence[int], tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """Places (first, last without) of the tokens of each word."""
    starts = [place for place, token in enumerate(tokens) if place == 0 or tokenizer.begins_word(token)]
    return list(zip(starts, [*starts[1:], len(tokens)], strict=True))
