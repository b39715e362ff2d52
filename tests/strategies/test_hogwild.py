"""Hogwild's parts in one process, and whole runs of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ranks import CPU, CRDNN, build, strategy_of, uneven

from speechmill.config import override_recipe
from speechmill.errors import SpeechmillError
from speechmill.losses import LossSum
from speechmill.metrics import read_metrics
from speechmill.settings import OptimSettings, Recipe, ScheduleSettings, TrainSettings
from speechmill.strategies import hogwild_worker
from speechmill.strategies.base import UpdateStats
from speechmill.strategies.hogwild import Hogwild, Listener
from speechmill.strategies.hogwild_worker import Task, Worker
from speechmill.strategies.shared import CEILING, DONE, LIMIT, NEXT, Counters, Shared
from speechmill.train.checkpoint import checkpoints, find_checkpoint, read_state
from speechmill.train.loop import train
from trained import assert_names_the_last_batches, tiny_recipe


def weights(run: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(find_checkpoint(run, "last") / "model.pt", weights_only=True)
    return loaded


def settings(**train_settings: Any) -> Recipe:
    return Recipe(
        model=CRDNN,
        schedule=ScheduleSettings(batches_per_update=2),
        optim=OptimSettings(lr=1e-2),
        train=TrainSettings(strategy="hogwild", updates=100, **train_settings),
    )


def worker(recipe: Recipe, shared: Shared, path: Path, rank: int = 0) -> Worker:
    task = Task(recipe, shared, str(path), "cpu", lambda *_: None, [0])
    return Worker(rank, task, Counters(str(path), recipe.train.processes))


def test_one_worker_is_single_bit_for_bit(tmp_path: Path) -> None:
    recipe = settings(processes=1)
    single = strategy_of(override_recipe(recipe, ["train.strategy=single"]))
    shared = Shared(build(recipe).train(), recipe)
    one = worker(recipe, shared, tmp_path / "counters")
    for number in range(6):
        batches = [uneven(batch) for batch in single.mine(number)]
        expected, found = single.update(batches, number), one.update(batches, number)
        assert found == expected
    for ours, theirs in zip(single.model.parameters(), shared.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_worker_reads_what_others_wrote_and_counts_it(tmp_path: Path) -> None:
    recipe = settings(processes=2)
    shared = Shared(build(recipe).train(), recipe)
    first, second = (worker(recipe, shared, tmp_path / "counters", rank) for rank in range(2))
    before = [parameter.detach().clone() for parameter in shared.model.parameters()]
    true_update, inside = first.step.update, []

    def update(*arguments: Any) -> Any:
        inside.append(second.update([uneven(2)], 1))  # between reading and writing
        return true_update(*arguments)

    first.step.update = update  # type: ignore[method-assign]
    assert first.update([uneven(1)], 0).staleness == 1
    assert inside[0].staleness == 0
    assert not all(torch.equal(a, b) for a, b in zip(before, shared.model.parameters(), strict=True))
    assert second.update([uneven(3)], 2).staleness == 0
    for ours, theirs in zip(second.replica.parameters(), first.model.parameters(), strict=True):
        assert ours.data_ptr() != theirs.data_ptr()


@pytest.mark.parametrize(("moments", "count"), [("own", 3), ("shared", 1)])
def test_moments_of_each_or_of_all(moments: str, count: int, tmp_path: Path) -> None:
    recipe = settings(processes=3, hogwild_moments=moments)
    shared = Shared(build(recipe).train(), recipe)
    assert len(shared.optimizers) == count
    worker(recipe, shared, tmp_path / "counters", rank=2).update([uneven(0)], 0)
    touched = [any(value["step"] > 0 for value in state.values()) for state in shared.states()]
    assert touched == [place == (2 if moments == "own" else 0) for place in range(count)]
    again = Shared(build(recipe).train(), recipe)
    again.load(shared.states())
    for ours, theirs in zip(again.states(), shared.states(), strict=True):
        for key, values in theirs.items():
            assert all(torch.equal(ours[key][name], value) for name, value in values.items())


def test_each_number_is_taken_once(tmp_path: Path) -> None:
    counters = Counters(str(tmp_path / "counters"), 1)
    with counters.locked() as values:
        values[CEILING] = 5
    assert [counters.take(0) for _ in range(7)] == [0, 1, 2, 3, 4, None, None]


@pytest.fixture(scope="module")
def recipe(shards: Path, tokenizer_path: Path) -> Recipe:
    return override_recipe(tiny_recipe(shards, tokenizer_path), ["train.strategy=hogwild"])


def test_a_run_with_one_process_is_single(recipe: Recipe, tmp_path: Path) -> None:
    train(override_recipe(recipe, ["train.strategy=single"]), tmp_path / "single")
    train(recipe, tmp_path / "hogwild")
    expected, found = weights(tmp_path / "single"), weights(tmp_path / "hogwild")
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert curve(tmp_path / "hogwild") == curve(tmp_path / "single")


def test_single_takes_up_what_one_process_left(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(strategy: Hogwild) -> None:
        while strategy.counters.read(DONE) < 6:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    single = override_recipe(recipe, ["train.strategy=single"])
    train(single, tmp_path / "single")
    with when_started(monkeypatch, ask):
        report = train(recipe, tmp_path / "run")
    assert not report.finished
    train(single, tmp_path / "run")
    expected, found = weights(tmp_path / "single"), weights(tmp_path / "run")
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def curve(run: Path) -> list[Any]:
    """Losses and validation errors of a run, in order of updates."""
    records = [record for record in read_metrics(run) if record["event"] in ("train", "valid")]
    return sorted((r["update"], r["event"], r.get("loss"), r.get("wer")) for r in records)


@contextmanager
def when_started(patched: pytest.MonkeyPatch, act: Any) -> Iterator[None]:
    """Call act(strategy) in a thread once the workers are there."""
    true_start = Hogwild.start

    def start(self: Hogwild) -> None:
        true_start(self)
        threading.Thread(target=act, args=(self,), daemon=True).start()

    with patched.context() as inner:
        inner.setattr(Hogwild, "start", start)
        yield


def until_done(strategy: Hogwild, updates: int) -> None:
    while strategy.counters.read(DONE) < updates:
        time.sleep(0.001)


def test_a_killed_process_is_struck_off_and_its_update_counted(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def kill(strategy: Hogwild) -> None:
        while strategy.counters.read(NEXT) < 4:
            time.sleep(0.001)
        strategy._workers[1][0].kill()

    # With a loader's workers it has taken numbers ahead; those that it had not begun are done by the other.
    ahead = ["train.loader_workers=1", "train.checkpoint_every=20", "train.validate_every=20"]
    two = override_recipe(recipe, ["train.processes=2", "train.updates=40", *ahead])
    with when_started(monkeypatch, kill):
        report = train(two, tmp_path / "run")
    assert report.finished
    assert "Hogwild process 1 has died (status -9); the rest go on" in capfd.readouterr().err
    state = read_state(checkpoints(tmp_path / "run")[-1])
    assert (state.update, state.lost) in [(40, 0), (40, 1)], "none where it was killed between two updates"
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())
    if not state.lost:
        train(override_recipe(two, ["train.strategy=single", "train.processes=1"]), tmp_path / "other")
        assert state.samples == read_state(checkpoints(tmp_path / "other")[-1]).samples, "each batch exactly once"


def test_what_is_due_before_the_first_update_sees_what_the_checkpoint_has(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with when_started(monkeypatch, lambda strategy: (until_done(strategy, 6), os.kill(os.getpid(), signal.SIGTERM))):
        done = train(recipe, run).updates
    expected, state = weights(run), read_state(checkpoints(run)[-1])
    with monkeypatch.context() as patched:
        patched.setattr("speechmill.train.signals.asked_to_stop", lambda: "SIGTERM")
        true_start, taken = Hogwild.start, []

        def start(self: Hogwild) -> None:
            true_start(self)
            time.sleep(0.2)  # as a long validation that is due would
            taken.append(self.counters.read(NEXT))

        patched.setattr(Hogwild, "start", start)
        assert train(recipe, run).updates == done
    assert taken == [done]
    assert all(torch.equal(weights(run)[name], value) for name, value in expected.items())
    # Where a validation is due it is given up, and the checkpoint is written again, a little later.
    assert replace(read_state(checkpoints(run)[-1]), seconds=state.seconds) == state


def test_what_a_dead_process_had_only_taken_goes_to_the_others() -> None:
    strategy = strategy_of(settings(processes=2))
    assert isinstance(strategy, Hogwild)
    ours, theirs = multiprocessing.Pipe()
    strategy._workers, strategy._dead = {0: (None, ours)}, {1}
    with strategy.counters.locked() as values:
        values[NEXT] = values[CEILING] = 6
    strategy.counters.begin(1, 3)
    strategy._finished, strategy._idle = {0, 1, 2}, {0: 6}
    strategy._make_up()
    assert theirs.recv() == [4, 5]
    assert [stats.lost for stats in strategy._waiting] == [1]
    assert not strategy._all_idle()
    strategy._workers = {}
    strategy.close()


@pytest.mark.parametrize("alone", [10, 12])
def test_one_makes_the_first_updates_and_all_begin_with_its_moments(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: int
) -> None:
    """Up to a checkpoint (12) and where the loop saves nothing (10)."""
    single = override_recipe(recipe, ["train.strategy=single", "train.log_every=1"])
    train(single, tmp_path / "single")
    given: list[list[dict[str, Any]]] = []
    true_load = Shared.load

    def load(self: Shared, states: list[dict[str, Any]]) -> None:
        true_load(self, states)
        given.append(self.states())

    monkeypatch.setattr(Shared, "load", load)
    two = override_recipe(recipe, ["train.processes=2", "train.log_every=1", f"train.hogwild_alone={alone}"])
    assert train(two, tmp_path / "run").finished

    def losses(run: Path) -> list[tuple[int, float]]:
        return [(one["update"], one["loss"]) for one in read_metrics(run) if one["event"] == "train"]

    expected, found = losses(tmp_path / "single"), losses(tmp_path / "run")
    assert sorted(update for update, _ in found) == [update for update, _ in expected]
    assert found[:alone] == expected[:alone]
    assert found[alone:] != expected[alone:]
    first, second = given[-1]
    assert {float(value["step"]) for value in first.values()} == {float(alone)}
    assert all(torch.equal(second[key][name], value) for key, one in first.items() for name, value in one.items())


def test_the_moments_that_one_has_made_alone_are_shared_where_all_are(recipe: Recipe, tmp_path: Path) -> None:
    single = override_recipe(recipe, ["train.strategy=single", "train.log_every=1"])
    train(single, tmp_path / "single")
    more = ["train.processes=2", "train.log_every=1", "train.hogwild_alone=10", "train.hogwild_moments=shared"]
    assert train(override_recipe(recipe, more), tmp_path / "run").finished
    expected, found = (
        [(one["update"], one["loss"]) for one in read_metrics(tmp_path / run) if one["event"] == "train"]
        for run in ("single", "run")
    )
    assert found[:10] == expected[:10]
    assert len(found) == len(expected)


@pytest.mark.parametrize("alone", [0, 30])
def test_a_run_goes_on_with_another_stage_alone(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: int
) -> None:
    every = ["train.updates=40", "train.checkpoint_every=40", "train.validate_every=40", "train.processes=2"]
    first = override_recipe(recipe, [*every, "train.hogwild_alone=20"])
    with when_started(monkeypatch, lambda strategy: (until_done(strategy, 6), os.kill(os.getpid(), signal.SIGTERM))):
        begun = train(first, tmp_path / "run")
    assert 6 <= begun.updates < 20
    assert train(override_recipe(first, [f"train.hogwild_alone={alone}"]), tmp_path / "run").finished
    state = read_state(checkpoints(tmp_path / "run")[-1])
    assert (state.update, state.lost) == (40, 0)


def test_where_the_one_who_was_alone_dies_another_goes_on(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def kill(strategy: Hogwild) -> None:
        until_done(strategy, 5)
        strategy._workers[0][0].kill()

    every = ["train.updates=40", "train.checkpoint_every=40", "train.validate_every=40", "train.hogwild_alone=30"]
    three = override_recipe(recipe, ["train.processes=3", *every])
    with when_started(monkeypatch, kill):
        assert train(three, tmp_path / "run").finished
    assert "Hogwild process 0 has died (status -9); the rest go on" in capfd.readouterr().err
    state = read_state(checkpoints(tmp_path / "run")[-1])
    assert (state.update, state.lost) in [(40, 0), (40, 1)], "none where it was killed between two updates"
    logged = [one for one in read_metrics(tmp_path / "run") if one["event"] == "train"]
    assert [one["staleness"] for one in logged if one["update"] <= 29] == [0.0] * len(
        [one for one in logged if one["update"] <= 29]
    ), "one at a time"
    assert max(one["communication"] for one in logged) <= 1.0


def test_who_is_alone_tells_that_the_others_stand_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = settings(processes=3, hogwild_alone=2)
    one = worker(recipe, Shared(build(recipe).train(), recipe), tmp_path / "counters")
    now = 0.0

    def loaded(_: object, numbers: Iterator[int], *__: object) -> Iterator[int]:
        nonlocal now
        for number in numbers:
            now += 0.25
            yield number

    def update(*_: object) -> UpdateStats:
        nonlocal now
        now += 3.0
        return UpdateStats()

    monkeypatch.setattr(hogwild_worker, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(hogwild_worker, "batches", loaded)
    monkeypatch.setattr(one, "update", update)
    told: list[UpdateStats] = []
    one.idle = 1.5  # it has stood at a ceiling before
    one.stretch(None, SimpleNamespace(send=lambda said: told.append(said[1][1])), iter([0, 1, 2]))  # type: ignore[arg-type]
    assert [stats.waited for stats in told] == [0.5] * 3
    assert [stats.communicated for stats in told] == [1.5 + 2 * 3.5, 2 * 3.5, 0.0], "of two others, who have waited"
    command = strategy_of(recipe)
    assert isinstance(command, Hogwild)
    command._begun, command._waiting = True, told[1:2]
    assert command.update([], 1).communicated == pytest.approx(2 / 3 * 3.5), "two thirds of the time of all"
    command.close()


def test_an_update_that_is_not_finite_is_skipped_by_its_process_alone(tmp_path: Path) -> None:
    recipe = settings(processes=2)
    shared = Shared(build(recipe).train(), recipe)
    first, second = (worker(recipe, shared, tmp_path / "counters", rank) for rank in range(2))
    before = [parameter.detach().clone() for parameter in shared.model.parameters()]
    true_loss = first.replica.loss

    def loss(*arguments: Any, **named: Any) -> LossSum:
        found = true_loss(*arguments, **named)
        return LossSum(found.sum * float("nan"), found.count)

    first.replica.loss = loss  # type: ignore[method-assign]
    stats = first.update([uneven(0)], 0)
    assert (stats.skipped, stats.tokens, stats.ids) == (1, 0, uneven(0).ids)
    assert all(torch.equal(a, b) for a, b in zip(before, shared.model.parameters(), strict=True))
    stats = second.update([uneven(1)], 1)
    assert (stats.skipped, stats.staleness) == (0, 0)
    assert all(parameter.isfinite().all() for parameter in shared.model.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(before, shared.model.parameters(), strict=True))


def test_too_many_in_a_row_stop_training_with_an_utterance_s_name(recipe: Recipe, tmp_path: Path) -> None:
    broken = override_recipe(recipe, ["optim.lr=1e30", "optim.clip_norm=0", "train.max_nonfinite=2"])
    with pytest.raises(SpeechmillError, match="2 updates in a row had a loss or gradient") as error:
        train(broken, tmp_path / "run")
    assert_names_the_last_batches(str(error.value), broken)


def test_asked_to_stop_while_one_is_alone_it_saves_and_goes_on_with_the_same_updates(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = ["train.updates=40", "train.checkpoint_every=40", "train.validate_every=40", "train.hogwild_alone=40"]
    two = override_recipe(recipe, ["train.processes=2", *every])
    with when_started(monkeypatch, lambda strategy: (until_done(strategy, 6), os.kill(os.getpid(), signal.SIGTERM))):
        report = train(two, tmp_path / "run")
    assert not report.finished
    assert 6 <= report.updates < 40
    assert train(two, tmp_path / "run").updates == 40
    train(override_recipe(two, ["train.strategy=single", "train.processes=1"]), tmp_path / "single")
    expected, found = weights(tmp_path / "single"), weights(tmp_path / "run")
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_time_at_the_ceiling_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = multiprocessing.Pipe()
    listener = Listener({0: ours})
    monkeypatch.setattr(listener, "_heard", {0: time.monotonic() - 1000.0})  # idle, while the command validated
    assert listener.silence()[0] > 900
    listener.expect()
    assert listener.silence()[0] < 60
    listener.close()


def test_memory_that_is_short_for_one_is_short_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = settings(processes=2)
    shared = Shared(build(recipe).train(), recipe)
    first, second = (worker(recipe, shared, tmp_path / "counters", rank) for rank in range(2))
    true_loss = type(shared.model).loss

    def loss(self: Any, features: torch.Tensor, *rest: Any, **named: Any) -> Any:
        if features.shape[0] > 2:
            raise torch.OutOfMemoryError("as on a GPU")
        return true_loss(self, features, *rest, **named)

    monkeypatch.setattr(type(shared.model), "loss", loss)
    assert first.update([uneven(1)], 0).pieces == 1
    limit = first.counters.read(LIMIT)
    assert limit > 0
    monkeypatch.setattr("speechmill.strategies.single.smaller", lambda _: pytest.fail("the other did not hear of it"))
    assert second.update([uneven(1)], 1).pieces == 1
    assert second.counters.read(LIMIT) == limit


def test_a_stuck_process_ends_the_job_by_its_name(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than the patience: the other process goes on meanwhile, and the one that was silent longest is named.
    every = ["train.updates=9000", "train.checkpoint_every=9000", "train.validate_every=9000"]
    two = override_recipe(recipe, ["train.processes=2", *every])

    def stop(strategy: Hogwild) -> None:
        until_done(strategy, 6)
        os.kill(strategy._workers[1][0].pid, signal.SIGSTOP)
        monkeypatch.setattr(strategy, "recipe", override_recipe(two, ["train.timeout=5"]))

    with (
        when_started(monkeypatch, stop),
        pytest.raises(SpeechmillError, match=r"rank 1 \(process \d+\) has given no sign"),
    ):
        train(two, tmp_path / "run")


def test_asked_to_stop_it_saves_what_is_done_and_goes_on(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(strategy: Hogwild) -> None:
        while strategy.counters.read(DONE) < 6:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGUSR1)

    two = override_recipe(
        recipe, ["train.processes=2", "train.updates=40", "train.checkpoint_every=40", "train.validate_every=40"]
    )
    with when_started(monkeypatch, ask):
        report = train(two, tmp_path / "run")
    assert (report.finished, report.stopped_by) == (False, "SIGUSR1")
    assert 6 <= report.updates < 40
    assert train(override_recipe(two, ["train.processes=1"]), tmp_path / "run").updates == 40
    heard = read_state(checkpoints(tmp_path / "run")[-1]).samples
    train(override_recipe(two, ["train.strategy=single", "train.processes=1"]), tmp_path / "other")
    assert heard == read_state(checkpoints(tmp_path / "other")[-1]).samples, "each batch exactly once"


def test_all_dead_is_an_error(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        when_started(monkeypatch, lambda strategy: strategy._workers[0][0].kill()),
        pytest.raises(SpeechmillError, match="all 1 Hogwild processes have died"),
    ):
        train(override_recipe(recipe, ["train.updates=4000", "optim.schedule=constant"]), tmp_path / "run")


def test_the_device_is_the_worker_s(tmp_path: Path) -> None:
    recipe = settings(processes=1)
    assert worker(recipe, Shared(build(recipe), recipe), tmp_path / "counters").step.device == CPU


def test_workers_hear_of_the_annealed_rate(tmp_path: Path) -> None:
    recipe = settings(processes=1)
    shared = Shared(build(recipe).train(), recipe)
    one = worker(recipe, shared, tmp_path / "counters")
    one.update([uneven(0)], 0)
    assert one.step.optimizer.param_groups[0]["lr"] == 1e-2
    one.counters.anneal(0.25)
    one.update([uneven(1)], 1)
    assert one.step.optimizer.param_groups[0]["lr"] == 0.25e-2
