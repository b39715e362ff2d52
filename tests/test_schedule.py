from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechmill.batching import Ints, Limits, cut_batches
from speechmill.errors import SpeechmillError
from speechmill.ordering import permutation
from speechmill.schedule import Epoch, LookAhead, Part, Schedule, Utterances, Window, shuffled_in_runs, visits
from speechmill.settings import ScheduleSettings

RATE = 100  # Hz: small numbers read well


def utterances(seconds: list[float], shards: list[int] | None = None, tokens: list[int] | None = None) -> Utterances:
    count = len(seconds)
    return Utterances(
        rows=np.arange(count) + 1000,
        shard=np.array(shards if shards is not None else [0] * count),
        samples=np.array([max(1, round(second * RATE)) for second in seconds]),
        tokens=np.array(tokens if tokens is not None else [0] * count),
        sample_rate=RATE,
    )


def some(count: int = 200, shards: int = 12, seed: int = 0) -> Utterances:
    rng = np.random.default_rng(seed)
    return utterances(
        rng.uniform(0.5, 20, count).tolist(), np.sort(rng.integers(0, shards, count)).tolist(),
        rng.integers(1, 80, count).tolist(),
    )  # fmt: skip


def batches(epoch: Epoch) -> list[list[int]]:
    return [epoch.batch(k).tolist() for k in range(len(epoch))]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Utterances, ScheduleSettings]:
    count = draw(st.integers(1, 60))
    lengths = draw(st.lists(st.floats(0.01, 30), min_size=count, max_size=count))
    shards = sorted(draw(st.lists(st.integers(0, 9), min_size=count, max_size=count)))
    tokens = draw(st.lists(st.integers(0, 50), min_size=count, max_size=count))
    target = draw(st.floats(0.5, 60))
    lanes = draw(st.integers(1, 4))
    settings = ScheduleSettings(
        seed=draw(st.integers(0, 5)),
        target_seconds=target,
        limit_seconds=target + draw(st.floats(0, 30)),
        max_tokens=draw(st.sampled_from([0, 30, 200])),
        window_shards=draw(st.integers(1, 12)),
        length_jitter=draw(st.sampled_from([0.0, 0.01, 0.5, 1.0])),
        lanes=lanes,
        alike=draw(st.integers(1, 5)) if lanes == 1 else 1,
        order=draw(st.sampled_from(["random", "ascending", "descending"])),
        order_epochs=draw(st.integers(0, 2)),
    )
    return utterances(lengths, shards, tokens), settings


@given(cases(), st.integers(0, 3))
def test_each_utterance_is_in_one_batch_of_an_epoch_and_limits_hold(
    case: tuple[Utterances, ScheduleSettings], number: int
) -> None:
    known, settings = case
    epoch = Epoch(known, settings, number)
    assert sorted(epoch.members.tolist()) == list(range(len(known.rows)))
    for batch in batches(epoch):
        assert batch
        if len(batch) > 1:
            padded = known.samples[batch].max() * len(batch)
            assert padded <= int(settings.limit_seconds * RATE)
            assert not settings.max_tokens or known.tokens[batch].max() * len(batch) <= settings.max_tokens
    again = Epoch(known, settings, number)
    assert batches(again) == batches(epoch)


def slow_cut(known: Utterances, members: Ints, settings: ScheduleSettings) -> list[int]:
    """Take utterances in order while the padded batch stays below the target, then look at the rest."""

    def fits(part: list[int], seconds: float) -> bool:
        samples = max(int(known.samples[m]) for m in part) * len(part)
        tokens = max(int(known.tokens[m]) for m in part) * len(part)
        return samples <= int(seconds * known.sample_rate) and (
            not settings.max_tokens or tokens <= settings.max_tokens
        )

    parts: list[list[int]] = []
    for member in members.tolist():
        if parts and fits([*parts[-1], member], settings.target_seconds):
            parts[-1].append(member)
        else:
            parts.append([member])
    if len(parts) > 1 and fits(parts[-2] + parts[-1], settings.limit_seconds):
        parts[-2:] = [parts[-2] + parts[-1]]
    return [0, *np.cumsum([len(part) for part in parts]).tolist()]


@given(cases())
def test_the_fast_cutter_equals_the_slow_one(case: tuple[Utterances, ScheduleSettings]) -> None:
    known, settings = case
    for members in (np.argsort(known.samples, kind="stable"), np.arange(len(known.rows))):
        limits = Limits(int(settings.target_seconds * RATE), int(settings.limit_seconds * RATE), settings.max_tokens)
        starts = cut_batches(known.samples[members], known.tokens[members], limits)
        assert starts.tolist() == slow_cut(known, members, settings)


def test_an_utterance_over_the_limit_is_alone_in_its_batch() -> None:
    known = utterances([1, 1, 50, 1])
    settings = ScheduleSettings(target_seconds=4, limit_seconds=5, length_jitter=0)
    assert sorted(batches(Epoch(known, settings, 0)), key=len) == [[2], [0, 1, 3]]


def test_a_small_rest_joins_the_batch_before() -> None:
    settings = ScheduleSettings(target_seconds=4, limit_seconds=5, length_jitter=0, order="ascending")
    assert batches(Epoch(utterances([1] * 5), settings, 0)) == [[0, 1, 2, 3, 4]]
    assert batches(Epoch(utterances([1] * 6), settings, 0)) == [[0, 1, 2, 3], [4, 5]]


def test_without_utterances_there_is_one_clear_line() -> None:
    with pytest.raises(SpeechmillError, match="no utterances to schedule"):
        utterances([])


def longest(known: Utterances, epoch: Epoch) -> list[int]:
    return [int(known.samples[batch].max()) for batch in batches(epoch)]


@pytest.mark.parametrize("order_epochs", [0, 1, 2])
def test_batches_by_length_for_the_first_epochs_or_always(order_epochs: int) -> None:
    known = some()
    up = ScheduleSettings(target_seconds=40, limit_seconds=60, order="ascending", order_epochs=order_epochs)
    down = up.model_copy(update={"order": "descending"})
    for number in range(4):
        rising, falling = Epoch(known, up, number), Epoch(known, down, number)
        ordered = order_epochs == 0 or number < order_epochs
        assert (longest(known, rising) == sorted(longest(known, rising))) is ordered
        assert (longest(known, falling) == sorted(longest(known, falling), reverse=True)) is ordered
        if ordered:
            assert batches(falling) == batches(rising)[::-1]


def test_epochs_and_seeds_differ() -> None:
    known = some()
    settings = ScheduleSettings(target_seconds=40, limit_seconds=60, window_shards=3)
    members = {
        tuple(Epoch(known, settings.model_copy(update={"seed": seed}), number).members)
        for seed in range(2)
        for number in range(3)
    }
    assert len(members) == 6


def test_jitter_mixes_batches_anew_and_none_keeps_them() -> None:
    known = some(shards=1)
    for jitter, same in ((0.0, True), (0.2, False)):
        settings = ScheduleSettings(target_seconds=40, limit_seconds=60, length_jitter=jitter)
        sets = [{frozenset(batch) for batch in batches(Epoch(known, settings, number))} for number in range(2)]
        assert (sets[0] == sets[1]) is same


def shards_of(known: Utterances, batch: list[int]) -> set[int]:
    return set(known.shard[batch].tolist())


def test_a_batch_lies_in_one_window_and_windows_follow_one_another() -> None:
    known = some(400, shards=12)
    settings = ScheduleSettings(target_seconds=40, limit_seconds=60, window_shards=3)
    seen: list[set[int]] = []
    for batch in batches(Epoch(known, settings, 0)):
        here = shards_of(known, batch)
        if seen and here & seen[-1]:
            seen[-1] |= here
        else:
            seen.append(here)
    assert [len(window) for window in seen] == [3, 3, 3, 3]
    assert set.union(*seen) == set(range(12))


def test_batch_i_comes_from_lane_i_mod_l_while_lanes_last() -> None:
    known = some(600, shards=12)
    one = ScheduleSettings(target_seconds=40, limit_seconds=60, window_shards=2)
    lanes = 3
    order = batches(Epoch(known, one, 0))
    windows: list[set[int]] = []  # as the single lane walks through them
    for batch in order:
        here = shards_of(known, batch)
        if not windows or not here & windows[-1]:
            windows.append(set())
        windows[-1] |= here
    lane_of_shard = {shard: number % lanes for number, window in enumerate(windows) for shard in window}
    epoch = batches(Epoch(known, one.model_copy(update={"lanes": lanes}), 0))
    lane = [lane_of_shard[min(shards_of(known, batch))] for batch in epoch]
    shortest = min(lane.count(k) for k in range(lanes))
    assert lane[: lanes * shortest] == [i % lanes for i in range(lanes * shortest)]
    assert {frozenset(batch) for batch in epoch} == {frozenset(batch) for batch in order}
    # Each lane by itself is a subsequence of the order with one lane: its windows are read in turn.
    for k in range(lanes):
        alone = [batch for batch in order if lane_of_shard[min(shards_of(known, batch))] == k]
        assert [batch for batch, of in zip(epoch, lane, strict=True) if of == k] == alone


def test_more_lanes_than_windows_is_no_error() -> None:
    known = some(50, shards=2)
    settings = ScheduleSettings(target_seconds=40, limit_seconds=60, window_shards=8, lanes=5)
    assert sorted(Epoch(known, settings, 0).members.tolist()) == list(range(50))


@given(cases(), st.integers(1, 30))
def test_numbers_run_on_through_the_epochs_and_any_start_gives_the_same(
    case: tuple[Utterances, ScheduleSettings], start: int
) -> None:
    known, settings = case
    whole = Schedule(known, settings)
    expected = [whole.batch(number).tolist() for number in range(start + 10)]
    direct = Schedule(known, settings)
    assert direct.batch(start).tolist() == expected[start]
    resumed = Schedule(known, settings, whole.epoch_starts)
    assert [resumed.batch(number).tolist() for number in range(start, start + 10)] == expected[start:]
    assert resumed.epoch_starts == whole.epoch_starts
    assert direct.batch(0).tolist() == expected[0]  # and back again


def test_locate_finds_epoch_and_place() -> None:
    known = some()
    settings = ScheduleSettings(target_seconds=40, limit_seconds=60, length_jitter=0.5)
    schedule = Schedule(known, settings)
    sizes = [len(Epoch(known, settings, number)) for number in range(3)]
    places = [(epoch, k) for epoch, size in enumerate(sizes) for k in range(size)]
    assert [schedule.locate(number) for number in range(sum(sizes))] == places
    assert [b - a for a, b in pairwise(schedule.epoch_starts)] == sizes


def test_updates_take_g_batches_each() -> None:
    schedule = Schedule(some(), ScheduleSettings(batches_per_update=4))
    assert [list(schedule.batches_of_update(u)) for u in (0, 1, 10)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [40, 41, 42, 43],
    ]


def test_samples_of_a_batch_with_and_without_padding() -> None:
    known = utterances([1, 2, 3])
    settings = ScheduleSettings(target_seconds=100, limit_seconds=100, order="ascending")
    assert Schedule(known, settings).samples(0) == (600, 900)


@given(st.integers(0, 40), st.integers(0, 30), st.integers(1, 9), st.integers(0, 5))
def test_runs_of_alike_places_hold_neighbours(count: int, start: int, alike: int, seed: int) -> None:
    order = shuffled_in_runs(count, start, alike, (seed, 1, 2))
    assert sorted(order.tolist()) == list(range(count))
    runs: dict[int, list[int]] = {}
    for place, one in enumerate(order.tolist(), start):
        runs.setdefault(place // alike, []).append(one)
    assert all(max(run) - min(run) == len(run) - 1 for run in runs.values())


def test_with_alike_one_the_order_is_what_it_was() -> None:
    for start in (0, 7):
        assert shuffled_in_runs(50, start, 1, (1, 2, 3)).tolist() == permutation(50, 1, 2, 3, 2).tolist()


def test_the_batches_of_an_update_are_alike_through_windows_and_epochs() -> None:
    known = some(600)
    # Of odd numbers of batches: updates reach over windows and epochs.
    settings = ScheduleSettings(target_seconds=20, limit_seconds=20, window_shards=3, batches_per_update=2)

    def spread(alike: int) -> float:
        schedule = Schedule(known, settings.model_copy(update={"alike": alike}))
        longest = [[known.samples[schedule.batch(number)].max() for number in schedule.batches_of_update(update)]
                   for update in range(300)]  # fmt: skip
        return float(np.mean([max(pair) - min(pair) for pair in longest]))

    assert len(Epoch(known, settings, 0)) % 2 or len(Epoch(known, settings, 1)) % 2
    assert spread(2) < spread(1) / 5


def test_batches_that_are_alike_hold_as_many_utterances_each() -> None:
    known = some(600)
    settings = ScheduleSettings(target_seconds=20, limit_seconds=20, window_shards=3, alike=4)
    schedule = Schedule(known, settings)
    uneven = 0
    for first in range(0, 400, 4):
        sizes = [len(schedule.batch(number)) for number in range(first, first + 4)]
        assert max(sizes) - min(sizes) <= 1
        uneven += max(sizes) > min(sizes)
    windows = sum(len(Epoch(known, settings, epoch).windows) for epoch in range(schedule.locate(399)[0] + 1))
    assert uneven <= windows  # the run of the shortest, where a window's utterances do not go up


def test_fewer_utterances_than_batches_that_should_be_alike() -> None:
    settings = ScheduleSettings(target_seconds=4, limit_seconds=4, length_jitter=0, alike=4)
    assert sorted(batches(Epoch(utterances([1, 2, 3]), settings, 0))) == [[0], [1], [2]]
    assert sorted(batches(Epoch(utterances([1, 2, 3, 3, 4]), settings, 0))) == [[0], [1], [2], [3], [4]]


def test_batches_of_several_lanes_cannot_be_alike() -> None:
    with pytest.raises(ValueError, match="alike 2 needs lanes 1"):
        ScheduleSettings(alike=2, lanes=4)


# These batches must never change: runs on disk were trained on them.
def test_golden_schedule() -> None:
    known = some(14, shards=4)
    settings = ScheduleSettings(
        seed=3, target_seconds=40, limit_seconds=50, window_shards=2, length_jitter=0.1, lanes=2
    )
    assert [batches(Epoch(known, settings, number)) for number in range(2)] == [
        [[8, 6, 0], [9], [7, 4], [11, 13], [3, 2, 1], [12, 10], [5]],
        [[11, 3, 13, 2, 1], [8, 6], [0, 4], [9, 5], [12], [7, 10]],
    ]


@pytest.mark.parametrize("start", [0, 7])
@pytest.mark.parametrize(("lanes", "world"), [(1, 1), (2, 1), (3, 1), (2, 2), (1, 2), (3, 2)])
def test_each_windows_shards_are_known_one_window_ahead(lanes: int, world: int, start: int) -> None:
    """Through the ends of epochs, from any batch on, by each of several ranks."""
    known = utterances([1] * 300, [k // 20 for k in range(300)])
    schedule = Schedule(known, ScheduleSettings(target_seconds=3, limit_seconds=4, window_shards=2, lanes=lanes))
    schedule.locate(10_000)
    for rank in range(world):
        ahead = LookAhead(schedule)
        told: list[set[int]] = []
        begun: dict[Window, bool] = {}  # whether its shards were told only when it began
        for number in range(start + rank, schedule.epoch_starts[3], world):
            window = schedule.window_of(number)
            assert window is not None
            now = [set(shards) for shards in ahead.begun(number).ahead]
            assert not (window in begun and now), "told when a window begins, and not again"
            told += now
            assert set(known.shard[schedule.batch(number)].tolist()) <= set().union(*told[-4 * lanes :])
            begun.setdefault(window, set(schedule.shards_of(window)) in now)
        late = sum(begun.values())
        # Alone, the first window of each lane; a rank may come to another lane where an epoch's length does not divide.
        assert late == lanes if world == 1 else late <= 2 * lanes
        assert len(told) <= len(begun) + 2 * lanes


def test_the_next_epochs_first_windows_are_told_in_the_last_of_this() -> None:
    known = utterances([1] * 60, [k // 4 for k in range(60)])
    schedule = Schedule(known, ScheduleSettings(target_seconds=3, limit_seconds=4, window_shards=2, lanes=3))
    after = {number: schedule.window_after(Window(0, number)) for number in range(8)}
    assert after == {
        0: (0, 3), 1: (0, 4), 2: (0, 5), 3: (0, 6), 4: (0, 7), 5: (1, 2), 6: (1, 0), 7: (1, 1)
    }  # fmt: skip
    few = Schedule(known, ScheduleSettings(window_shards=15, lanes=3))
    assert few.window_after(Window(0, 0)) == (1, 0)


def test_an_ordered_epoch_has_no_windows() -> None:
    known = utterances([1, 2, 3, 4] * 5, [k // 4 for k in range(20)])
    settings = ScheduleSettings(target_seconds=8, limit_seconds=8, order="ascending", order_epochs=1, window_shards=1)
    schedule = Schedule(known, settings)
    schedule.locate(1000)
    ahead = LookAhead(schedule)
    first, second = schedule.epoch_starts[1:3]
    assert all(ahead.begun(number).ahead == () for number in range(first))
    assert len(ahead.begun(first).ahead) == 2, "its own window and the next"
    always = Schedule(known, settings.model_copy(update={"order_epochs": 0}))
    assert LookAhead(always).begun(second) == ((), ())


def adjacent_share(known: Utterances, epoch: Epoch, distance: int) -> float:
    number = np.empty(len(known.rows), dtype=np.int64)
    for k, batch in enumerate(batches(epoch)):
        number[batch] = k
    return float((number[distance:] == number[:-distance]).mean())


@pytest.mark.parametrize("apart", [2, 3])
def test_utterances_closer_than_asked_never_share_a_batch(apart: int) -> None:
    known = some(3000, shards=12)
    settings = ScheduleSettings(target_seconds=60, limit_seconds=80, window_shards=3, apart=apart)
    epoch = Epoch(known, settings, 0)
    assert sorted(epoch.members.tolist()) == list(range(3000))
    assert [adjacent_share(known, epoch, distance) > 0 for distance in range(1, apart + 1)] == [False] * (apart - 1) + [
        True
    ]
    assert adjacent_share(known, Epoch(known, settings.model_copy(update={"apart": 1}), 0), 1) > 0


def log_normal(count: int, shard_utterances: int) -> Utterances:
    seconds = np.clip(np.exp(np.random.default_rng(0).normal(np.log(6), 0.8, count)), 1, 60)
    return utterances(seconds.tolist(), (np.arange(count) // shard_utterances).tolist())


def test_padding_is_below_a_hundredth_with_the_limits_of_the_thesis() -> None:
    known = log_normal(30_000, 440)  # shards of an hour
    epoch = Epoch(known, ScheduleSettings(window_shards=64, apart=2), 0)
    padded = [int(known.samples[batch].max()) * len(batch) for batch in batches(epoch)]
    assert 1 - known.samples.sum() / sum(padded) < 0.01
    assert max(padded) <= 240 * RATE


def mixed(sizes: list[int], weights: list[str]) -> Utterances:
    """Folders of so many shards, of two utterances each."""
    ends = np.cumsum(sizes) * 2
    count = int(ends[-1])
    parts = tuple(Part(int(end), Fraction(weight)) for end, weight in zip(ends, weights, strict=True))
    ones = np.full(count, RATE)
    return Utterances(np.arange(count), np.arange(count) // 2, ones, np.zeros(count, np.int64), RATE, parts)


@pytest.mark.parametrize("weights", [["1", "1"], ["1", "1/2"], ["3", "2/7"], ["0.3", "1.7"]])
def test_every_pass_over_a_folder_is_complete_and_has_nothing_twice(weights: list[str]) -> None:
    sizes = [5, 8]
    known = mixed(sizes, weights)
    walks: list[list[int]] = [[], []]
    for epoch in range(20):
        shards = visits(known, 0, epoch)
        for folder, (first, last) in enumerate([(0, 5), (5, 13)]):
            inside = (shards.shard >= first) & (shards.shard < last)
            order = shards.take(np.flatnonzero(inside))
            assert (np.diff(order.turn) >= 0).all()
            walks[folder] += order.shard.tolist()
    for folder, (first, size) in enumerate([(0, 5), (5, 8)]):
        walk = walks[folder]
        assert len(walk) == int(20 * Fraction(weights[folder]) * size)
        turns = [walk[k : k + size] for k in range(0, len(walk) - size + 1, size)]
        assert turns
        assert all(sorted(turn) == list(range(first, first + size)) for turn in turns)
        assert len(turns) < 3 or len({tuple(turn) for turn in turns}) > 1


def test_folders_are_spread_over_the_epoch() -> None:
    shards = visits(mixed([20, 200], ["1", "1"]), 0, 0).shard
    places = np.flatnonzero(shards < 20)
    assert [int(((places >= k) & (places < k + 55)).sum()) for k in range(0, 220, 55)] == pytest.approx([5] * 4, abs=1)


def test_an_epoch_may_pass_a_small_folder_by() -> None:
    known = mixed([1, 1], ["1/4", "1/4"])
    schedule = Schedule(known, ScheduleSettings(target_seconds=1, limit_seconds=1))
    numbers = [schedule.locate(number) for number in range(6)]
    assert [epoch for epoch, _ in numbers] == [3, 3, 3, 3, 7, 7]
    resumed = Schedule(known, ScheduleSettings(target_seconds=1, limit_seconds=1), schedule.epoch_starts)
    assert [resumed.batch(number).tolist() for number in range(4, 8)] == [
        schedule.batch(number).tolist() for number in range(4, 8)
    ]


@given(cases(), st.integers(0, 2), st.integers(1, 59))
def test_a_folder_alone_with_weight_one_is_as_no_mixture(
    case: tuple[Utterances, ScheduleSettings], number: int, cut: int
) -> None:
    known, settings = case
    one = replace(known, parts=(Part(len(known.rows), Fraction(1)),))
    assert batches(Epoch(one, settings, number)) == batches(Epoch(known, settings, number))
    ends = [end for end in known.shard_starts[1:-1].tolist() if end >= cut][:1]
    if ends:
        two = replace(known, parts=(Part(ends[0], Fraction(1)), Part(len(known.rows), Fraction(2))))
        seen = np.bincount(Epoch(two, settings, number).members, minlength=len(known.rows))
        assert (seen == np.where(np.arange(len(known.rows)) < ends[0], 1, 2)).all()


def test_utterances_out_of_the_order_of_the_disk_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="disk order"):
        utterances([1, 1], [1, 0])
