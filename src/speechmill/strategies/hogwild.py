"""Hogwild (Recht et al. 2011): processes that change one set of parameters without waiting for one another.

The command's own process trains nothing: it starts the workers, hears of each update that is done, logs, and validates
and saves copies. Workers take the numbers of updates from a shared counter up to a ceiling, which is the next update
after which the recipe validates or saves. When all below it are done, nothing moves for the moment of a copy; then the
ceiling is raised. So a checkpoint holds exactly the updates before its number, each batch is used once, and validation
sees a frozen copy while training goes on.

A worker reads the parameters into a replica of its own, computes a gradient there, and changes the shared ones: forward
and backward pass see the same weights, and staleness is what others did between reading and writing. Of a worker that
dies, the update that it had begun is lost; those that it had only taken, ahead of need, go to the others.

The first updates of a training change most, and there stale ones do most harm: `train.hogwild_alone` of them are made
by one worker while the others wait; all then begin with its moments.
"""

from __future__ import annotations

import copy
import pickle
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
import torch.multiprocessing as mp

from speechmill.device import settle
from speechmill.errors import SpeechmillError
from speechmill.loader import Batch
from speechmill.models.base import Recognizer
from speechmill.settings import Recipe
from speechmill.sounds import Sounds
from speechmill.strategies.base import Frozen, UpdateStats
from speechmill.strategies.hogwild_worker import Dataset, Task, work
from speechmill.strategies.shared import CEILING, DONE, LIMIT, NEXT, ONLY, Counters, Shared
from speechmill.workers import signals_held

_POLL = 0.2  # seconds between looks at the stop request
_GRACE = 10.0  # seconds that a worker has to leave


class Hogwild:
    """The command's side: workers, and copies of what they do.

    Args:
        moments: the optimizer state to begin with, as in its state_dict.
        first: updates done.
    """

    def __init__(
        self, model: Recognizer, moments: dict[str, Any], recipe: Recipe, device: torch.device, first: int,
        open_dataset: Callable[[Recipe, list[int]], Dataset], epoch_starts: list[int], sounds: Sounds | None = None,
    ) -> None:  # fmt: skip
        self.recipe, self.device = recipe, device
        self.model = copy.deepcopy(model)  # what validation and checkpoints see
        self.shared = Shared(model, recipe)
        if moments:
            self.shared.load([moments])
        self._folder = TemporaryDirectory(prefix="speechmill-")
        path = str(Path(self._folder.name) / "counters")
        self.counters = Counters(path, recipe.train.processes)
        with self.counters.locked() as values:
            values[NEXT] = values[CEILING] = values[DONE] = first
        self._task = Task(recipe, self.shared, path, str(device), open_dataset, epoch_starts, sounds)
        self._first = first  # update at which the current stretch began
        self._finished: set[int] = set()  # updates of the stretch
        self._workers: dict[int, tuple[Any, Connection]] = {}
        self._dead: set[int] = set()
        self._listener: Listener | None = None
        self._idle: dict[int, int] = {}  # worker -> ceiling that it has come to
        self._waiting: list[UpdateStats] = []
        self._stopping = False
        self._begun = False  # nothing moves before the loop's first update: the loop may have to freeze what it found

    def mine(self, number: int) -> list[int]:
        del number
        return []  # the workers load

    def update(self, batches: Sequence[Batch], number: int, stop: object = False) -> UpdateStats:
        """Wait for the next update that a worker has done: theirs have other numbers."""
        del batches
        if not self._begun:
            self._raise_ceiling(number)
        while not self._waiting:
            if stop and not self._stopping:
                self._stopping = True
                with self.counters.locked() as values:
                    values[CEILING] = values[NEXT]
            self._hear()
            if self._all_idle():
                self._make_up()
                if self._is_alone_over():
                    self._give_moments()
                    self._raise_ceiling(self.recipe.train.hogwild_alone)
                if self._stopping and not self._waiting and self._all_idle():
                    return UpdateStats(updates=0, steps=0, stop=True)
        stats = self._waiting.pop(0)
        mean = {name: getattr(stats, name) / self.recipe.train.processes for name in ("waited", "communicated")}
        return replace(stats, stop=self._stopping and not self._waiting and self._all_idle(), **mean)

    def start(self) -> None:
        """Start the workers, and wait until all are there."""
        settle(self.device)
        context = mp.get_context("spawn")
        for rank in range(self.recipe.train.processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(rank, self._task, theirs), name=f"hogwild-{rank}")
            with signals_held():
                process.start()
            theirs.close()
            self._workers[rank] = (process, ours)
        self._listener = Listener({rank: pipe for rank, (_, pipe) in self._workers.items()})
        while not self._all_idle():
            self._hear()

    def _raise_ceiling(self, number: int) -> None:
        settings = self.recipe.train
        stops = [(number // every + 1) * every for every in (settings.validate_every, settings.checkpoint_every)]
        is_alone = number < settings.hogwild_alone
        if is_alone:
            stops.append(settings.hogwild_alone)
        self._begun, self._first, self._finished = True, number, set()
        if self._listener is not None:
            self._listener.expect()  # they were idle, maybe for a long validation: that is no silence
        with self.counters.locked() as values:
            values[CEILING] = min(*stops, settings.updates)
            values[ONLY] = min(self._workers, default=0) + 1 if is_alone else 0

    def _is_alone_over(self) -> bool:
        """All that one worker was to do is done and told, and the loop did not freeze there."""
        ceiling = self.counters.read(CEILING)
        is_told = len(self._finished) == ceiling - self._first and not self._waiting
        return (
            is_told
            and not self._stopping
            and bool(self.counters.read(ONLY))
            and ceiling == self.recipe.train.hogwild_alone
        )

    def _give_moments(self) -> None:
        """To all, those of the one who was alone."""
        self.shared.load(self.shared.states()[:1])
        settle(self.device)

    def _hear(self) -> None:
        """Take in what workers said; one that died is struck off, one that is stuck ends the job."""
        assert self._listener is not None
        for rank, kind, value in self._listener.messages(_POLL):
            if kind == "error":
                raise SpeechmillError(value)
            if kind == "died":
                self._strike_off(rank)
            if kind == "idle":
                self._idle[rank] = value
            if kind == "done":
                number, stats = value
                self._finished.add(number)
                self._waiting.append(stats)
        silent, rank = max(
            ((seconds, rank) for rank, seconds in self._listener.silence().items() if self._is_due(rank)),
            default=(0.0, 0),
        )
        if silent > self.recipe.train.timeout:
            raise SpeechmillError(
                f"rank {rank} (process {self._workers[rank][0].pid}) has given no sign of life for {silent:.0f} s; "
                f"the job ends. The last checkpoint stands."
            )

    def _is_due(self, rank: int) -> bool:
        return rank in self._workers and not self._is_idle(rank)

    def _is_idle(self, rank: int) -> bool:
        return self._idle.get(rank) == self.counters.read(CEILING)

    def _all_idle(self) -> bool:
        return all(self._is_idle(rank) for rank in self._workers)

    def _strike_off(self, rank: int) -> None:
        process, pipe = self._workers.pop(rank)
        self._dead.add(rank)
        pipe.close()
        process.join()
        sys.stderr.write(f"speechmill: Hogwild process {rank} has died (status {process.exitcode}); the rest go on.\n")
        if not self._workers:
            raise SpeechmillError(
                f"all {self.recipe.train.processes} Hogwild processes have died, the last with status "
                f"{process.exitcode}; the last checkpoint stands: run the same command to go on from it."
            )

    def _make_up(self) -> None:
        """All who live stand at the ceiling: what is not done was a dead process's. What it had begun is lost."""
        missing = set(range(self._first, self.counters.read(NEXT))) - self._finished
        lost = missing & {self.counters.begun(rank) for rank in self._dead}
        self._finished |= lost
        self._waiting += [UpdateStats(updates=0, lost=1) for _ in lost]
        again, living = sorted(missing - lost), list(self._workers)
        with self.counters.locked() as values:
            is_left = bool(values[NEXT] < values[CEILING])  # the one who was alone has died: another one goes on
            if values[ONLY]:
                living = living[:1]
                values[ONLY] = living[0] + 1
        for place, rank in enumerate(living[: max(len(again), is_left)]):
            del self._idle[rank]
            with suppress(OSError):  # it has died too: the listener will say so, and its share comes here again
                self._workers[rank][1].send(again[place :: len(living)])
        if (again or is_left) and self._listener is not None:
            self._listener.expect()

    def anneal(self, factor: float) -> None:
        self.counters.anneal(factor)

    def agree(self, stop: object) -> bool:
        return bool(stop)  # the frozen copy is complete; what workers did since is done again

    def standing(self) -> Recognizer:
        return self.shared.model  # others may be changing it

    def freeze(self, number: int) -> Frozen:
        """A copy of what stands after all updates below the ceiling; then training goes on."""
        if self.counters.read(ONLY):
            self._give_moments()
        with torch.no_grad():
            for ours, theirs in zip(self.model.parameters(), self.shared.model.parameters(), strict=True):
                ours.copy_(theirs)
        states, groups = self.shared.states(), self.shared.optimizers[0].state_dict()["param_groups"]
        settle(self.device)  # the copy must be made before anybody changes what is copied
        own = {"piece_limit": self.counters.read(LIMIT), "moments": states}
        if self._listener is not None and not self._stopping and number < self.recipe.train.updates:
            self._raise_ceiling(number)
        return Frozen(self.model, lambda: {"state": _used(states[0]), "param_groups": groups}, own)

    def resume(self, own: dict[str, Any], of_rank: dict[str, Any]) -> None:
        del of_rank
        with self.counters.locked() as values:
            values[LIMIT] = own.get("piece_limit", 0)
        if len(own.get("moments", [])) == len(self.shared.optimizers):
            self.shared.load(own["moments"])

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for process, pipe in self._workers.values():
            pipe.close()  # a worker that finds nobody at the other end leaves
            process.join(_GRACE)
            if process.is_alive():
                process.kill()
                process.join()
        self._workers = {}
        self.counters.close()
        self._folder.cleanup()


class Listener(threading.Thread):
    """Takes messages from the workers' pipes at once: these hold few, and validation may take long."""

    def __init__(self, pipes: dict[int, Connection]) -> None:
        super().__init__(name="listener", daemon=True)
        self._ranks = {pipe: rank for rank, pipe in pipes.items()}
        self._queue: queue.SimpleQueue[tuple[int, str, Any]] = queue.SimpleQueue()
        self._heard = dict.fromkeys(pipes, time.monotonic())
        self._closed = threading.Event()
        self.start()

    def run(self) -> None:
        while self._ranks and not self._closed.is_set():
            ready = cast("list[Connection]", wait(list(self._ranks), _POLL))
            for pipe in ready:
                rank = self._ranks[pipe]
                try:
                    kind, value = pipe.recv()
                except (EOFError, OSError, pickle.UnpicklingError):  # the last: killed in the middle of a message
                    del self._ranks[pipe]
                    kind, value = "died", None
                self._heard[rank] = time.monotonic()
                self._queue.put((rank, kind, value))

    def messages(self, patience: float) -> Iterator[tuple[int, str, Any]]:
        """All that has come; waits so many seconds for the first."""
        with suppress(queue.Empty):
            yield self._queue.get(timeout=patience)
            while True:
                yield self._queue.get_nowait()

    def expect(self) -> None:
        """Begin to count silence: there is something to do now."""
        now = time.monotonic()
        for rank in self._heard:
            self._heard[rank] = now

    def silence(self) -> dict[int, float]:
        """Seconds since each worker was heard, or had something to do."""
        now = time.monotonic()
        return {rank: now - at for rank, at in self._heard.items()}

    def close(self) -> None:
        self._closed.set()
        self.join()


def _used(state: dict[str, Any]) -> dict[str, Any]:
    """Without what no step has touched: another optimizer makes that for itself."""
    return {key: values for key, values in state.items() if values["step"].item()}
