"""A ledger of consumed ids: an epoch consumed by one process, and by ever other numbers of them, is the same epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from speechmill.loader import BatchDataset, batches, utterances_of
from speechmill.schedule import Epoch, Ints, Schedule, Utterances
from speechmill.settings import ScheduleSettings
from speechmill.shards.index import Index
from speechmill.shards.read import ShardReader
from speechmill.tokenizer import Tokenizer

RATE = 100  # Hz
WORLDS = (1, 4, 2, 8, 3)

Ledger = dict[int, list[int]]  # update -> ids consumed in it, sorted


def corpus(count: int = 1500, shards: int = 24, seed: int = 0) -> Utterances:
    rng = np.random.default_rng(seed)
    seconds = np.clip(np.exp(rng.normal(np.log(6), 0.8, count)), 1, 60)
    return Utterances(
        np.arange(count), np.sort(rng.integers(0, shards, count)), (seconds * RATE).astype(np.int64),
        rng.integers(1, 200, count), RATE,
    )  # fmt: skip


class Counting(Schedule):
    """Says which batches were asked of it: what is replayed would be asked for twice."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.asked: list[int] = []

    def batch(self, number: int) -> Ints:
        self.asked.append(number)
        return super().batch(number)


def consume(schedule: Schedule, updates: range, world: int) -> Ledger:
    """What `world` ranks consume, each by the schedule alone; a rank without a batch adds nothing."""
    ledger: Ledger = {}
    for update in updates:
        of_rank = [schedule.batches_of_rank(update, rank, world) for rank in range(world)]
        assert all(number % world == rank for rank, numbers in enumerate(of_rank) for number in numbers)
        ids = [int(row) for numbers in of_rank for number in numbers for row in schedule.batch(number)]
        ledger[update] = sorted(ids)
    return ledger


def moves(updates: int, seed: int) -> Iterator[tuple[range, int]]:
    """From one process to other numbers of them at random updates, and back, until all updates are done."""
    rng = np.random.default_rng(seed)
    start, turn = 0, 0
    while start < updates:
        end = min(updates, start + int(rng.integers(1, 30)))
        yield range(start, end), WORLDS[turn % len(WORLDS)]
        start, turn = end, turn + 1


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("per_update", "lanes", "alike"), [(1, 1, 1), (4, 1, 1), (4, 4, 1), (3, 2, 1), (8, 8, 1), (4, 1, 4), (3, 1, 2)]
)
def test_the_same_updates_for_every_number_of_processes(seed: int, per_update: int, lanes: int, alike: int) -> None:
    known = corpus(seed=seed)
    settings = ScheduleSettings(
        seed=seed, target_seconds=40, limit_seconds=60, max_tokens=2000, window_shards=2, lanes=lanes,
        batches_per_update=per_update, apart=2, alike=alike,
    )  # fmt: skip
    alone = Schedule(known, settings)
    alone.locate(0)
    alone.locate(alone.epoch_starts[1])
    updates = -(-alone.epoch_starts[2] // per_update)  # two epochs
    expected = consume(alone, range(updates), 1)
    starts = [0]
    moved: Ledger = {}
    asked = 0
    for part, world in moves(updates, seed):
        schedule = Counting(known, settings, starts)  # a new start, as after a checkpoint
        moved |= consume(schedule, part, world)
        starts = schedule.epoch_starts
        assert sorted(schedule.asked) == [n for update in part for n in alone.batches_of_update(update)]
        asked += len(schedule.asked)
    assert moved == expected
    assert asked == updates * per_update
    first, second = alone.epoch_starts[1:3]
    for epoch in (range(first), range(first, second)):
        seen = Counter(int(row) for number in epoch for row in alone.batch(number))
        assert seen == Counter(range(len(known.rows)))


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (2, 1), (3, 0), (4, 0)])
def test_loaders_of_all_ranks_together_give_each_utterance_once(
    world: int, workers: int, index: Index, tokenizer: Tokenizer
) -> None:
    settings = ScheduleSettings(target_seconds=6, limit_seconds=8, window_shards=2, batches_per_update=2)
    schedule = Schedule(utterances_of(index, "train", tokenizer), settings)
    schedule.locate(0)
    length = schedule.epoch_starts[1]
    updates = range(-(-length // 2))
    seen: Counter[str] = Counter()
    for rank in range(world):
        dataset = BatchDataset(index, Schedule(schedule.utterances, settings), tokenizer)
        numbers = [n for update in updates for n in schedule.batches_of_rank(update, rank, world) if n < length]
        for batch in batches(dataset, numbers, workers, pin=False):
            seen.update(batch.ids)
    assert seen == Counter(index.id(int(row)) for row in index.rows("train"))


@pytest.mark.parametrize(("workers", "lanes"), [(0, 1), (0, 4), (1, 2)])
def test_moved_between_numbers_of_processes_the_loaders_give_each_utterance_once(
    workers: int, lanes: int, index: Index, tokenizer: Tokenizer
) -> None:
    """An epoch by one process, then by ever other numbers of them from random updates on: the same updates."""
    settings = ScheduleSettings(
        target_seconds=2, limit_seconds=4, window_shards=1, batches_per_update=4, lanes=lanes, max_tokens=100
    )
    utterances = utterances_of(index, "train", tokenizer)

    def loaded(starts: list[int] | None, part: range, world: int) -> tuple[dict[int, Counter[str]], list[int]]:
        found: dict[int, Counter[str]] = {update: Counter() for update in part}
        for rank in range(world):
            dataset = BatchDataset(index, Schedule(utterances, settings, starts), tokenizer)
            numbers = [n for update in part for n in dataset.schedule.batches_of_rank(update, rank, world)]
            came = list(batches(dataset, numbers, workers, pin=False)) if numbers else []
            assert [batch.number for batch in came] == numbers
            for batch in came:
                found[batch.number // settings.batches_per_update].update(batch.ids)
        return found, dataset.schedule.epoch_starts

    whole = Schedule(utterances, settings)
    whole.locate(0)
    assert whole.epoch_starts[1] >= 20
    updates = whole.epoch_starts[1] // 4  # the rest of the epoch shares its update with the next
    expected, _ = loaded(None, range(updates), 1)
    moved: dict[int, Counter[str]] = {}
    starts: list[int] | None = None
    rng = np.random.default_rng(lanes)
    begin = 0
    for world in (1, 4, 2, 8, 3, 1):
        end = updates if world == 1 and begin else min(updates, begin + int(rng.integers(1, 3)))
        found, starts = loaded(starts, range(begin, end), world)
        moved |= found
        begin = end
    assert moved == expected
    seen = sum(moved.values(), Counter())
    last = [index.id(int(utterances.rows[place])) for n in range(4 * updates, whole.epoch_starts[1])
            for place in whole.batch(n)]  # fmt: skip
    assert seen + Counter(last) == Counter(index.id(int(row)) for row in index.rows("train"))


def test_a_rank_may_have_no_batch_in_an_update() -> None:
    schedule = Schedule(corpus(), ScheduleSettings(batches_per_update=2))
    held = [list(schedule.batches_of_rank(1, rank, 4)) for rank in range(4)]
    assert held == [[], [], [2], [3]]
    assert [list(schedule.batches_of_rank(0, rank, 4)) for rank in range(4)] == [[0], [1], [], []]
    assert [list(schedule.batches_of_rank(5, rank, 1)) for rank in range(1)] == [[10, 11]]


def test_fewer_shards_than_ranks_and_workers() -> None:
    known = corpus(400, shards=2)
    settings = ScheduleSettings(target_seconds=40, limit_seconds=60, lanes=8, window_shards=1, batches_per_update=8)
    ledger = consume(Schedule(known, settings), range(5), 8)
    assert ledger == consume(Schedule(known, settings), range(5), 1)
    assert all(ledger.values())


def lane_of_windows(epoch: Epoch, lanes: int) -> list[int]:
    """Of each batch, until the first lane runs out."""
    lane = epoch.window % lanes
    shortest = min(int((lane == number).sum()) for number in range(lanes))
    return [int(number) for number in lane[: shortest * lanes]]


@pytest.mark.parametrize(("lanes", "world"), [(4, 1), (4, 2), (4, 4), (8, 4)])
def test_where_the_ranks_divide_the_lanes_each_reads_its_own_shards_in_order(lanes: int, world: int) -> None:
    known = corpus(6000, shards=48)
    settings = ScheduleSettings(target_seconds=40, limit_seconds=60, window_shards=2, lanes=lanes)
    epoch = Epoch(known, settings, 0)
    both = lane_of_windows(epoch, lanes)
    assert both == [k % lanes for k in range(len(both))]
    touched: list[set[int]] = []
    for rank in range(world):
        windows = [int(epoch.window[k]) for k in range(rank, len(both), world)]
        per_lane = {lane: [w for w in windows if w % lanes == lane] for lane in range(lanes)}
        assert all(order == sorted(order) for order in per_lane.values())  # a window left is not come back to
        touched.append({int(s) for w in set(windows) for s in epoch.shards(w)})
    assert len(set.union(*touched)) == sum(len(shards) for shards in touched)  # no shard is read by two ranks


def test_a_lane_that_runs_out_leaves_its_turn_and_numbering_runs_on() -> None:
    known = corpus(3000, shards=15)
    settings = ScheduleSettings(target_seconds=40, limit_seconds=60, window_shards=2, lanes=3)  # 8 windows: 3, 3 and 2
    epoch = Epoch(known, settings, 0)
    lane = epoch.window % 3
    both = len(lane_of_windows(epoch, 3))
    rest = lane[both:].tolist()
    assert rest
    assert len(set(rest)) == 2
    while len(set(rest)) == 2:  # the two that are left take turns
        assert rest[0] != rest[1]
        rest = rest[2:]
    schedule = Schedule(known, settings)
    following = schedule.locate(len(epoch))
    assert following == (1, 0)
    assert schedule.batch(len(epoch)).tolist() == Epoch(known, settings, 1).batch(0).tolist()


@pytest.mark.parametrize("world", [1, 2])
def test_opens_and_seeks(world: int, index: Index, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a rank for each lane a shard is opened once, by one rank; the disk is asked for shards in the order in which
    they are come to, each before it is opened; and no read goes back to a window that was left."""
    settings = ScheduleSettings(target_seconds=4, limit_seconds=6, window_shards=1, lanes=world)
    happened: list[tuple[str, int]] = []
    true_file = ShardReader._file

    def noting(self: ShardReader, shard: int) -> int:
        if shard not in self._files:
            happened.append(("open", shard))
        happened.append(("read", shard))
        return true_file(self, shard)

    monkeypatch.setattr(ShardReader, "_file", noting)
    monkeypatch.setattr(
        ShardReader, "fetch_ahead", lambda _, shards, lanes: happened.extend(("ask", s) for s in shards * (lanes > 0))
    )
    utterances = utterances_of(index, "train", None)
    epoch = Epoch(utterances, settings, 0)
    until = len(lane_of_windows(epoch, world))
    by_rank = []
    for rank in range(world):
        happened.clear()
        dataset = BatchDataset(index, Schedule(utterances, settings), tokenizer)
        list(batches(dataset, range(rank, until, world), 0, pin=False))
        in_order = list(
            dict.fromkeys(int(s) for k in range(rank, until, world) for s in epoch.shards(int(epoch.window[k])))
        )
        opened = [shard for what, shard in happened if what == "open"]
        assert opened == in_order  # each once, window after window
        asked = [shard for what, shard in happened if what == "ask"]
        assert asked[: len(in_order)] == in_order
        for shard in opened:
            assert happened.index(("ask", shard)) < happened.index(("open", shard))
        places = [in_order.index(shard) for what, shard in happened if what == "read"]
        assert sum(b < a for a, b in pairwise(places)) == 0, "a read went back"
        by_rank.append(set(opened))
    assert len(set.union(*by_rank)) == sum(len(shards) for shards in by_rank)
    assert len(set.union(*by_rank)) > world
