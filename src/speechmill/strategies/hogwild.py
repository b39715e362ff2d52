"""Hogwild (Recht et al. 2011): processes that change one set of parameters without waiting for one another.

The command's own process trains nothing: it starts the workers, hears of each update that is done, logs, and validates
and saves copies. Workers take the numbers of updates from a shared counter up to a ceiling, which is the next update
after which the recipe validates or saves. When all below it are done, nothing moves for the moment of a copy; then the
ceiling is raised. So a checkpoint holds exactly the updates before its number, each batch is used once, and validation
sees a frozen copy while training goes on.

A worker reads the parameters into a replica of its own, computes a gradient there, and changes the shared ones: forward
and backward pass see the same weights, and staleness is what others did between reading and writing.
"""

from __future__ import annotations

import copy
import fcntl
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
import torch.multiprocessing as mp

from speechmill.errors import SpeechmillError
from speechmill.loader import Batch, batches
from speechmill.models.base import Recognizer
from speechmill.settings import Recipe
from speechmill.sounds import Sounds
from speechmill.strategies.base import Frozen, UpdateStats, parameters_of, share
from speechmill.strategies.single import Single
from speechmill.train.optim import build_optimizer
from speechmill.workers import end_with_parent, threads_of

Dataset = Any  # of batches by their number

_POLL = 0.2  # seconds between looks at the stop request
_IDLE = 0.002  # seconds between looks at the ceiling
_GRACE = 10.0  # seconds that a worker has to leave
_NEXT, _CEILING, _DONE, _LIMIT, _ANNEALED = range(5)  # places in the counters; the last holds a float's bits


class Counters:
    """Numbers that all processes share, in a file, under a lock that the kernel gives back when its holder dies."""

    def __init__(self, path: str) -> None:
        if not Path(path).exists():
            Path(path).write_bytes(bytes(_ANNEALED * 8) + np.float64(1.0).tobytes())
        self._values = np.memmap(path, dtype=np.int64, mode="r+", shape=(5,))
        self._file = Path(path).open("rb+")  # noqa: SIM115  # held as long as the counters

    @contextmanager
    def locked(self) -> Iterator[Any]:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield self._values
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def read(self, place: int) -> int:
        return int(self._values[place])

    def take(self) -> int | None:
        """The next update, for the caller alone; None at the ceiling."""
        with self.locked() as values:
            if values[_NEXT] >= values[_CEILING]:
                return None
            values[_NEXT] += 1
            return int(values[_NEXT]) - 1

    def anneal(self, factor: float) -> None:
        with self.locked() as values:
            values.view(np.float64)[_ANNEALED] = factor

    @property
    def annealed(self) -> float:
        """The factor on the schedule's learning rate."""
        return float(self._values.view(np.float64)[_ANNEALED])

    def close(self) -> None:
        self._file.close()


class Shared:
    """What all processes hold in one piece of memory: the model, and the state of one optimizer or of one each."""

    def __init__(self, model: Recognizer, recipe: Recipe) -> None:
        self.model = model
        parameters = parameters_of(model)
        for parameter, view in zip(parameters, _side_by_side(parameters), strict=True):
            view.copy_(parameter.detach())
            parameter.data = view
        count = recipe.train.processes if recipe.train.hogwild_moments == "own" else 1
        self.optimizers = [build_optimizer(parameters, recipe.optim) for _ in range(count)]
        for optimizer in self.optimizers:
            _allocate(optimizer, parameters)

    def states(self) -> list[dict[str, Any]]:
        return [copy.deepcopy(optimizer.state_dict()["state"]) for optimizer in self.optimizers]

    def load(self, states: list[dict[str, Any]]) -> None:
        """Copy optimizer states in; where there are fewer than processes, they are used again."""
        for place, optimizer in enumerate(self.optimizers):
            own = optimizer.state_dict()["state"]
            for key, values in states[place % len(states)].items():
                for name, value in values.items():
                    own[key][name].copy_(value)


def _side_by_side(like: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    """Zeros like these tensors, in one piece of memory that other processes can see (on a GPU any is)."""
    sizes = [tensor.numel() for tensor in like]
    flat = torch.zeros(sum(sizes), dtype=like[0].dtype, device=like[0].device).share_memory_()  # type: ignore[no-untyped-call]
    return [part.view_as(tensor) for part, tensor in zip(flat.split(sizes), like, strict=True)]


def _allocate(optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter]) -> None:
    """Make the optimizer's state before its first step: zeros, as that would."""
    if not isinstance(optimizer, torch.optim.Adam):  # AdamW is one; SGD without momentum has no state
        return
    steps = torch.zeros(len(parameters), device=parameters[0].device).share_memory_()  # type: ignore[no-untyped-call]
    first, second = _side_by_side(parameters), _side_by_side(parameters)
    for place, parameter in enumerate(parameters):
        optimizer.state[parameter] = {"step": steps[place], "exp_avg": first[place], "exp_avg_sq": second[place]}


@dataclass(frozen=True)
class Task:
    """What a worker is given. `open_dataset` makes the dataset of a recipe: files are not handed over open."""

    recipe: Recipe
    shared: Shared
    counters: str
    device: str
    open_dataset: Callable[[Recipe, list[int]], Dataset]
    epoch_starts: list[int]
    sounds: Sounds | None = None


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
        self.recipe = recipe
        self.model = copy.deepcopy(model)  # what validation and checkpoints see
        self.shared = Shared(model, recipe)
        if moments:
            self.shared.load([moments])
        self._folder = TemporaryDirectory(prefix="speechmill-")
        path = str(Path(self._folder.name) / "counters")
        self.counters = Counters(path)
        with self.counters.locked() as values:
            values[_NEXT] = values[_CEILING] = values[_DONE] = first
        self._task = Task(recipe, self.shared, path, str(device), open_dataset, epoch_starts, sounds)
        self._first = first  # update at which the current stretch began
        self._finished: set[int] = set()  # updates of the stretch
        self._workers: dict[int, tuple[Any, Connection]] = {}
        self._listener: Listener | None = None
        self._idle: dict[int, int] = {}  # worker -> ceiling that it has come to
        self._waiting: list[UpdateStats] = []
        self._stopping = False

    def mine(self, number: int) -> list[int]:
        del number
        return []  # the workers load

    def update(self, batches: Sequence[Batch], number: int, stop: object = False) -> UpdateStats:
        """Wait for the next update that a worker has done: theirs have other numbers."""
        del batches, number
        while not self._waiting:
            if stop and not self._stopping:
                self._stopping = True
                with self.counters.locked() as values:
                    values[_CEILING] = values[_NEXT]
            self._hear()
            if self._all_idle():
                self._count_lost()
                if self._stopping and not self._waiting:
                    return UpdateStats(updates=0, steps=0, stop=True)
        stats = self._waiting.pop(0)
        return replace(stats, stop=self._stopping and not self._waiting and self._all_idle())

    def start(self, number: int) -> None:
        """Start the workers, and wait until all are there."""
        context = mp.get_context("spawn")
        for rank in range(self.recipe.train.processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(rank, self._task, theirs), name=f"hogwild-{rank}")
            process.start()
            theirs.close()
            self._workers[rank] = (process, ours)
        self._listener = Listener({rank: pipe for rank, (_, pipe) in self._workers.items()})
        while not self._all_idle():
            self._hear()
        self._raise_ceiling(number)

    def _raise_ceiling(self, number: int) -> None:
        settings = self.recipe.train
        stops = [(number // every + 1) * every for every in (settings.validate_every, settings.checkpoint_every)]
        self._first, self._finished = number, set()
        with self.counters.locked() as values:
            values[_CEILING] = min(*stops, settings.updates)

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
        return self._idle.get(rank) == self.counters.read(_CEILING)

    def _all_idle(self) -> bool:
        return all(self._is_idle(rank) for rank in self._workers)

    def _strike_off(self, rank: int) -> None:
        process, pipe = self._workers.pop(rank)
        pipe.close()
        process.join()
        sys.stderr.write(f"speechmill: Hogwild process {rank} has died (status {process.exitcode}); the rest go on.\n")
        if not self._workers:
            raise SpeechmillError(
                f"all {self.recipe.train.processes} Hogwild processes have died, the last with status "
                f"{process.exitcode}; the last checkpoint stands: run the same command to go on from it."
            )

    def _count_lost(self) -> None:
        """All who live stand at the ceiling: what is not done was a dead process's."""
        lost = set(range(self._first, self.counters.read(_NEXT))) - self._finished
        self._finished |= lost
        self._waiting += [UpdateStats(updates=0, lost=1) for _ in lost]

    def anneal(self, factor: float) -> None:
        self.counters.anneal(factor)

    def agree(self, stop: object) -> bool:
        return bool(stop)  # the frozen copy is complete; what workers did since is done again

    def standing(self) -> Recognizer:
        return self.shared.model  # others may be changing it

    def freeze(self, number: int) -> Frozen:
        """A copy of what stands after all updates below the ceiling; then training goes on."""
        with torch.no_grad():
            for ours, theirs in zip(self.model.parameters(), self.shared.model.parameters(), strict=True):
                ours.copy_(theirs)
        states, groups = self.shared.states(), self.shared.optimizers[0].state_dict()["param_groups"]
        own = {"piece_limit": self.counters.read(_LIMIT), "moments": states}
        if self._listener is not None and not self._stopping and number < self.recipe.train.updates:
            self._raise_ceiling(number)
        return Frozen(self.model, lambda: {"state": _used(states[0]), "param_groups": groups}, own)

    def resume(self, own: dict[str, Any], of_rank: dict[str, Any]) -> None:
        del of_rank
        with self.counters.locked() as values:
            values[_LIMIT] = own.get("piece_limit", 0)
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

    def silence(self) -> dict[int, float]:
        """Seconds since each worker was heard."""
        now = time.monotonic()
        return {rank: now - at for rank, at in self._heard.items()}

    def close(self) -> None:
        self._closed.set()
        self.join()


def _used(state: dict[str, Any]) -> dict[str, Any]:
    """Without what no step has touched: another optimizer makes that for itself."""
    return {key: values for key, values in state.items() if values["step"].item()}


def work(rank: int, task: Task, pipe: Connection) -> None:
    """A worker process: take a number, load its batches, read, compute, write; until nobody hears it any more."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the command decides when to stop
    end_with_parent()
    torch.set_num_threads(threads_of(task.recipe, task.recipe.train.processes))
    counters = Counters(task.counters)
    worker = Worker(rank, task, counters)
    try:
        dataset = task.open_dataset(task.recipe, task.epoch_starts)
        while True:
            ceiling = counters.read(_CEILING)
            worker.stretch(dataset, pipe)
            if counters.read(_CEILING) != ceiling:
                continue
            pipe.send(("idle", ceiling))
            while counters.read(_CEILING) == ceiling:
                if pipe.poll(_IDLE):
                    return
    except SpeechmillError as error:
        pipe.send(("error", str(error)))
    except (BrokenPipeError, EOFError, ConnectionResetError):
        return  # the command has ended


class Worker:
    """A replica, and how a gradient computed on it changes the shared parameters."""

    def __init__(self, rank: int, task: Task, counters: Counters) -> None:
        self.recipe, self.counters = task.recipe, counters
        self.model = task.shared.model
        self.replica = copy.deepcopy(self.model).train()
        optimizer = task.shared.optimizers[rank % len(task.shared.optimizers)]
        self.step = Step(self.replica, self.model, optimizer, self.recipe, torch.device(task.device), task.sounds)

    def stretch(self, dataset: Dataset, pipe: Connection) -> None:
        """All updates that this process gets below the ceiling."""
        taken: list[int] = []

        def numbers() -> Iterator[int]:
            while (number := self.counters.take()) is not None:
                taken.append(number)
                yield from share(number, per_update, 0, 1)

        per_update = self.recipe.schedule.batches_per_update
        pin = self.step.device.type == "cuda"
        with closing(batches(dataset, numbers(), self.recipe.train.loader_workers, pin)) as loaded:
            while True:
                since = time.monotonic()
                update = list(islice(loaded, per_update))
                if not update:
                    return
                waited = time.monotonic() - since
                number = taken.pop(0)
                stats = self.update(update, number)
                pipe.send(("done", (number, replace(stats, waited=waited, finished=time.monotonic()))))

    def update(self, batches: list[Batch], number: int) -> UpdateStats:
        self.step.piece_limit = self.counters.read(_LIMIT)
        self.step.anneal(self.counters.annealed)
        read_at = self.counters.read(_DONE)
        with torch.no_grad():
            for ours, theirs in zip(self.replica.parameters(), self.model.parameters(), strict=True):
                ours.copy_(theirs)
        stats = self.step.update(batches, number)
        with self.counters.locked() as values:
            stale = int(values[_DONE]) - read_at
            values[_DONE] += 1
            if self.step.piece_limit:
                values[_LIMIT] = min(self.step.piece_limit, int(values[_LIMIT]) or self.step.piece_limit)
        return replace(stats, staleness=stale)


class Step(Single):
    """`single`, whose optimizer changes the shared parameters with the replica's gradients."""

    def __init__(
        self, replica: Recognizer, shared: Recognizer, optimizer: torch.optim.Optimizer, recipe: Recipe,
        device: torch.device, sounds: Sounds | None = None,
    ) -> None:  # fmt: skip
        super().__init__(replica, optimizer, recipe, device, sounds)
        self.shared = shared

    def begin(self) -> None:
        self.model.zero_grad(set_to_none=True)

    def apply(self) -> None:
        for ours, theirs in zip(self.model.parameters(), self.shared.parameters(), strict=True):
            theirs.grad = ours.grad
        super().apply()
