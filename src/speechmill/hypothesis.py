"""A hypothesis: text, and for each of its words when it was said and how sure the recognizer is."""

from __future__ import annotations

import math
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

    `words` is empty where no times were asked for or the text does not fit into the audio; `caught` says why a
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
    steps = place_tokens(log_probs, tokens)
    if steps is None:
        return ()
    words = []
    for first, last in _spans(tokens, tokenizer):
        text = tokenizer.decode(list(tokens[first:last])).strip()
        # A bare mark of a new word is no part of what was said. Where the pause is short it tells where the word
        # begins; in a long one it lies anywhere. A step before the first letters is as near on the demo corpus.
        spoken = [place for place in range(first, last) if tokenizer.letters(tokens[place])]
        if not text or not spoken:
            continue
        sure = [float(log_probs[slice(*steps[place]), tokens[place]].max()) for place in spoken]
        start, end = max(steps[first][0], steps[spoken[0]][0] - 1), steps[spoken[-1]][1]
        words.append(
            Word(
                text,
                round(max(0.0, start * step_seconds + offset_seconds), 3),
                round(max(0.0, end * step_seconds + offset_seconds), 3),
                round(math.exp(sum(sure) / len(sure)), 4),
            )
        )
    return tuple(words)


def _spans(tokens: Sequence[int], tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """Places (first, last without) of the tokens of each word."""
    starts = [place for place, token in enumerate(tokens) if place == 0 or tokenizer.begins_word(token)]
    return list(zip(starts, [*starts[1:], len(tokens)], strict=True))
