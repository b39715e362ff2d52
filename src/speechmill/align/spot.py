"""Where in a stretch of sound a text fits best: hidden Markov models of its words, laid between every two cuts.

Viterbi search without pruning. From each cut a text's states are gone through frame by frame, and at each later cut the
path to its end is read off: one search instead of one for each pair of cuts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speechmill.align import acoustics
from speechmill.align.acoustics import SILENCE, STATES, Array, Floats, Ints
from speechmill.align.base import Heard
from speechmill.align.sound import SECONDS

_NEVER = np.float32(-1e30)
_QUIET = -1  # the place of a state of silence, among those of words

Bools = npt.NDArray[np.bool_]
Pronunciations = Mapping[str, Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Chain:
    """The states of one or more texts, in order: each comes from itself and from the one before it, but `entries`."""

    senones: Ints  # [states]
    stay: Floats  # [states], log probabilities
    move: Floats
    word: Ints  # [states]: the word that it is of, or `_QUIET`
    names: list[str]  # [states / STATES], of phones
    entries: Ints  # [entries]: states that come from elsewhere
    sources: Ints  # [entries, most]: from where; filled up with the number of states, where nothing ever is
    starts: Ints  # states that a text begins with
    ends: Ints  # [texts, most]: states that it ends with, filled up likewise


class Spotter:
    """One stretch of sound in one voice."""

    def __init__(self, model: Path, said: Pronunciations, frames: Array, voice: Array | None) -> None:
        """
        Args:
            said: how words are pronounced.
            frames: see `acoustics.differences`.
            voice: a transform (see `mllr`), or the model's own.
        """
        self._model, self._said, self._frames, self._voice = model, said, frames, voice

    @cached_property
    def _all(self) -> Floats:
        """`[frames, senones]`, log likelihoods less the best of each frame, which makes frames comparable."""
        found = acoustics.likelihoods(self._model, self._frames, self._voice)
        found -= found.max(axis=1, keepdims=True)
        return found

    def fits(self, texts: Sequence[Sequence[str]], cuts: Sequence[float], longest: float) -> Floats:
        """`[texts, cuts, cuts]`: how well each text fits from one cut (seconds) to another, at most `longest` seconds
        later: mean over the frames of its words of the log likelihood less the best senone's; -inf where it does not,
        and where it has a word that nobody can pronounce.
        """
        result = np.full((len(texts), len(cuts), len(cuts)), -np.inf, np.float32)
        known = [number for number, text in enumerate(texts) if self._can_say(text)]
        if not known:
            return result
        chain = self._chain([texts[number] for number in known])
        frames = np.round(np.asarray(cuts) / SECONDS).astype(np.int64).clip(0, len(self._frames))
        at: dict[int, list[int]] = {}
        for number, frame in enumerate(frames.tolist()):
            at.setdefault(frame, []).append(number)
        active = np.arange(len(cuts))
        search = _Search(chain, len(cuts))
        for step in range(min(round(longest / SECONDS), len(self._frames))):
            now = frames[active] + step
            if not (there := now < len(self._frames)).all():
                active, now = active[there], now[there]
                search.keep(there)
            if not len(active):
                break
            search.advance(self._all[now[:, None], chain.senones], first=step == 0)
            for row, frame in enumerate((now + 1).tolist()):
                for other in at.get(frame, ()):
                    score, quiet = search.ended(row)
                    spoken = step + 1 - quiet
                    fit = np.where(spoken > 0, score / np.maximum(spoken, 1), -np.inf)
                    result[known, active[row], other] = np.where(score > _NEVER / 2, fit, -np.inf)
        return result

    def times(self, words: Sequence[str], start: float, end: float) -> list[Heard] | None:
        """When each word is said, laid from `start` to `end` (seconds); None where they do not fit in."""
        if not self._can_say(words):
            return None
        first, last = (min(max(0, round(second / SECONDS)), len(self._frames)) for second in (start, end))
        chain = self._chain([words])
        path = _path(chain, self._all[first:last], chain.senones)
        if path is None:
            return None
        of_frame = chain.word[path]
        spoken = [first + np.flatnonzero(of_frame == number) for number in range(len(words))]
        return [
            Heard(word, float(frames[0]) * SECONDS, float(frames[-1] + 1) * SECONDS)
            for word, frames in zip(words, spoken, strict=True)
        ]

    def phones(self, words: Sequence[str]) -> list[tuple[str, int, int, int]]:
        """Each phone of the words, laid over the whole stretch: its name, its word's number, its first frame and the
        one after its last; nothing where they do not fit in.
        """
        if not self._can_say(words):
            return []
        chain = self._chain([words])
        wanted, places = np.unique(chain.senones, return_inverse=True)
        path = _path(chain, acoustics.likelihoods(self._model, self._frames, self._voice, wanted), places)
        if path is None:
            return []
        bounds = np.flatnonzero(np.diff(path // STATES, prepend=-1, append=-1))
        found = []
        for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            if (word := int(chain.word[path[first]])) != _QUIET:
                found.append((chain.names[path[first] // STATES], word, first, last))
        return found

    def _can_say(self, text: Sequence[str]) -> bool:
        return bool(text) and all(word in self._said for word in text)

    def _chain(self, texts: Sequence[Sequence[str]]) -> Chain:
        """Texts as states; silence may stand around each word. A phone's neighbours in other words are those of their
        first pronunciations, silence or not; around the text it is silence.
        """
        table = acoustics.senones(self._model)
        quiet = table.alone[acoustics.gaussians(self._model).phones[SILENCE]]
        rows: list[Ints] = []  # of a phone each
        words: list[int] = []
        names: list[str] = []
        entries: list[tuple[int, list[int]]] = []  # phones, with those that they come after
        starts: list[int] = []
        ends: list[list[int]] = []
        for text in texts:
            before: list[int] = []
            for number in range(len(text) + 1):
                pause = len(rows)
                rows.append(quiet)
                words.append(_QUIET)
                names.append(SILENCE)
                entries.append((pause, list(before)))
                if number == 0:
                    starts.append(pause)
                if number == len(text):
                    ends.append([*before, pause])
                    break
                left = self._said[text[number - 1]][0][-1] if number else SILENCE
                right = self._said[text[number + 1]][0][0] if number + 1 < len(text) else SILENCE
                after = []
                for phones in self._said[text[number]]:
                    entries.append((len(rows), [*before, pause]))
                    if number == 0:
                        starts.append(len(rows))
                    rows.extend(acoustics.triphones(self._model, list(phones), left, right))
                    words.extend([number] * len(phones))
                    names.extend(phones)
                    after.append(len(rows) - 1)
                before = after
        each = np.array(rows)
        states = STATES * len(each)
        return Chain(
            senones=each[:, :STATES].reshape(-1),
            stay=table.stay[each[:, STATES]].reshape(-1),
            move=table.move[each[:, STATES]].reshape(-1),
            word=np.repeat(np.array(words), STATES),
            names=names,
            entries=STATES * np.array([phone for phone, _ in entries]),
            sources=_filled([[STATES * source + STATES - 1 for source in some] for _, some in entries], states),
            starts=STATES * np.array(starts),
            ends=_filled([[STATES * source + STATES - 1 for source in some] for some in ends], states),
        )


class _Search:
    """Best paths to each state, of several searches side by side; `quiet`: how many of their frames are silence."""

    def __init__(self, chain: Chain, count: int) -> None:
        self._chain = chain
        states = len(chain.senones)
        self._silent = (chain.word == _QUIET).astype(np.int32)
        self._leave = np.append(chain.move, np.float32(0))
        self._score = np.full((count, states + 1), _NEVER, np.float32)  # the last one is never reached
        self._quiet = np.zeros((count, states + 1), np.int32)

    def keep(self, rows: Bools) -> None:
        self._score, self._quiet = self._score[rows], self._quiet[rows]

    def advance(self, observed: Floats, first: bool) -> tuple[Bools, Ints]:
        """One frame, `[searches, states]`; returns which states were come to from another one, and for `entries` which
        of the `sources` that would be.
        """
        chain, score, quiet = self._chain, self._score, self._quiet
        leaving = score + self._leave
        choices = leaving[:, chain.sources]
        best = choices.argmax(axis=2)
        from_where = chain.sources[np.arange(len(chain.entries)), best]
        come, came_quiet = np.empty_like(observed), np.empty(observed.shape, np.int32)
        come[:, 1:], came_quiet[:, 1:] = leaving[:, :-2], quiet[:, :-2]
        come[:, chain.entries] = choices.max(axis=2)
        came_quiet[:, chain.entries] = np.take_along_axis(quiet, from_where, axis=1)
        if first:
            come[:, chain.starts], came_quiet[:, chain.starts] = 0.0, 0
        stayed = score[:, :-1] + chain.stay
        came = come > stayed
        score[:, :-1] = np.maximum(np.maximum(come, stayed) + observed, _NEVER)
        quiet[:, :-1] = np.where(came, came_quiet, quiet[:, :-1]) + self._silent
        return came, best

    def ended(self, row: int) -> tuple[Floats, Ints]:
        """`[texts]`: score of the best path to each one's end, and its frames of silence."""
        ends = self._chain.ends
        scores = (self._score[row] + self._leave)[ends]
        best = ends[np.arange(len(ends)), scores.argmax(axis=1)]
        return scores.max(axis=1), self._quiet[row, best]

    def end(self, row: int) -> tuple[float, int]:
        """The same of the only text: score, and the last state."""
        ends = self._chain.ends[0]
        scores = (self._score[row] + self._leave)[ends]
        return float(scores.max()), int(ends[scores.argmax()])


def _path(chain: Chain, likelihoods: Floats, columns: Ints) -> Ints | None:
    """The state of each frame on the best way through a text; `columns`: of the likelihoods, for each state."""
    search = _Search(chain, 1)
    entry = np.full(len(columns), -1)
    entry[chain.entries] = np.arange(len(chain.entries))
    came = np.empty((len(likelihoods), len(columns)), np.bool_)
    best = np.empty((len(likelihoods), len(chain.entries)), np.int8)
    for frame, row in enumerate(likelihoods):
        found = search.advance(row[columns][None], first=frame == 0)
        came[frame], best[frame] = found[0][0], found[1][0]
    score, state = search.end(0)
    if score < _NEVER / 2:
        return None
    path = np.empty(len(likelihoods), np.int64)
    for frame in range(len(likelihoods) - 1, -1, -1):
        path[frame] = state
        if came[frame, state]:
            state = int(chain.sources[entry[state], best[frame, entry[state]]]) if entry[state] >= 0 else state - 1
    return path


def _filled(lists: Sequence[Sequence[int]], filling: int) -> Ints:
    most = max(len(one) for one in lists)
    return np.array([[*one, *[filling] * (most - len(one))] for one in lists], np.int64).reshape(len(lists), most)
