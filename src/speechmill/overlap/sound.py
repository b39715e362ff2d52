"""Which recordings of two manifests hold the same sound, how much of it, and which utterances lie there.

Every step's 32 bits of the shorter side go into one sorted table. Each recording of the other side is fingerprinted
once and looked up: equal bits vote for a pair of recordings and a shift between them, and the shifts with the most
votes are checked bit by bit. So a clip is found in the recording of hours that it was cut from. Memory is that of the
shorter side's fingerprints, about 550 bytes a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from speechmill.audio import decode
from speechmill.errors import SpeechmillError
from speechmill.overlap.fingerprint import HOP, RATE, SECONDS, Fingerprint, disagreement, fingerprint_of
from speechmill.progress import track
from speechmill.workers import cores

PAIRS: dict[str, pl.DataType] = {
    "a": pl.String(),  # id of an utterance of A
    "b": pl.String(),  # id of an utterance of B
    "similarity": pl.Float64(),  # 1 - the share of bits that differ
    "seconds": pl.Float64(),  # of the sound that both hold
}
RECORDINGS: dict[str, pl.DataType] = {
    "a": pl.String(),  # recording of A
    "b": pl.String(),  # recording of B
    "seconds": pl.Float64(),  # of the same sound, whether or not utterances lie there
}
_MOST_DIFFER = 0.3  # of the bits; equal sound through a poor codec has 0.1, other sound 0.5
_SMOOTHED = 25  # steps over which that is averaged: 0.8 s
_LEAST = 25  # steps of equal sound; what is shorter proves nothing
_VOTES = 2  # for a shift to be looked at
_SHIFTS = 400  # looked at for a recording, those with the most votes first
_COMMON = 64  # places of the same bits; where there are more (a tone, a line's hum) they say nothing
_SHARE = 0.5  # of the shorter of two utterances, or of two recordings, that must be the same sound
_ENOUGH = 5.0  # seconds; of two recordings as much is enough. A jingle that many calls begin with is shorter


@dataclass(frozen=True)
class _Table:
    """The fingerprints of one side, end to end."""

    names: list[str]
    numbers: dict[str, int]  # of each name
    begins: npt.NDArray[np.int64]  # [recordings + 1] first step of each
    bits: npt.NDArray[np.uint32]  # [steps]
    heard: npt.NDArray[np.bool_]  # [steps]
    hashes: npt.NDArray[np.uint32]  # sorted bits of the steps that are heard
    places: npt.NDArray[np.int64]  # and their steps


@dataclass(frozen=True)
class Match:
    """A stretch of the same sound: steps of the recording `left` and the shift to those of `right`."""

    left: str
    right: str
    shift: float  # seconds: what is at t in `left` is at t + shift in `right`
    same: npt.NDArray[np.bool_]  # [steps of left]
    differ: float  # mean share of bits that differ there


@dataclass(frozen=True)
class Heard:
    """Sound that two manifests have in common."""

    pairs: pl.DataFrame  # PAIRS
    recordings: pl.DataFrame  # RECORDINGS
    not_compared: list[str]  # a line for each recording that cannot be read


def same_sound(a: pl.DataFrame, b: pl.DataFrame) -> Heard:
    """Which utterances (rows) and recordings of two manifests have the same sound."""
    lengths = [float(table.group_by("recording").agg(pl.col("end").max())["end"].sum()) for table in (a, b)]
    turned = lengths[0] > lengths[1]
    left, right = (b, a) if turned else (a, b)
    table, failures = _table(left["recording"].unique(maintain_order=True).to_list())
    rows_left, rows_right = _spans(left), _spans(right)
    pairs: list[tuple[str, str, float, float]] = []
    recordings: list[tuple[str, str, float]] = []
    for name, prints in _fingerprints(
        right["recording"].unique(maintain_order=True).to_list(), "B" if not turned else "A"
    ):
        if isinstance(prints, str):
            failures.append(prints)
            continue
        matches = list(_matches(table, name, prints))
        recordings += _recordings(matches, len(prints[0]))
        for match in matches:
            pairs += _utterances(match, rows_left[match.left], rows_right[name])
    found = pl.DataFrame(pairs, schema=PAIRS, orient="row")
    held = pl.DataFrame(recordings, schema=RECORDINGS, orient="row")
    if turned:
        found, held = (table.rename({"a": "b", "b": "a"}).select(*table.columns) for table in (found, held))
    best = found.sort("seconds", descending=True).unique(["a", "b"], keep="first", maintain_order=True)
    return Heard(best.sort("a", "b"), held.sort("a", "b"), failures)


def _table(names: list[str]) -> tuple[_Table, list[str]]:
    kept, failures, bits, heard = [], [], [np.zeros(0, np.uint32)], [np.zeros(0, np.bool_)]
    for name, prints in _fingerprints(names, "the shorter side"):
        if isinstance(prints, str):
            failures.append(prints)
            continue
        kept.append(name)
        bits.append(prints[0].bits)
        heard.append(prints[0].heard)
    begins = np.cumsum([len(part) for part in bits], dtype=np.int64)
    all_bits, all_heard = np.concatenate(bits), np.concatenate(heard)
    places = np.flatnonzero(all_heard)
    order = np.argsort(all_bits[places], kind="stable")
    numbers = {name: number for number, name in enumerate(kept)}
    return _Table(kept, numbers, begins, all_bits, all_heard, all_bits[places][order], places[order]), failures


def _fingerprints(names: list[str], side: str) -> Iterator[tuple[str, tuple[Fingerprint, Fingerprint] | str]]:
    """Of each recording: its fingerprint, and that of the same half a step later; or why there is none."""

    def read(name: str) -> tuple[str, tuple[Fingerprint, Fingerprint] | str]:
        try:
            samples = decode(Path(name), RATE)
        except SpeechmillError as error:
            return name, str(error)
        return name, (fingerprint_of(samples), fingerprint_of(samples[HOP // 2 :]))

    def some_at_a_time(pool: ThreadPoolExecutor) -> Iterator[tuple[str, tuple[Fingerprint, Fingerprint] | str]]:
        left = iter(names)
        while part := list(islice(left, 64)):  # `map` alone would decode ahead of its reader without end
            yield from pool.map(read, part)

    with ThreadPoolExecutor(cores()) as pool:
        yield from track(some_at_a_time(pool), f"fingerprints of {side}", len(names), "recordings")


def _matches(table: _Table, name: str, prints: tuple[Fingerprint, Fingerprint]) -> Iterator[Match]:
    """Where the recordings of the table sound like this one."""
    found: dict[tuple[int, int], tuple[int, Match]] = {}
    if (number := table.numbers.get(name)) is not None:  # the same file, be it silence
        steps = int(table.begins[number + 1] - table.begins[number])
        found[number, 0] = steps, Match(name, name, 0.0, np.ones(steps, np.bool_), 0.0)
    for half, print_ in enumerate(prints):
        for recording, shift in _shifts(table, print_):
            match = _checked(table, recording, shift, (table.names[recording], name), print_, half * SECONDS / 2)
            if match is None:
                continue
            # The same stretch may be found at neighbouring shifts and in both halves: the best of them counts.
            key, size = (recording, round(shift / 4)), int(match.same.sum())
            if key not in found or (size, -match.differ) > (found[key][0], -found[key][1].differ):
                found[key] = (size, match)
    for _, match in found.values():
        yield match


def _shifts(table: _Table, print_: Fingerprint) -> list[tuple[int, int]]:
    """(recording, steps from its time to this one's) with the most equal bits."""
    steps = np.flatnonzero(print_.heard)
    hashes = print_.bits[steps]
    low = np.searchsorted(table.hashes, hashes, "left")
    count = np.searchsorted(table.hashes, hashes, "right") - low
    usable = (count > 0) & (count <= _COMMON)
    steps, low, count = steps[usable], low[usable], count[usable]
    if not len(steps):
        return []
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    places = table.places[np.repeat(low, count) + within]
    recordings = np.searchsorted(table.begins, places, "right") - 1
    shifts = np.repeat(steps, count) - (places - table.begins[recordings])
    keys = recordings << 32 | (shifts + (1 << 31))
    values, votes = np.unique(keys, return_counts=True)
    # A shift that lies between two steps has its votes at both.
    beside = np.where(np.diff(values, prepend=values[:1] - 9) == 1, np.r_[0, votes[:-1]], 0)
    chosen = np.flatnonzero(votes + beside >= _VOTES)
    best = chosen[np.argsort(-(votes + beside)[chosen], kind="stable")][:_SHIFTS]
    return [(int(values[k] >> 32), int((values[k] & 0xFFFFFFFF) - (1 << 31))) for k in best]


def _checked(
    table: _Table, recording: int, shift: int, names: tuple[str, str], print_: Fingerprint, late: float
) -> Match | None:
    """Compare all bits at a shift; None where too little is the same."""
    begin, end = int(table.begins[recording]), int(table.begins[recording + 1])
    first, last = max(0, -shift), min(end - begin, len(print_) - shift)
    if last - first < _LEAST:
        return None
    here, there = slice(begin + first, begin + last), slice(first + shift, last + shift)
    heard = (table.heard[here] & print_.heard[there]).astype(np.float32)
    differ = disagreement(table.bits[here], print_.bits[there]) * heard
    window = np.ones(min(_SMOOTHED, last - first), np.float32)
    around = np.convolve(heard, window, "same")
    mean = np.convolve(differ, window, "same") / np.maximum(around, 1.0)
    same = (mean < _MOST_DIFFER) & (around >= _SMOOTHED / 4)
    compared = heard[same].sum()
    if compared < _LEAST:
        return None
    whole = np.zeros(end - begin, np.bool_)
    whole[first:last] = same
    return Match(*names, shift * SECONDS + late, whole, float(differ[same].sum() / compared))


def _recordings(matches: list[Match], steps: int) -> Iterator[tuple[str, str, float]]:
    """Of a recording of so many steps and each of the others: (left, right, seconds), where it is enough to tell."""
    grouped: dict[tuple[str, str], list[Match]] = {}
    for match in matches:
        grouped.setdefault((match.left, match.right), []).append(match)
    for (left, right), found in grouped.items():
        seconds = max(match.same.sum() for match in found) * SECONDS
        if left == right or seconds >= min(_ENOUGH, _SHARE * SECONDS * min(len(found[0].same), steps)):
            together = np.logical_or.reduce([match.same for match in found])
            yield left, right, round(float(together.sum() * SECONDS), 2)


@dataclass(frozen=True)
class _Spans:
    """The utterances of a recording, by their starts."""

    ids: list[str]
    starts: npt.NDArray[np.float64]  # seconds
    ends: npt.NDArray[np.float64]


def _spans(table: pl.DataFrame) -> dict[str, _Spans]:
    grouped = table.sort("start").group_by("recording", maintain_order=True).agg("id", "start", "end")
    return {
        recording: _Spans(ids, np.array(starts), np.array(ends)) for recording, ids, starts, ends in grouped.iter_rows()
    }


def _utterances(match: Match, left: _Spans, right: _Spans) -> Iterator[tuple[str, str, float, float]]:
    """Pairs of utterances in a match: (left, right, similarity, seconds)."""
    sums = np.concatenate([[0.0], np.cumsum(match.same) * SECONDS])  # seconds of equal sound up to a step
    longest = float((right.ends - right.starts).max())
    for place, name in enumerate(left.ids):
        start, end = left.starts[place], left.ends[place]
        if not _between(sums, start, end):
            continue
        first = int(np.searchsorted(right.starts, start + match.shift - longest, "left"))
        last = int(np.searchsorted(right.starts, end + match.shift, "right"))
        for other in range(first, last):
            low = max(start, right.starts[other] - match.shift)
            high = min(end, right.ends[other] - match.shift)
            seconds = min(_between(sums, low, high), high - low)
            shorter = min(end - start, right.ends[other] - right.starts[other])
            # A frame reaches over a quarter of a second: the last of a clip has no step of its own.
            if seconds > 0 and seconds >= _SHARE * max(shorter - 0.25, 0.25):
                yield name, right.ids[other], round(1 - match.differ, 4), round(float(seconds), 3)


def _between(sums: npt.NDArray[np.float64], start: float, end: float) -> float:
    last = len(sums) - 1
    low, high = (min(last, max(0, round(time / SECONDS))) for time in (start, end))
    return float(sums[high] - sums[low]) if high > low else 0.0
