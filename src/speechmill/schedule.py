"""The schedule: (index, seed) -> batches -> updates. Pure functions of numbers; no audio is touched.

Shards are permuted by seed and epoch and dealt into windows, windows to lanes. Within a window utterances are sorted by
length (with a little noise, so that batches differ from epoch to epoch), cut into batches under a padded-seconds limit,
and the batches are shuffled. Batch numbers run on through the epochs; update u takes the batches u*G ... u*G+G-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from speechmill.errors import SpeechmillError
from speechmill.ordering import mix, permutation
from speechmill.settings import ScheduleSettings

Ints = npt.NDArray[np.int64]

_JITTER, _BATCHES, _SHARDS = 1, 2, 3  # keep the random numbers of the three shuffles apart


@dataclass(frozen=True)
class Utterances:
    """What the schedule knows of the utterances of a split: parallel arrays, in disk order."""

    rows: Ints  # of the index
    shard: Ints
    samples: Ints
    tokens: Ints  # target tokens; zeros where the token limit is off
    sample_rate: int

    def __post_init__(self) -> None:
        if len(self.rows) == 0:
            raise SpeechmillError("there are no utterances to schedule; look at the split and the shards.")


@dataclass(frozen=True)
class Epoch:
    """The batches of one epoch: batch k holds `members[starts[k]:starts[k + 1]]`, positions in `Utterances`."""

    members: Ints
    starts: Ints
    window: Ints  # of each batch

    def __len__(self) -> int:
        return len(self.starts) - 1

    def batch(self, k: int) -> Ints:
        return self.members[self.starts[k] : self.starts[k + 1]]


def plan_epoch(utterances: Utterances, settings: ScheduleSettings, epoch: int) -> Epoch:
    """The batches of one epoch, in their order."""
    ordered = settings.order != "random" and (settings.order_epochs == 0 or epoch < settings.order_epochs)
    if ordered:
        members = np.argsort(utterances.samples, kind="stable")
        starts = _cut(utterances, members, settings)
        epoch_batches = np.arange(len(starts) - 1)
        order = epoch_batches if settings.order == "ascending" else epoch_batches[::-1]
        return _arrange(members, starts, np.zeros_like(epoch_batches), order)
    window = _window_of_each(utterances, settings, epoch)
    noise = mix(utterances.rows, settings.seed, epoch, _JITTER) / 2.0**64 - 0.5
    length = utterances.samples * (1.0 + settings.length_jitter * noise)
    members = np.lexsort((length, window))
    bounds = np.searchsorted(window[members], np.arange(window.max() + 2))
    pieces = [_cut(utterances, members[a:b], settings) + a for a, b in pairwise(bounds)]
    starts = np.concatenate([*(piece[:-1] for piece in pieces), [len(members)]]).astype(np.int64)
    counts = [len(piece) - 1 for piece in pieces]
    windows = np.repeat(np.arange(len(counts)), counts)
    return _arrange(members, starts, windows, _order_of_batches(counts, settings, epoch))


def _window_of_each(utterances: Utterances, settings: ScheduleSettings, epoch: int) -> Ints:
    shards, which = np.unique(utterances.shard, return_inverse=True)
    place = np.empty(len(shards), dtype=np.int64)
    place[permutation(len(shards), settings.seed, epoch, _SHARDS)] = np.arange(len(shards))
    return (place // settings.window_shards)[which]


def _cut(utterances: Utterances, members: Ints, settings: ScheduleSettings) -> Ints:
    """Where batches start (and the end) when `members` are taken in order until the padded batch is full.

    A last batch that is a small rest joins the one before where the hard limit allows it.
    """
    samples, tokens = utterances.samples[members], utterances.tokens[members]
    target = int(settings.target_seconds * utterances.sample_rate)
    starts = [0]
    while starts[-1] < len(members):
        starts.append(starts[-1] + _fitting(samples, tokens, starts[-1], target, settings.max_tokens))
    if len(starts) > 2:
        before = starts[-3]
        limit = int(settings.limit_seconds * utterances.sample_rate)
        if before + _fitting(samples, tokens, before, limit, settings.max_tokens) >= len(members):
            del starts[-2]
    return np.array(starts, dtype=np.int64)


def _fitting(samples: Ints, tokens: Ints, start: int, limit: int, max_tokens: int) -> int:
    """How many utterances from `start` on make the largest batch within the limits; at least one.

    An utterance that is longer than the limit by itself is a batch by itself: it is never waited for.
    """
    most = limit // max(1, int(samples[start])) * 2 + 2  # lengths ascend but for the noise, so more cannot fit
    while True:
        end = min(len(samples), start + most)
        count = np.arange(1, end - start + 1)
        fits = np.maximum.accumulate(samples[start:end]) * count <= limit
        if max_tokens:
            fits &= np.maximum.accumulate(tokens[start:end]) * count <= max_tokens
        fitting = len(fits) if fits.all() else int(np.argmin(fits))
        if fitting < len(fits) or end == len(samples):
            return max(1, fitting)
        most *= 2


def _order_of_batches(counts: list[int], settings: ScheduleSettings, epoch: int) -> Ints:
    """The batches (numbered window by window) in the epoch's order: shuffled within windows, dealt by lanes in turn."""
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    lanes = []
    for lane in range(min(settings.lanes, len(counts))):
        windows = range(lane, len(counts), settings.lanes)
        shuffled = [first[w] + permutation(counts[w], settings.seed, epoch, w, _BATCHES) for w in windows]
        lanes.append(np.concatenate(shuffled))
    batches = np.concatenate(lanes)
    turn = np.concatenate([np.arange(len(lane)) for lane in lanes])
    # Stable: in each turn the lanes follow one another, and a lane that ran out leaves its turn to the others.
    return batches[np.argsort(turn, kind="stable")]


def _arrange(members: Ints, starts: Ints, windows: Ints, order: Ints) -> Epoch:
    """Reorder batches."""
    sizes = np.diff(starts)[order]
    ends = np.cumsum(sizes)
    offset = np.repeat(starts[:-1][order] - (ends - sizes), sizes)
    starts = np.concatenate([[0], ends]).astype(np.int64)
    return Epoch(members[np.arange(len(members)) + offset], starts, windows[order])


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

    def shards_ahead(self, number: int) -> Ints:
        """The shards of its lane's next window of the epoch, where batch `number` is the first of a window; else none.

        That is when there is time to fetch them.
        """
        epoch, k = self.locate(number)
        plan = self._epoch(epoch)
        if plan.window[k] in plan.window[:k]:
            return np.empty(0, dtype=np.int64)
        inside = np.repeat(plan.window == plan.window[k] + self.settings.lanes, np.diff(plan.starts))
        return np.unique(self.utterances.shard[plan.members[inside]])

    def batches_of_update(self, update: int) -> range:
        """Numbers of the batches that update `update` (from 0) takes."""
        per_update = self.settings.batches_per_update
        return range(update * per_update, (update + 1) * per_update)

    def samples(self, number: int) -> tuple[int, int]:
        """Samples of audio in a batch, and the same with padding."""
        lengths = self.utterances.samples[self.batch(number)]
        return int(lengths.sum()), int(lengths.max()) * len(lengths)

    def _epoch(self, epoch: int) -> Epoch:
        if epoch not in self._planned:
            # Two are enough: the one in use and the next.
            self._planned = {key: value for key, value in self._planned.items() if key == epoch - 1}
            self._planned[epoch] = plan_epoch(self.utterances, self.settings, epoch)
        return self._planned[epoch]
