"""Sentences whose first or last words were not heard: where they begin and end, by the sound.

How far such a sentence reaches is a guess up to here. The sound tells: it is laid between the pauses around it, as
`verify` does with a sentence of which nothing was heard, but so that what was heard of it stays about where it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from speechmill.align.base import Aligner, Heard, Sentence
from speechmill.align.pace import letters, pace_of
from speechmill.align.place import LONGEST, Word
from speechmill.align.sound import Levels, pauses
from speechmill.align.verify import WORSE, edge_has_room
from speechmill.audio import RATE, Pcm

_FURTHEST = (2.5, 1.0)  # an edge moves by so many times what its unheard words take, and so many seconds more
_NEIGHBOUR = 0.6  # of what a neighbour's unheard words take is left to it
_ASTRAY = 0.4  # seconds within which most heard words still begin: else other sound was taken for them
_MOST = 8  # ways that are looked at until one leaves the outer words room

Cuts = npt.NDArray[np.float64]


def lay_outer_words(
    aligner: Aligner,
    samples: Pcm,
    sentences: Sequence[Sentence],
    words: Sequence[Word],
    taken: Sequence[tuple[float, float]],
    levels: Levels,
) -> list[Word]:
    """The words, those of such sentences with times by the sound where the aligner can tell it.

    Args:
        taken: seconds that other sentences have, in order.
    """
    found = list(words)
    groups = _groups(words)
    pace = pace_of((one.word, one.end - one.start) for one in words if one.agrees and one.sentence >= 0)
    marks = pauses(levels)
    for number, (first, last) in enumerate(groups):
        own = words[first:last]
        agree = [word for word in own if word.agrees]
        if not agree or (own[0].agrees and own[-1].agrees):
            continue
        low = found[groups[number - 1][1] - 1].end if number else 0.0
        high = _before(words[slice(*groups[number + 1])], pace) if number + 1 < len(groups) else len(samples) / RATE
        low = max([low, *(end for _, end in taken if end <= agree[0].start)])
        high = min([high, *(start for start, _ in taken if start >= agree[-1].end)])
        speaker = sentences[own[0].sentence].speaker
        if laid := _laid(aligner, samples, speaker, own, (low, high), marks, pace):
            found[first:last] = [
                replace(word, start=there.start, end=there.end) for word, there in zip(own, laid, strict=True)
            ]
    return _apart(found, groups)


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
    leading, trailing = text[: agree[0]], text[agree[-1] + 1 :]
    first_heard, last_heard = own[agree[0]].start, own[agree[-1]].end
    early = max(min(room[0], first_heard), first_heard - _furthest(leading, pace))
    late = min(max(room[1], last_heard), last_heard + _furthest(trailing, pace))
    starts = _cuts(early, first_heard, marks, early, own[0].start) if leading else np.array([own[0].start])
    ends = _cuts(last_heard, late, marks, late, own[-1].end) if trailing else np.array([own[-1].end])
    cuts = np.unique(np.concatenate([starts, ends]))
    low = float(cuts[0])
    if float(cuts[-1]) - low > LONGEST:  # a hold of minutes in the middle of it
        return None
    stretch = aligner.stretch(samples, low, float(cuts[-1]), speaker)
    if stretch is None:
        return None
    fits = stretch.fits([text], (cuts - low).tolist(), float(cuts[-1]) - low)[0]
    fits[~np.isin(cuts, starts)] = -np.inf
    fits[:, ~np.isin(cuts, ends)] = -np.inf
    best: list[Heard] | None = None
    enough = -np.inf
    for place in np.argsort(-fits, axis=None)[:_MOST].tolist():
        if not np.isfinite(fits.flat[place]) or fits.flat[place] < enough:
            break
        there = stretch.times(text, *(float(cuts[number]) - low for number in divmod(place, len(cuts))))
        if not there:
            continue
        laid = [Heard(one.word, one.start + low, one.end + low) for one in there]
        stay = [abs(laid[word].start - own[word].start) <= _ASTRAY for word in agree]
        if 2 * sum(stay) > len(stay):
            if best is None:
                best, enough = laid, float(fits.flat[place]) - WORSE
            last = laid[::-1][: len(trailing)]
            if edge_has_room(laid[: len(leading)], pace) and edge_has_room(last, pace):
                return laid
    return best


def _furthest(unheard: Sequence[str], pace: float) -> float:
    """Seconds by which words beyond the outermost heard one may reach."""
    return _FURTHEST[0] * pace * letters(unheard) + _FURTHEST[1]


def _cuts(low: float, high: float, marks: Cuts, limit: float, now: float) -> Cuts:
    """Where a sentence may begin, or end: at the pauses from `low` to `high`, or where it meets its neighbour.

    Where there is no pause, where it does `now`.
    """
    inside = marks[(marks > low) & (marks < high)]
    return np.unique([*(inside if len(inside) else [now]), limit])


def _before(neighbour: Sequence[Word], pace: float) -> float:
    """How far on a sentence may end, for the one after it."""
    agree = [place for place, word in enumerate(neighbour) if word.agrees]
    if not agree:
        return neighbour[0].start
    unheard = letters([word.word for word in neighbour[: agree[0]]])
    return neighbour[agree[0]].start - _NEIGHBOUR * pace * unheard


def _apart(words: list[Word], groups: Sequence[tuple[int, int]]) -> list[Word]:
    """Words that reach into the next sentence, which could not be laid anew, end where it begins."""
    for (first, last), (following, _) in itertools.pairwise(groups):
        limit = words[following].start
        for place in range(last - 1, first - 1, -1):
            if words[place].end <= limit:
                break
            words[place] = replace(words[place], start=min(words[place].start, limit), end=limit)
    return words


def _groups(words: Sequence[Word]) -> list[tuple[int, int]]:
    """The words of each sentence: (first, last without)."""
    bounds = [
        place
        for place in range(len(words) + 1)
        if place in (0, len(words)) or words[place].sentence != words[place - 1].sentence
    ]
    return [(a, b) for a, b in itertools.pairwise(bounds) if words[a].sentence >= 0]
