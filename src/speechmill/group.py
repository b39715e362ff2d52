"""A group of processes that work on one thing: their ranks, and what they tell one another."""

from __future__ import annotations

import datetime
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from speechmill.device import settle
from speechmill.errors import PeerLost, SpeechmillError
from speechmill.launch import launched, leave_word, not_again
from speechmill.settings import Recipe

T = TypeVar("T")


class Group:
    """One process alone. `Ranks` is several; whoever works with a group need not ask which it is."""

    rank = 0
    size = 1
    local_rank = 0
    local_size = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes what there is one of."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """The small values of all ranks, by rank, on every rank."""
        return [value]

    def broadcast(self, value: T) -> T:
        """Rank 0's small value."""
        return value

    def add(self, tensor: torch.Tensor) -> None:
        """Sum a tensor over the ranks, in place; all have the same bits afterwards."""

    def copy_first(self, tensors: list[torch.Tensor]) -> None:
        """Give every rank rank 0's tensors, in place."""

    def barrier(self) -> None:
        """Wait for all."""

    def alive(self) -> None:
        """Tell those who wait that this rank still works."""

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around whatever needs the other ranks: whoever does not come is named, and the job ends."""
        yield

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Around what is sent without waiting for it."""
        yield

    def close(self) -> None:
        """Leave."""


class Ranks(Group):
    """Processes started by torchrun, joined by torch.distributed: gloo for what is in memory, NCCL for what is on GPUs.

    Args:
        timeout: seconds after which a rank that gives no sign of life ends the job.
    """

    def __init__(self, timeout: float) -> None:
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        self.local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        # Longer than ours: the library's own error does not say who is missing.
        patience = datetime.timedelta(seconds=2 * timeout + 60)
        store, _, _ = next(iter(rendezvous("env://", timeout=patience)))
        store = PrefixStore(f"speechmill/{_meet(store, self.rank, self.size, patience)}", store)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.size, timeout=patience)
        self._watch = Watch(self.rank, self.size, timeout)
        self.barrier()

    def gather(self, value: T) -> list[T]:
        found: list[Any] = [None] * self.size
        with self.waiting():
            dist.all_gather_object(found, value)
        return found

    def broadcast(self, value: T) -> T:
        box = [value]
        with self.waiting():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def add(self, tensor: torch.Tensor) -> None:
        with self.waiting():
            dist.all_reduce(tensor)
            settle(tensor.device)

    def copy_first(self, tensors: list[torch.Tensor]) -> None:
        with self.waiting():
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)
            for device in {tensor.device for tensor in tensors}:
                settle(device)

    def barrier(self) -> None:
        self.add(torch.zeros(1))  # gloo: torch's own barrier would take NCCL, and a GPU, where there is one

    def alive(self) -> None:
        with self.sending():
            self._watch.beat()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        with self.sending():
            self._watch.arrive()
            try:
                yield
            finally:
                self._watch.leave()

    @contextmanager
    def sending(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # gloo's, where a peer's connection closes, or the store's
            raise PeerLost(f"rank {self.rank}: another rank has gone ({str(error).splitlines()[0]}).") from error

    def close(self) -> None:
        self._watch.close()
        dist.destroy_process_group()


def _meet(store: Any, rank: int, size: int, patience: datetime.timedelta) -> str:
    """A name that these very processes share, and none that died before them.

    Torchrun keeps its store when it starts processes again, with the addresses of the dead in it: whoever reads one too
    early connects to nobody (pytorch issue 167288). Its count of restarts is each machine's own, so that is no name.
    Each rank says a word that is new; rank 0 tells which words it has heard, until each rank has heard its own.
    """
    word, token = uuid.uuid4().hex, uuid.uuid4().hex
    store.set(f"speechmill/hello/{rank}", word)
    deadline = time.monotonic() + patience.total_seconds()
    while time.monotonic() < deadline:
        if rank == 0:
            words = [_peek(store, f"speechmill/hello/{other}") for other in range(size)]
            store.set("speechmill/heard", " ".join([token, *(heard or "-" for heard in words)]))
            if size == 1 or store.check([f"speechmill/{token}/{other}" for other in range(1, size)]):
                return token
        else:
            theirs, *words = (_peek(store, "speechmill/heard") or "-").split()
            if len(words) == size and words[rank] == word:
                store.set(f"speechmill/{theirs}/{rank}", "here")
                return theirs
        time.sleep(0.02)
    raise SpeechmillError(f"rank {rank}: not all {size} processes came within {patience.total_seconds():.0f} s.")


def _peek(store: Any, key: str) -> str:
    return bytes(store.get(key)).decode() if store.check([key]) else ""


ALONE = Group()


def is_rank() -> bool:
    """Whether torchrun, or `launch`, started this process as one of a group."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ and "MASTER_ADDR" in os.environ


def rank() -> int:
    """This process's, before it has joined its group."""
    return int(os.environ["RANK"]) if is_rank() else 0


def world_size() -> int:
    return int(os.environ["WORLD_SIZE"]) if is_rank() else 1


@contextmanager
def joined(timeout: float) -> Iterator[Group]:
    """The group that this process was started in; alone where it was not."""
    if not is_rank():
        yield ALONE
        return
    group = Ranks(timeout)
    try:
        yield group
    except BaseException:
        # The others wait for us: leave without a farewell that they would have to answer.
        group._watch.close()
        raise
    group.close()


class Watch(threading.Thread):
    """Ends this process, naming the rank, where another has not come to where this one waits and shows no life.

    Each rank writes (times arrived, signs of life) into the store that all share; a rank that is behind, and whose
    entry has not changed for `timeout` seconds of our waiting, is stuck.
    """

    def __init__(self, rank: int, size: int, timeout: float) -> None:
        super().__init__(name="watch", daemon=True)
        self.rank, self.size, self.timeout = rank, size, timeout
        store: Any = dist.distributed_c10d._get_default_store()
        self._store = store.clone()  # its own connection: the other may block
        self._arrived = self._beats = 0
        self._waits_since: float | None = None
        self._told = 0.0
        self._closed = threading.Event()
        self._lock = threading.Lock()  # of the connection
        self._tell(f"where/{rank}", f"{socket.gethostname()} {os.getpid()}")
        self.beat()
        self.start()

    def arrive(self) -> None:
        self._arrived += 1
        self._tell(f"at/{self.rank}", f"{self._arrived} {self._beats}")
        self._waits_since = time.monotonic()

    def leave(self) -> None:
        self._waits_since = None

    def beat(self) -> None:
        now = time.monotonic()
        if now - self._told > min(1.0, self.timeout / 10):
            self._told, self._beats = now, self._beats + 1
            self._tell(f"at/{self.rank}", f"{self._arrived} {self._beats}")

    def close(self) -> None:
        self._closed.set()
        self.join()

    def run(self) -> None:
        seen: dict[int, tuple[str, float]] = {}
        ticks = 0
        while not self._closed.wait(min(5.0, self.timeout / 10)):
            ticks += 1
            try:
                self._tell(f"tick/{self.rank}", str(ticks))
            except RuntimeError:  # the store has gone; our own next call says so
                return
            since = self._waits_since
            if since is None or time.monotonic() - since < self.timeout / 2:
                seen.clear()
                continue
            now = time.monotonic()
            for other in range(self.size):
                try:
                    entry = self._ask(f"at/{other}")
                    behind = not entry or int(entry.split()[0]) < self._arrived
                    # Who has arrived has nothing more to say but that its process lives: it may have been stopped
                    # within a collective, or between the two of which a gather consists.
                    entry = entry if behind else self._ask(f"tick/{other}")
                except RuntimeError:
                    return
                before, at = seen.get(other, (None, since))
                seen[other] = (entry, at if entry == before or before is None else now)
                if other != self.rank and now - seen[other][1] >= self.timeout:
                    self._end(other, now - seen[other][1])

    def _end(self, stuck: int, seconds: float) -> None:
        host, _, process = self._ask(f"where/{stuck}").partition(" ")
        line = f"rank {stuck} (process {process} on {host}) has given no sign of life for {seconds:.0f} s"
        report_failure(f"{line}, while rank {self.rank} waited; the job ends. The last checkpoint stands.")
        if host == socket.gethostname() and process.isdigit():
            with suppress(OSError):
                os.kill(int(process), signal.SIGKILL)  # so that it does not hold what the next start needs
        os._exit(3)

    def _tell(self, key: str, value: str) -> None:
        with self._lock:
            self._store.set(f"speechmill/{key}", value)

    def _ask(self, key: str) -> str:
        with self._lock:
            return _peek(self._store, f"speechmill/{key}")


def report_failure(line: str) -> None:
    """Say on standard error why this rank ends, and that it would end so again."""
    if not leave_word({"error": line}):
        sys.stderr.write(f"speechmill: {line}\n")
        sys.stderr.flush()
        not_again()


def check_size(recipe: Recipe) -> None:
    """Raise SpeechmillError where some of the processes would have nothing to do, and say where they would wait."""
    strategy, batches = recipe.train.strategy, recipe.schedule.batches_per_update
    if strategy in ("single", "hogwild"):
        if world_size() > 1:
            raise SpeechmillError(
                f"train.strategy {strategy} is one process under torchrun, which started {world_size()}; "
                f"use torchrun --nproc-per-node 1, or train.strategy=ddp."
            )
        return
    processes = world_size() if is_rank() else recipe.train.processes
    if processes > batches:
        raise SpeechmillError(
            f"train.strategy {strategy} with {processes} processes, but an update has {batches} "
            f"{'batch' if batches == 1 else 'batches'}: {processes - batches} would have nothing to do; "
            f"use schedule.batches_per_update={processes} (and the learning rate for it), or {batches} processes."
        )
    if batches % processes and rank() == 0 and not launched():
        sys.stderr.write(
            f"speechmill: {processes} processes share {batches} batches an update: some wait for the last; "
            f"a multiple of {processes} (schedule.batches_per_update) takes no longer.\n"
        )
