"""The schedule: (index, seed) -> batches -> updates. Pure functions of numbers; no audio is touched.

The shards of an epoch are put in a seeded order and dealt into windows, windows to lanes. Within a window utterances
are sorted by length (with a little noise, so that batches differ from epoch to epoch), cut into batches under limits of
padded seconds and tokens, and the batches are shuffled (`alike` of them together: equal in shape). Batch numbers run on
through the epochs; update u takes the batches u*G ... u*G+G-1, and rank r of W those of them whose number i has i mod W
== r.

Planning an epoch counts the batches of its windows; what is in them is worked out when a window is come to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from speechmill.batching import Ints, Limits, cut_batches
from speechmill.errors import SpeechmillError
from speechmill.ordering import mix, permutation
from speechmill.settings import ScheduleSettings

_JITTER, _BATCHES, _SHARDS, _MIXING, _RUNS = 1, 2, 3, 4, 5  # keep the random numbers of the shuffles apart


class Part(NamedTuple):
    """The utterances of one shard folder among several: they end at position `end`, where the next folder's begin."""

    end: int
    weight: Fraction  # passes over this folder in an epoch


@dataclass(frozen=True)
class Utterances:
    """What the schedule knows of the utterances of a split: parallel arrays, in disk order."""

    rows: npt.NDArray[np.integer]  # of the index
    shard: npt.NDArray[np.integer]
    samples: npt.NDArray[np.integer]
    tokens: npt.NDArray[np.integer]  # target tokens; zeros where the token limit is off
    sample_rate: int
    parts: tuple[Part, ...] = ()  # where several folders are mixed
    # Where each shard's utterances begin, and the end.
    shard_starts: Ints = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.rows) == 0:
            raise SpeechmillError("there are no utterances to schedule; look at the split and the shards.")
        steps = np.diff(self.shard)
        if (steps < 0).any():
            raise ValueError("utterances are expected in disk order, shard by shard")
        bounds = np.array([0, *(np.flatnonzero(steps) + 1), len(self.rows)], dtype=np.int64)
        object.__setattr__(self, "shard_starts", bounds)


class Visits(NamedTuple):
    """Shards in the order in which an epoch reads them: parallel arrays. A mixed epoch may visit a shard twice."""

    shard: Ints  # number among the shards that have utterances, see `Utterances.shard_starts`
    turn: Ints  # of which pass over the shard's folder this is part

    def __len__(self) -> int:
        return len(self.shard)

    def take(self, places: Ints | slice) -> Visits:
        return Visits(self.shard[places], self.turn[places])


def visits(utterances: Utterances, seed: int, epoch: int) -> Visits:
    """The shards of an epoch, those of several folders spread evenly among one another.

    Each pass over a folder has an order of its own. An epoch goes on in a folder where the last one stopped, by
    `weight` passes, to whole shards: over the epochs every pass is complete and has nothing twice.
    """
    parts = utterances.parts or (Part(len(utterances.rows), Fraction(1)),)
    bounds = [0, *np.searchsorted(utterances.shard_starts, [part.end for part in parts]).tolist()]
    found, places = [], []
    for number, (part, (first, last)) in enumerate(zip(parts, pairwise(bounds), strict=True)):
        some = _visits_of_part(last - first, part.weight, (seed, number), epoch)
        found.append(Visits(some.shard + first, some.turn))
        chance = mix(np.arange(len(some)), seed, epoch, number, _MIXING) / 2.0**64
        places.append((np.arange(len(some)) + chance) / max(1, len(some)))
    order = np.argsort(np.concatenate(places), kind="stable")
    return Visits(*(np.concatenate(column)[order] for column in zip(*found, strict=True)))


def _visits_of_part(shards: int, weight: Fraction, key: tuple[int, int], epoch: int) -> Visits:
    """Shards are visited pass after pass without end; an epoch takes those between two places of that walk."""
    seed, number = key
    walk = np.arange(int(epoch * weight * shards), int((epoch + 1) * weight * shards))
    turn = walk // max(1, shards)
    keys = (number,) if number else ()  # a single folder has none
    orders = [permutation(shards, seed, int(which), *keys, _SHARDS) for which in np.unique(turn)]
    if not orders:
        return Visits(walk, turn)
    return Visits(np.stack(orders)[turn - turn[0], walk % shards], turn)


def is_ordered(settings: ScheduleSettings, epoch: int) -> bool:
    return settings.order != "random" and (settings.order_epochs == 0 or epoch < settings.order_epochs)


def windows(utterances: Utterances, settings: ScheduleSettings, epoch: int) -> list[Visits]:
    """The windows of an epoch; one where it is ordered."""
    shards = visits(utterances, settings.seed, epoch)
    size = max(1, len(shards)) if is_ordered(settings, epoch) else settings.window_shards
    return [shards.take(slice(start, start + size)) for start in range(0, len(shards), size)]


class Epoch:
    """The batches of one epoch, in their order; `window` has the window of each.

    `start`: the number of the first among the batches of all epochs; it matters where `alike` is more than 1.
    """

    def __init__(self, utterances: Utterances, settings: ScheduleSettings, epoch: int, start: int = 0) -> None:
        self.utterances, self.settings = utterances, settings
        self.ordered = is_ordered(settings, epoch)
        self.windows = windows(utterances, settings, epoch)
        self._kept: dict[int, Cut] = {}
        counts = [len(self._cut(number).starts) - 1 for number in range(len(self.windows))]
        self._first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        if not self.ordered:
            self._order = _order_of_batches(counts, settings, epoch, start)
        else:
            self._order = np.arange(sum(counts))[:: 1 if settings.order == "ascending" else -1]
        self.window = np.repeat(np.arange(len(counts)), counts)[self._order]

    def __len__(self) -> int:
        return len(self._order)

    def batch(self, k: int) -> Ints:
        """Positions in `Utterances`."""
        window = int(self.window[k])
        cut = self._cut(window)
        place = int(self._order[k] - self._first[window])
        return cut.members[cut.starts[place] : cut.starts[place + 1]]

    def shards(self, window: int) -> Ints:
        """The shards of a window, as numbered in `Utterances.shard`, in order."""
        starts = self.utterances.shard_starts[np.unique(self.windows[window].shard)]
        return self.utterances.shard[starts].astype(np.int64)

    @property
    def members(self) -> Ints:
        """All batches behind one another."""
        return np.concatenate([self.batch(k) for k in range(len(self))])

    def _cut(self, window: int) -> Cut:
        """The batches of a window, made in milliseconds; those used last are kept, one for each lane."""
        cut = self._kept.pop(window, None)
        if cut is None:
            make = _ascending if self.ordered else _shuffled
            cut = make(self.utterances, self.windows[window], self.settings)
            if len(self._kept) > self.settings.lanes:
                self._kept.pop(next(iter(self._kept)))
        self._kept[window] = cut
        return cut


class Cut(NamedTuple):
    """A window in batches, not in the epoch's order yet: batch j holds `members[starts[j]:starts[j + 1]]`."""

    members: Ints
    starts: Ints


def _ascending(utterances: Utterances, shards: Visits, settings: ScheduleSettings) -> Cut:
    members, _ = _members(utterances, shards)
    return _dealt(utterances, members[np.argsort(utterances.samples[members], kind="stable")], settings)


def _shuffled(utterances: Utterances, shards: Visits, settings: ScheduleSettings) -> Cut:
    """Utterances sorted by their length with some noise; those that must be apart in different batches."""
    members, turn = _members(utterances, shards)
    noise = np.empty(len(members))
    for which in np.unique(turn):
        now = turn == which
        noise[now] = mix(utterances.rows[members[now]], settings.seed, int(which), _JITTER) / 2.0**64 - 0.5
    length = utterances.samples[members] * (1.0 + settings.length_jitter * noise)
    side = members % settings.apart
    order = np.lexsort((length, side)) if settings.apart > 1 else np.argsort(length, kind="stable")
    members = members[order]
    bounds = np.searchsorted(side[order], np.arange(settings.apart + 1)).tolist()
    cuts = [_dealt(utterances, members[a:b], settings) for a, b in pairwise(bounds) if a < b]
    starts = [cut.starts[:-1] + a for cut, a in zip(cuts, _ends(cuts), strict=True)]
    return Cut(np.concatenate([cut.members for cut in cuts]), np.concatenate([*starts, [len(members)]]))


def _members(utterances: Utterances, shards: Visits) -> tuple[Ints, Ints]:
    """The positions of the utterances of some shards, in disk order, and the pass that each is part of."""
    shards = shards.take(np.lexsort((shards.turn, shards.shard)))
    starts, ends = utterances.shard_starts[shards.shard], utterances.shard_starts[shards.shard + 1]
    members = np.concatenate([np.arange(a, b) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)])
    return members, np.repeat(shards.turn, ends - starts)


def _ends(cuts: list[Cut]) -> list[int]:
    """How many utterances come before each."""
    return [0, *accumulate(len(cut.members) for cut in cuts[:-1])]


def _dealt(utterances: Utterances, members: Ints, settings: ScheduleSettings) -> Cut:
    """Batches of utterances that are sorted by length, `alike` at a time, dealt as cards are: neighbours go round.

    So the batches of a run have as many utterances each, the longest of them neighbours, and take equally long: a
    recurrent layer takes as much time for each step as for each utterance, so that equal sums would not do. Where they
    do not go up, the first run, of the shortest, has batches with one utterance less.
    """
    alike = settings.alike
    spare = -len(members) % alike  # places that the first round leaves empty
    rounds = np.maximum(np.arange(-spare, len(members), alike), 0)
    rate = utterances.sample_rate
    limits = Limits(int(settings.target_seconds * rate), int(settings.limit_seconds * rate), settings.max_tokens)
    longest, most = (
        np.maximum.reduceat(values[members].astype(np.int64), rounds)
        for values in (utterances.samples, utterances.tokens)
    )
    runs = cut_batches(longest, most, limits)
    place = np.arange(len(members)) + spare
    batch = np.repeat(np.arange(len(runs) - 1), np.diff(runs))[place // alike] * alike + place % alike
    order = np.argsort(batch, kind="stable")
    starts = np.flatnonzero(np.diff(batch[order], prepend=-1))
    return Cut(members[order], np.append(starts, len(members)))


def _order_of_batches(counts: list[int], settings: ScheduleSettings, epoch: int, start: int) -> Ints:
    """The batches (numbered window by window) in the epoch's order: shuffled within windows, dealt by lanes in turn."""
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    lanes = [np.empty(0, dtype=np.int64)]
    for lane in range(min(settings.lanes, len(counts))):
        windows = range(lane, len(counts), settings.lanes)
        shuffled = [
            first[w] + shuffled_in_runs(counts[w], start + int(first[w]), settings.alike, (settings.seed, epoch, w))
            for w in windows
        ]
        lanes.append(np.concatenate(shuffled))
    batches = np.concatenate(lanes)
    turn = np.concatenate([np.arange(len(lane)) for lane in lanes])
    # Stable: in each turn the lanes follow one another, and a lane that ran out leaves its turn to the others.
    return batches[np.argsort(turn, kind="stable")]


def shuffled_in_runs(count: int, start: int, alike: int, key: tuple[int, int, int]) -> Ints:
    """0 ... count-1 in a seeded order in which those stay together that come to places i*alike ... i*alike+alike-1.

    Within a run their order is seeded, too: no rank always has the longest.

    Args:
        start: the place of the first; before the first multiple of `alike`, and at the end, a run may be shorter.
    """
    bounds = np.unique(np.clip(np.arange(start - start % alike, start + count + alike, alike), start, start + count))
    sizes = np.diff(bounds)
    rank = permutation(len(sizes), *key, _BATCHES)
    by_rank = np.empty_like(sizes)
    by_rank[rank] = sizes
    firsts = (np.cumsum(by_rank) - by_rank)[rank]
    runs = np.repeat(np.arange(len(sizes)), sizes)
    within = np.lexsort((mix(np.arange(count), *key, _RUNS), runs))
    return np.repeat(firsts, sizes) + within - np.repeat(bounds[:-1] - start, sizes)


class Window(NamedTuple):
    epoch: int
    number: int  # in its epoch; its lane is number mod lanes


class Schedule:
    """Batches by number, over all epochs.

    Args:
        epoch_starts: batch numbers at which epochs start, as far as an earlier run knew them (a checkpoint has them):
            with these, any position is found without planning the epochs before it.
    """

    def __init__(
        self, utterances: Utterances, settings: ScheduleSettings, epoch_starts: list[int] | None = None
    ) -> None:
        self.utterances = utterances
        self.settings = settings
        self.epoch_starts = list(epoch_starts or [0])
        self._planned: dict[int, Epoch] = {}

    def batch(self, number: int) -> Ints:
        """The positions (in `utterances`) of batch `number`."""
        epoch, k = self.locate(number)
        return self._epoch(epoch).batch(k)

    def locate(self, number: int) -> tuple[int, int]:
        """Epoch of a batch, and its place in that epoch."""
        while number >= self.epoch_starts[-1]:
            epoch = len(self.epoch_starts) - 1
            self.epoch_starts.append(self.epoch_starts[-1] + len(self._epoch(epoch)))
        epoch = int(np.searchsorted(self.epoch_starts, number, side="right")) - 1
        return epoch, number - self.epoch_starts[epoch]

    def evenly(self, count: int) -> list[int]:
        """So many batch numbers, or all there are, evenly over the first epoch: its first may be its shortest."""
        self.locate(0)
        epoch = self.epoch_starts[1]
        return sorted(set(np.linspace(0, epoch - 1, min(count, epoch)).astype(int).tolist()))

    def window_of(self, number: int) -> Window | None:
        """The window of a batch; None in an ordered epoch, which is one."""
        epoch, k = self.locate(number)
        plan = self._epoch(epoch)
        return None if plan.ordered else Window(epoch, int(plan.window[k]))

    def window_after(self, window: Window) -> Window | None:
        """The window that a window's lane comes to next, in the next epoch where this one has no more."""
        after = Window(window.epoch, window.number + self.settings.lanes)
        if after.number >= len(self._windows(window.epoch)):
            after = Window(window.epoch + 1, window.number % self.settings.lanes)
        is_there = not is_ordered(self.settings, after.epoch) and after.number < len(self._windows(after.epoch))
        return after if is_there else None

    def shards_of(self, window: Window) -> list[int]:
        """The shards of a window, as numbered in `Utterances.shard`, in order."""
        starts = self.utterances.shard_starts[np.unique(self._windows(window.epoch)[window.number].shard)]
        found: list[int] = self.utterances.shard[starts].tolist()
        return found

    def _windows(self, epoch: int) -> list[Visits]:
        planned = self._planned.get(epoch)
        return planned.windows if planned else windows(self.utterances, self.settings, epoch)

    def batches_of_update(self, update: int) -> range:
        """Numbers of the batches that update `update` (from 0) takes."""
        per_update = self.settings.batches_per_update
        return range(update * per_update, (update + 1) * per_update)

    def batches_of_rank(self, update: int, rank: int, world: int) -> range:
        """Those of an update's batches that rank `rank` of `world` computes; none where there are more ranks."""
        batches = self.batches_of_update(update)
        return range(batches.start + (rank - batches.start) % world, batches.stop, world)

    def samples(self, number: int) -> tuple[int, int]:
        """Samples of audio in a batch, and the same with padding."""
        lengths = self.utterances.samples[self.batch(number)].astype(np.int64)
        return int(lengths.sum()), int(lengths.max()) * len(lengths)

    def _epoch(self, epoch: int) -> Epoch:
        if epoch not in self._planned:
            # Two are enough: the one in use and the next.
            self._planned = {key: value for key, value in self._planned.items() if key == epoch - 1}
            self._planned[epoch] = Epoch(self.utterances, self.settings, epoch, self.epoch_starts[epoch])
        return self._planned[epoch]


class Begun(NamedTuple):
    """A window that a process comes to."""

    shards: Sequence[int] = ()  # its own: they are needed now
    ahead: Sequence[list[int]] = ()  # the shards of each window that is to be brought near


class LookAhead:
    """Which windows a process is to have brought near when it comes to a batch: that batch's, and its lane's next.

    Each is told once, a window before it is read; the first of a lane, and that in which a run is resumed, when they
    are come to. Each process has its own: where ranks share a lane, none of them may have a window's first batch.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._come_to: set[Window] = set()
        self._told: set[Window] = set()

    def begun(self, number: int) -> Begun:
        """What begins with a batch; nothing where it is not the first of its window that this process comes to."""
        here = self._schedule.window_of(number)
        if here is None or here in self._come_to:
            return Begun()
        self._come_to.add(here)
        near = (here, self._schedule.window_after(here))
        new = [window for window in near if window is not None and window not in self._told]
        self._told.update(new)
        return Begun(self._schedule.shards_of(here), tuple(self._schedule.shards_of(window) for window in new))
