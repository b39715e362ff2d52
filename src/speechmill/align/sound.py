"""Energies of a recording in frames of 10 ms: where it is quiet, where it can be cut, where speech begins and ends."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from speechmill.audio import RATE, Pcm

FRAME = 160  # samples of 10 ms at 16 kHz
SECONDS = FRAME / RATE
Levels = npt.NDArray[np.float32]
SILENT = 20.0  # dB: a frame below it (a mean amplitude of 10 of 32,768) holds no speech
_SHORTEST = 50  # frames of the last piece, where a recording is longer than one
_BLOCK = 6000  # frames turned into energies at a time: a minute
_RANGE = 40.0  # dB under the peak that still count as speech
_QUIET, _PAUSE = 25.0, 6  # dB under loud speech, and frames, that make a pause
_BETWEEN = 20  # frames of a pause that is between words and not in one
_LEAST = 0.03  # seconds that a word has on its side of it
_REACH = 1.0  # seconds that an edge follows the sound outwards at most: music may go on from the last word


def levels(samples: Pcm) -> Levels:
    """Energy of each 10 ms frame in dB (a full-scale square wave: 90); the last, shorter frame is filled with zeros."""
    found = np.empty(-(-len(samples) // FRAME), np.float32)
    for first in range(0, len(found), _BLOCK):
        part = samples[first * FRAME : (first + _BLOCK) * FRAME].astype(np.float32)
        frames = np.pad(part, (0, -len(part) % FRAME)).reshape(-1, FRAME)
        found[first : first + len(frames)] = 10 * np.log10((frames * frames).mean(axis=1) + 1)
    return found


def pieces(found: Levels, shortest: float = 6.0, longest: float = 15.0) -> list[tuple[int, int]]:
    """Cut frames into pieces of `shortest` to `longest` seconds, each cut in the quietest 0.2 s there is."""
    width = 20
    least, most = round(shortest / SECONDS), round(longest / SECONDS)
    cuts = [0]
    if len(found) <= most:
        return [(0, len(found))]
    around = np.pad(found, (width // 2, width - 1 - width // 2), "edge")
    smooth = np.convolve(around, np.ones(width, np.float32) / width, "valid")
    while len(found) - cuts[-1] > most:
        first = cuts[-1] + least
        last = min(cuts[-1] + most, len(found) - _SHORTEST)
        cuts.append(first + int(np.argmin(smooth[first : max(last, first + 1)])))
    return list(zip(cuts, [*cuts[1:], len(found)], strict=True))


def pauses(found: Levels) -> npt.NDArray[np.float64]:
    """The middles (seconds) of stretches of 60 ms or more that are 25 dB below the loud tenth of a recording."""
    if not len(found):
        return np.zeros(0)
    turns = quiet_runs(found)
    long = turns[turns[:, 1] - turns[:, 0] >= _PAUSE]
    middles: npt.NDArray[np.float64] = long.mean(axis=1) * SECONDS
    return middles


def quiet_frames(found: Levels) -> npt.NDArray[np.bool_]:
    """Which frames are 25 dB below the loud tenth of a recording."""
    quiet: npt.NDArray[np.bool_] = found < np.quantile(found, 0.9) - _QUIET
    return quiet


def quiet_runs(found: Levels) -> npt.NDArray[np.int64]:
    """`[runs, 2]`: first frame, last without, of stretches 25 dB below the loud tenth of a recording."""
    quiet = np.concatenate([[False], quiet_frames(found), [False]])
    return np.flatnonzero(quiet[1:] != quiet[:-1]).reshape(-1, 2)


def long_pauses(found: Levels) -> npt.NDArray[np.float64]:
    """`[pauses, 2]`: starts and ends (seconds) of stretches that are too long and too quiet to be inside a word."""
    if not len(found):
        return np.zeros((0, 2))
    runs = quiet_runs(found)
    long: npt.NDArray[np.float64] = runs[runs[:, 1] - runs[:, 0] >= _BETWEEN].astype(np.float64) * SECONDS
    return long


def part(long: npt.NDArray[np.float64], first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    """The end of one word and the start of the one after it, each on its side of the longest pause in the two of them.

    A CTC model that knows sentences alone keeps the last word of one going until the next begins, and takes the
    beginning of that for it. Where there is no such pause, they stay.
    """
    inside = long[(long[:, 0] >= first[0] + _LEAST) & (long[:, 1] <= second[1] - _LEAST)]
    if not len(inside):
        return first[1], second[0]
    quiet, loud = inside[np.argmax(inside[:, 1] - inside[:, 0])].tolist()
    return min(first[1], quiet), max(second[0], loud)


def edges(found: Levels, start: float, end: float, earliest: float, latest: float) -> tuple[float, float]:
    """Move the edges of an utterance to where its sound begins and ends: within 40 dB of its own peak.

    `start` and `end` (seconds) come from an aligner, which is some frames off at pauses. Outwards an edge follows the
    sound as far as it goes on, within `earliest` and `latest` (the neighbours) and a second; inwards it passes silence.
    """
    earliest, latest = max(earliest, start - _REACH), min(latest, end + _REACH)
    first, last = round(start / SECONDS), max(round(start / SECONDS) + 1, round(end / SECONDS))
    low, high = max(0, round(earliest / SECONDS)), min(len(found), round(latest / SECONDS))
    if last > len(found) or not len(found[first:last]):
        return start, end
    inside = found[first:last]
    limit = max(float(inside.max()) - _RANGE, floor_near(found, first, last))
    loud = found >= limit
    while first > low and loud[first - 1]:
        first -= 1
    while last < high and loud[last]:
        last += 1
    spoken = np.flatnonzero(loud[first:last])
    if not len(spoken):
        return start, end
    return (first + int(spoken[0])) * SECONDS, (first + int(spoken[-1]) + 1) * SECONDS


def floor_near(found: Levels, first: int, last: int) -> float:
    """A level just over the background around an utterance; far under its speech in any case."""
    near = found[max(0, first - 100) : last + 100]
    return min(float(np.percentile(near, 5)) + 3.0, float(near.max()) - 15.0)
