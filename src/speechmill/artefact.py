"""Artefacts on disk are complete or absent: written beside, fsynced, renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechmill.errors import SpeechmillError

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a refused write under `path` into one clear line."""
    try:
        yield
    except OSError as error:
        # Polars and libsndfile report a full disk by text only.
        if error.errno in _FULL or "No space left" in str(error):
            raise SpeechmillError(
                f"{path}: the disk is full; nothing half-written was kept. Free some space and run the command again."
            ) from error
        if error.errno in {errno.EACCES, errno.EROFS, errno.ENOTDIR}:
            raise SpeechmillError(f"{path}: cannot write here ({error.strerror}); choose another place.") from error
        raise


def partial_path(path: Path) -> Path:
    """Where an artefact lives until it is complete. A later run overwrites what a killed one left there."""
    return path.with_name(f".{path.name}.partial")


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """Yield the path to write to; when the block ends well, fsync it and rename it to `path`.

    A block that raises leaves neither file. Raises SpeechmillError when the disk is full.
    """
    partial = partial_path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            publish(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def written_folder(path: Path) -> Iterator[Path]:
    """As `written`, for a folder; an older folder of that name is replaced."""
    partial = partial_path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            for file in partial.rglob("*"):
                if file.is_file():
                    fsync(file)
            if path.exists():
                shutil.rmtree(path)
            publish(partial, path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def publish(partial: Path, path: Path) -> None:
    """Fsync `partial`, rename it to `path` and fsync the folder, so that a power cut keeps one or the other."""
    fsync(partial)
    os.replace(partial, path)
    fsync(path.parent)


def fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    with written(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
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
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """Sixteen hex digits that name a JSON-able value: equal values, equal names."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())[:16]
