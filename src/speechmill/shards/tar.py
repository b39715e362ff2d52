"""The little of TAR that shards need: members written reproducibly, headers read strictly."""

from __future__ import annotations

import ctypes
import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from speechmill.errors import SpeechmillError

BLOCK = tarfile.BLOCKSIZE  # a header is one block, payloads are padded to whole blocks
_WRITE_BACK = 8 << 20  # bytes between two requests
# Linux; elsewhere the fsync waits longer, and that is all.
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
_PICKLES = {"pkl", "pickle", "pyd", "pth", "pt", "joblib", "npy", "npz"}


@dataclass(frozen=True)
class Member:
    name: str
    offset: int  # of the payload, in bytes
    size: int  # of the payload, in bytes


def header(name: str, size: int) -> bytes:
    """A ustar header that depends on name and size alone: no clock, no user, so that equal plans give equal bytes."""
    raw = name.encode()
    if len(raw) > _NAME or size >= _LARGEST:
        return header_by_tarfile(name, size)
    before = raw.ljust(_NAME, b"\0") + _MODE + b"%011o\0" % size + _TIME
    # The checksum is of the header with spaces in its own place.
    total = sum(before) + _REST_SUM
    return b"%s%06o\0 %s" % (before, total, _REST)


def header_by_tarfile(name: str, size: int) -> bytes:
    """The same in Python's own words: what `header` is compared with."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


_NAME = 100  # bytes of the field; longer names take a second field, or cannot be written
_LARGEST = 8**11
_WHOLE = header_by_tarfile("", 0)
_MODE, _TIME, _REST = _WHOLE[100:124], _WHOLE[136:148], _WHOLE[156:]
_REST_SUM = sum(_REST) + 8 * ord(" ")


class TarWriter:
    """Append members to a stream; `add` returns where the payload went.

    The kernel is told to begin writing a file to disk while it grows: else all of that is left to the fsync at the end,
    which waits for it.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()  # taken on the way: the file need not be read again
        self.position = 0
        self._begun = 0  # bytes that are on their way to the disk

    def add(self, name: str, payload: bytes) -> Member:
        self._write(header(name, len(payload)))
        member = Member(name, self.position, len(payload))
        self._write(payload)
        self._write(b"\0" * (-len(payload) % BLOCK))
        return member

    def finish(self) -> None:
        self._write(b"\0" * (2 * BLOCK))

    @property
    def sha256(self) -> str:
        """Of all that was written so far, in hexadecimal."""
        return self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)
        self.position += len(data)
        if self.position - self._begun >= _WRITE_BACK:
            begin_write_back(self._stream, self._begun, self.position - self._begun)
            self._begun = self.position


def begin_write_back(stream: BinaryIO, start: int, size: int) -> None:
    """Have the kernel write a range of a file to disk, and do not wait. It promises nothing: fsync does."""
    if _sync_file_range is not None and not isinstance(stream, io.BytesIO):
        _sync_file_range(stream.fileno(), start, size, 2)  # SYNC_FILE_RANGE_WRITE


def scan(path: Path, folders: bool = False) -> Iterator[Member]:
    """The members of a TAR in file order; where `folders` may be in it, they are passed over.

    Raises SpeechmillError for a broken or truncated TAR, and for members that a shard must not have: names that leave
    the folder, links and devices, pickles (loading one runs whatever code its writer chose).
    """
    size = path.stat().st_size
    end = 0
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                check_name(path, info.name)
                end = info.offset_data
                if folders and info.isdir():
                    continue
                if not info.isreg():
                    raise SpeechmillError(f"{path}: {info.name!r} is no regular file; a shard holds only those.")
                if info.offset_data + info.size > size:
                    raise SpeechmillError(f"{path}: cut off within the member {info.name!r}; write this shard again.")
                yield Member(info.name, info.offset_data, info.size)
                end = info.offset_data + -(-info.size // BLOCK) * BLOCK
    except tarfile.TarError as error:
        raise SpeechmillError(f"{path}: not a readable TAR ({error}); write this shard again.") from error
    with path.open("rb") as stream:
        stream.seek(end)
        if stream.read(BLOCK) != b"\0" * BLOCK:  # tarfile takes a broken header for the end
            raise SpeechmillError(f"{path}: cut off or damaged at byte {end}; write this shard again.")


def check_name(path: Path, name: str) -> None:
    """Raises SpeechmillError for a member that would be written outside of its folder, or could run code."""
    if name.startswith("/") or ".." in name.split("/") or "\\" in name:
        raise SpeechmillError(
            f"{path}: the member name {name!r} leads out of the folder; a shard from a source like this is not read."
        )
    if _PICKLES & set(name.lower().split("/")[-1].split(".")[1:]):  # any of them: ".pkl.gz" is one too
        raise SpeechmillError(
            f"{path}: the member {name!r} is a pickle (or may hold one), which can run code when loaded; "
            f"convert it to FLAC and JSON."
        )
