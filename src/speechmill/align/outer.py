"""Sentences whose first or last words were not heard: where they begin and end, by the sound.

How far such a sentence reaches is a guess up to here. The sound tells: it is laid between the pauses around it, as
`verify` does with a sentence of which nothing was heard, but so that what was heard of it stays where it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from speechmill.align.base import Aligner, Heard, Sentence
from speechmill.align.place import Word
from speechmill.align.sound import Levels, pauses
from speechmill.align.verify import has_room, letters
from speechmill.audio import RATE, Pcm

_FURTHEST = (2.5, 1.0)  # an edge moves by so many times what its unheard words take, and so many seconds more
_NEIGHBOUR = 0.6  # of what a neighbour's unheard words take is left to it
_MOST = 8  # ways that are looked at until one leaves the outer words room

Cuts = npt.NDArray[np.float64]


def lay_outer_words(
    aligner: Aligner, samples: Pcm, sentences: Sequence[Sentence], words: Sequence[Word], levels: Levels
) -> list[Word]:
    """The words, those of such sentences with times by the sound where the aligner can tell it."""
    found = list(words)
    groups = _groups(words)
    pace = _pace(words)
    marks = pauses(levels)
    for number, (first, last) in enumerate(groups):
        own = words[first:last]
        if own[0].agrees and own[-1].agrees:
            continue
        low = _after(found[slice(*groups[number - 1])], pace) if number else 0.0
        high = _before(words[slice(*groups[number + 1])], pace) if number + 1 < len(groups) else len(samples) / RATE
        laid = _laid(aligner, samples, sentences[own[0].sentence].speaker, own, (low, high), marks, pace)
        if laid:
            found[first:last] = [
                replace(word, start=there.start, end=there.end, fitted=True)
                for word, there in zip(own, laid, strict=True)
            ]
    return found


def _laid(
    aligner: Aligner,
    samples: Pcm,
    speaker: str,
    own: Sequence[Word],
    room: tuple[float, float],
    marks: Cuts,
    pace: float,
) -> list[Heard] | None:
    agree = [place for place, word in enumerate(own) if word.agrees]
    text = [word.word for word in own]
    if not agree:
        return None
    leading, trailing = text[: agree[0]], text[agree[-1] + 1 :]
    starts = _cuts(own[0].start, own[agree[0]].start, leading, room[0], marks, pace)
    ends = _cuts(own[-1].end, own[agree[-1]].end, trailing, room[1], marks, pace)
    cuts = np.unique(np.concatenate([starts, ends]))
    low = float(cuts[0])
    stretch = aligner.stretch(samples, low, float(cuts[-1]), speaker)
    if stretch is None:
        return None
    fits = stretch.fits([text], (cuts - low).tolist(), float(cuts[-1]) - low)[0]
    fits[~np.isin(cuts, starts)] = -np.inf
    fits[:, ~np.isin(cuts, ends)] = -np.inf
    for place in np.argsort(-fits, axis=None)[:_MOST].tolist():
        start, end = divmod(place, len(cuts))
        there = stretch.times(text, cuts[start] - low, cuts[end] - low) if np.isfinite(fits[start, end]) else None
        if there and has_room(there, pace):
            return [Heard(word, first + low, last + low) for word, first, last in there]
    return None


def _cuts(now: float, heard: float, unheard: Sequence[str], limit: float, marks: Cuts, pace: float) -> Cuts:
    """Where a sentence may begin, or end, whose outermost heard word begins or ends at `heard`: at pauses, or where it
    meets its neighbour. The edge is at `now`.

    Args:
        unheard: the words beyond that one.
        limit: how far it may reach, for its neighbour.
    """
    if not unheard:
        return np.array([now])
    furthest = _FURTHEST[0] * pace * letters(unheard) + _FURTHEST[1]
    low, high = (max(limit, heard - furthest), heard) if limit < heard else (heard, min(limit, heard + furthest))
    inside = marks[(marks > low) & (marks < high)]
    return np.unique([*(inside if len(inside) else [now]), low if limit < heard else high])


def _after(neighbour: Sequence[Word], pace: float) -> float:
    """How far back a sentence may begin, for the one before it."""
    agree = [place for place, word in enumerate(neighbour) if word.agrees]
    if not agree:
        return neighbour[-1].end
    unheard = letters([word.word for word in neighbour[agree[-1] + 1 :]])
    return neighbour[agree[-1]].end + _NEIGHBOUR * pace * unheard


def _before(neighbour: Sequence[Word], pace: float) -> float:
    """How far on a sentence may end, for the one after it."""
    agree = [place for place, word in enumerate(neighbour) if word.agrees]
    if not agree:
        return neighbour[0].start
    unheard = letters([word.word for word in neighbour[: agree[0]]])
    return neighbour[agree[0]].start - _NEIGHBOUR * pace * unheard


def _groups(words: Sequence[Word]) -> list[tuple[int, int]]:
    """The words of each sentence: (first, last without)."""
    bounds = [
        place
        for place in range(len(words) + 1)
        if place in (0, len(words)) or words[place].sentence != words[place - 1].sentence
    ]
    return [(a, b) for a, b in itertools.pairwise(bounds) if words[a].sentence >= 0]


def _pace(words: Sequence[Word]) -> float:
    """Seconds a letter, of words that were heard."""
    heard = [word for word in words if word.agrees and word.sentence >= 0]
    seconds = sum(word.end - word.start for word in heard)
    return seconds / max(letters([word.word for word in heard]), 1) or 0.07
