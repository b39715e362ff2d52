"""Artefacts on disk are complete or absent: written beside, fsynced, renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from speechmill.errors import SpeechmillError, StorageError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_HELD = {errno.EACCES, errno.EAGAIN}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_FULL_TEXTS = ("No space left", "quota exceeded")
# NumPy says "4 requested and 0 written"; of PyTorch, only its ZIP writer is named. Neither says why.
_CUT_TEXTS = (" requested and ", "inline_container.cc")
_WAITING = 8  # threads that wait for a disk
_LOOK_AGAIN = 0.1  # seconds between two tries for a lock that somebody else holds
_NEXT_TO_NOTHING = 1 << 20  # bytes left on a disk that is as good as full
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
_BROKEN = {errno.EIO, errno.ESTALE}


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a refused write under `path` into one clear line."""
    try:
        yield
    except SpeechmillError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        # Polars, Arrow, NumPy and PyTorch report a full disk by text only, and in classes of their own.
        cut = number is None and any(text in str(error) for text in _CUT_TEXTS)
        full = number in _FULL or any(text in str(error) for text in _FULL_TEXTS)
        if full or (cut and _bytes_left(path) < _NEXT_TO_NOTHING):
            raise StorageError(
                f"{path}: the disk is full; nothing half-written was kept. Free some space and run the command again."
            ) from error
        if cut:
            raise StorageError(
                f"{path}: could not be written whole ({str(error).splitlines()[0]}); nothing half-written was kept. "
                f"Check your quota and the disk, and run the command again."
            ) from error
        if isinstance(error, OSError) and number in _REFUSED:
            raise StorageError(f"{path}: cannot write here ({error.strerror}); choose another place.") from error
        if isinstance(error, OSError) and number in _BROKEN:
            raise StorageError(f"{path}: the disk fails ({error.strerror}); nothing half-written was kept.") from error
        raise


def _bytes_left(path: Path) -> int:
    """What the file system of `path` still takes from this user."""
    there = os.statvfs(next(folder for folder in path.absolute().parents if folder.exists()))
    return there.f_bavail * there.f_frsize


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises SpeechmillError where that cannot be."""
    with disk_errors(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # where nobody may make one, such as /proc
            raise SpeechmillError(f"{path}: no folder can be made here; choose another place.") from error


def partial_path(path: Path) -> Path:
    """Where an artefact lives until it is complete. A later run overwrites what a killed one left there."""
    return path.with_name(f".{path.name}.partial")


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """Yield the path to write to; when the block ends well, fsync it and rename it to `path`.

    A block that raises leaves neither file. Raises SpeechmillError when the disk is full.
    """
    partial = partial_path(path)
    make_folder(path.parent)
    try:
        with disk_errors(path):  # looks at the disk while the partial file is still there
            yield partial
            publish(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def written_together(*paths: Path) -> Iterator[list[Path]]:
    """As `written`, for files of one folder, of which the last says that the others are there.

    Their waiting for the disk overlaps; the last gets its name when the others have theirs on disk.
    """
    partials = [partial_path(path) for path in paths]
    folder = paths[-1].parent
    make_folder(folder)
    try:
        with disk_errors(folder):
            yield partials
            _fsync_all(partials)
            for partial, path in zip(partials[:-1], paths[:-1], strict=True):
                os.replace(partial, path)
            fsync(folder)
            os.replace(partials[-1], paths[-1])
            fsync(folder)
    except BaseException:
        for partial in partials:
            partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def written_folder(path: Path) -> Iterator[Path]:
    """As `written`, for a folder; an older folder of that name is replaced."""
    partial, old = partial_path(path), path.with_name(f".{path.name}.old.partial")
    make_folder(path.parent)
    with disk_errors(path):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    try:
        with disk_errors(path):
            yield partial
            for inner in partial.rglob("*"):
                fsync(inner)
            shutil.rmtree(old, ignore_errors=True)  # a killed run's
            if path.exists():
                os.replace(path, old)  # half removed it would look whole
            publish(partial, path)
            shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextlib.contextmanager
def locked(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Keep other processes from making the artefact `path`, a file or a folder, while the block runs.

    A POSIX record lock on `.NAME.lock` beside it, or on `.lock` in a folder whose parent may not be written to. The
    kernel gives it back when the process dies, and forked children do not share it, so that neither a killed command
    nor its orphans leave anything locked. It says nothing to a second block in the same process.
    Raises SpeechmillError where another process holds it and does not give it back within `wait` seconds.
    """
    path = path.resolve()
    lock = path.with_name(f".{path.name}.lock")
    if path.is_dir() and not os.access(path.parent, os.W_OK):
        lock = path / ".lock"
    make_folder(lock.parent)
    with disk_errors(path):
        descriptor = _lock(lock, path, time.monotonic() + wait)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # while it is held: who opened it meanwhile sees that it is gone and tries anew
        os.close(descriptor)


def tidy(path: Path) -> None:
    """Remove the lock file of a command that was killed between finishing the artefact `path` and giving back its lock.

    One that is held stays, and one on a disk that may not be written to.
    """
    if path.resolve().with_name(f".{path.name}.lock").exists():
        with contextlib.suppress(SpeechmillError), locked(path):
            pass


def _lock(lock: Path, path: Path, deadline: float) -> int:
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)  # who held it may have removed the folder when all was done
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.exists() and os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor
        except OSError as error:
            if error.errno in _NO_LOCKS:
                message = f"{lock.parent}: this file system has no locks; start one command at a time."
                warnings.warn(message, stacklevel=4)
                return descriptor
            os.close(descriptor)
            if error.errno in _HELD and time.monotonic() < deadline:
                time.sleep(_LOOK_AGAIN)
                continue
            if error.errno in _HELD:
                raise SpeechmillError(
                    f"{path}: another command is working on it; wait until that has ended, or choose another place."
                ) from error
            if error.errno != errno.ENOENT:  # else its holder removed it between the two looks: try anew
                raise
        else:
            os.close(descriptor)


def publish(partial: Path, path: Path) -> None:
    """Fsync `partial`, rename it to `path` and fsync the folder, so that a power cut keeps one or the other."""
    fsync(partial)
    os.replace(partial, path)
    fsync(path.parent)


def publish_all(pairs: Sequence[tuple[Path, Path]]) -> None:
    """As `publish`, of several (partial, path), in their order: all waiting for the disk overlaps.

    A process that is killed keeps to the order. A power cut before the end may take any of the names back, but leaves
    no name with half a file.
    """
    _fsync_all([partial for partial, _ in pairs])
    for partial, path in pairs:
        os.replace(partial, path)
    _fsync_all(sorted({path.parent for _, path in pairs}))


def _fsync_all(paths: Sequence[Path]) -> None:
    with ThreadPoolExecutor(_WAITING) as pool:
        list(pool.map(fsync, paths))


def fsync(path: Path) -> None:
    """Have the kernel put a file or folder on disk before returning."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, complete or not at all."""
    with written(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON (UTF-8, keys as they come), complete or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Parse a JSON file; SpeechmillError names the file (and line) when it is missing or broken."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise SpeechmillError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}).") from error


def read_text(path: Path) -> str:
    """Read a UTF-8 file (a byte-order mark is dropped); SpeechmillError names file and line otherwise."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise SpeechmillError(f"{path}: no such file.") from error
    except IsADirectoryError as error:
        raise SpeechmillError(f"{path}: is a folder, a file was expected.") from error
    except PermissionError as error:
        raise SpeechmillError(f"{path}: cannot be read (permission denied).") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SpeechmillError(
            f"{path}, line {line}: not UTF-8 (byte 0x{data[error.start]:02x}); convert it, "
            f"e.g. iconv -f WINDOWS-1252 -t UTF-8."
        ) from error


def sha256(data: bytes) -> str:
    """The SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal; read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """Sixteen hex digits that name a JSON-able value: equal values, equal names."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())[:16]
