"""A cache of whole shards on a local disk: bounded by size, checksummed, shared by the processes of a node.

CACHE/.lock                    held while room is made
CACHE/<name>/index.arrow ...   <name>: the fingerprint of the source's SHA256SUMS
CACHE/<name>/train-000000.tar  its time of modification is that of its last use
CACHE/<name>/.train-000000.tar.partial   being fetched; as large as it will be, so that it counts
CACHE/<name>/.train-000000.tar.lock      held while it is fetched
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from speechmill.artefact import disk_errors, partial_path, publish, sha256
from speechmill.errors import SpeechmillError, StorageError
from speechmill.shards.remote import Remote, RemoteFault
from speechmill.shards.sums import SUMS_NAME, parse_sums

_TRIES = 3  # a fetched file that differs from its checksum is fetched again
_PAUSES = (1.0, 4.0, 16.0, 64.0)  # seconds before a source that did not answer is asked again
_LOOK_AGAIN = 0.1  # seconds, while others' fetches fill the cache


class ShardCache:
    """The shards of one source in a cache. Any number of processes, forked or not, may have one of the same folder."""

    def __init__(self, source: str, root: Path, limit: int) -> None:
        self.source, self.root, self.limit = source, root, limit
        self._remote = Remote(source)
        text = self._remote.read(SUMS_NAME)
        self.sums = parse_sums(text.decode("utf-8", "replace"), f"{source.rstrip('/')}/{SUMS_NAME}")
        self.folder = root / sha256(text)[:16]
        with disk_errors(root):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._spoiled: dict[str, str] = {}  # files that are gone or damaged at the source, and what to say of them
        self._process = 0
        self._ahead: queue.Queue[str] = queue.Queue()
        self._wanted: set[str] = set()  # what is in the queue and has not been opened since

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardCache, (self.source, self.root, self.limit)

    def open(self, name: str) -> int:
        """The descriptor of a file of the source, fetched where it is not here; eviction leaves it readable."""
        self._wanted.discard(name)  # who comes to a shard before its turn in the queue fetches it: not once more later
        while True:
            path = self.fetch(name)
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue  # evicted between the two
            _used_now(descriptor)
            return descriptor

    def fetch(self, name: str) -> Path:
        """The path of a file of the source, fetched where it is not here.

        Raises SpeechmillError where the source has no such file, or one of another checksum three times (and then does
        not fetch it again); StorageError where the source does not answer in a minute and a half, where the disk is
        full, and where the file is larger than the cache.
        """
        path = self.folder / name
        if path.is_file():
            return path
        if name not in self.sums:
            raise SpeechmillError(f"{self.source}: {SUMS_NAME} does not name {name}; it is no whole folder of shards.")
        if name in self._spoiled:
            raise SpeechmillError(self._spoiled[name])
        try:
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with _held(_lock_path(path)):
                    if not path.is_file():
                        self._download(name, path)
        except StorageError:
            raise
        except SpeechmillError as error:
            self._spoiled[name] = str(error)
            raise
        except OSError as error:
            raise StorageError(f"{path}: the cache cannot be written ({error.strerror}).") from error
        return path

    def fetch_ahead(self, names: Sequence[str]) -> None:
        """Fetch files in this order in the background; returns at once. Errors come when the file is opened."""
        if self._process != os.getpid():  # a thread does not survive a fork
            self._process, self._ahead = os.getpid(), queue.Queue()
            threading.Thread(target=self._fetch_queued, daemon=True, name="shard cache").start()
        for name in names:
            self._wanted.add(name)
            self._ahead.put(name)

    def keep(self, names: Sequence[str]) -> None:
        """Count these as used now, those that are here: they were fetched ahead and perhaps not opened yet."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                _used_now(self.folder / name)

    def fetch_extra(self, name: str) -> Path:
        """The path of a file that came to the source later and has no checksum; where it is not there, neither here."""
        path = self.folder / name
        if not path.is_file() and self._remote.size(name) is not None:
            with disk_errors(path), _held(_lock_path(path)):
                if not path.is_file():
                    partial_path(path).write_bytes(self._remote.read(name))
                    publish(partial_path(path), path)
        return path

    def _fetch_queued(self) -> None:
        ahead = self._ahead
        while True:
            # Who opens it fetches it again, and hears what is wrong.
            name = ahead.get()
            if name in self._wanted:
                self._wanted.discard(name)
                with contextlib.suppress(SpeechmillError, OSError):
                    self.fetch(name)

    def _download(self, name: str, path: Path) -> None:
        partial = partial_path(path)
        pauses, left = list(_PAUSES), _TRIES
        try:
            while left:
                try:
                    found = self._copy(name, partial)
                except RemoteFault:
                    if not pauses:
                        raise
                    time.sleep(pauses.pop(0))
                    continue
                if found == self.sums[name]:
                    _used_now(partial)
                    publish(partial, path)
                    return
                left -= 1
        finally:
            partial.unlink(missing_ok=True)
        raise SpeechmillError(
            f"{self.source}: {name} came with another checksum {_TRIES} times ({found[:16]}..., {SUMS_NAME} says "
            f"{self.sums[name][:16]}...); check it there with `speechmill shards verify`."
        )

    def _copy(self, name: str, partial: Path) -> str:
        """Stream a file into a place reserved for it; returns its SHA-256."""
        size = self._remote.size(name)
        if size is None:
            raise SpeechmillError(f"{self.source}: has no {name}, which its {SUMS_NAME} names.")
        self._reserve(partial, size)
        digest = hashlib.sha256()
        with partial.open("r+b") as stream:
            for chunk in self._remote.stream(name):
                digest.update(chunk)
                stream.write(chunk)
            stream.truncate()
        return digest.hexdigest()

    def _reserve(self, partial: Path, size: int) -> None:
        """Make room for a file and take it. Only TARs count: index and plan are needed all the time."""
        if partial.suffixes[-2:] != [".tar", ".partial"]:
            partial.write_bytes(b"")
            return
        if size > self.limit:
            raise StorageError(
                f"{self.root}: a shard of {self.source} has {size / 1e9:.3f} GB, the cache {self.limit / 1e9:.3f} GB; "
                f"raise data.cache_gb."
            )
        while True:
            with _held(self.root / ".lock"):
                partial.unlink(missing_ok=True)
                if self._make_room(size):
                    with partial.open("wb") as stream:
                        os.posix_fallocate(stream.fileno(), 0, max(1, size))
                    return
            time.sleep(_LOOK_AGAIN)  # what others fetch now can be evicted when they have it

    def _make_room(self, size: int) -> bool:
        """Evict what was used longest ago until `size` fits; False where what is being fetched leaves no room."""
        held, evictable = 0, []
        for path in self.root.rglob("*.tar.partial"):
            with contextlib.suppress(FileNotFoundError):
                if _is_stale(path):
                    path.unlink()
                else:
                    held += path.stat().st_size
        for path in self.root.rglob("*.tar"):
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                held += found.st_size
                evictable.append((found.st_mtime_ns, found.st_size, path))
        for _, freed, path in sorted(evictable):
            if held + size <= self.limit:
                break
            path.unlink(missing_ok=True)
            held -= freed
        return held + size <= self.limit


def _used_now(file: Path | int) -> None:
    # The kernel's own stamps are of its last tick, milliseconds ago: two that are alike do not say what came first.
    now = time.time_ns()
    os.utime(file, ns=(now, now))


def _lock_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


@contextlib.contextmanager
def _held(lock: Path) -> Iterator[None]:
    """Hold a lock between threads and processes of one machine (flock); the kernel gives it back when we die."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_stale(partial: Path) -> bool:
    """Whether nobody fetches this any more: its lock is free."""
    lock = partial.with_name(partial.name.removesuffix(".partial") + ".lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)
