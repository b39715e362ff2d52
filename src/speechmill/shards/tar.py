"""The little of TAR that shards need: members written reproducibly, headers read strictly."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from speechmill.errors import SpeechmillError

BLOCK = tarfile.BLOCKSIZE  # a header is one block, payloads are padded to whole blocks
_PICKLES = {"pkl", "pickle", "pyd", "pth", "pt", "joblib", "npy", "npz"}


@dataclass(frozen=True)
class Member:
    name: str
    offset: int  # of the payload, in bytes
    size: int  # of the payload, in bytes


def header(name: str, size: int) -> bytes:
    """A ustar header that depends on name and size alone: no clock, no user, so that equal plans give equal bytes."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


class TarWriter:
    """Append members to a stream; `add` returns where the payload went."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.position = 0

    def add(self, name: str, payload: bytes) -> Member:
        self._write(header(name, len(payload)))
        member = Member(name, self.position, len(payload))
        self._write(payload)
        self._write(b"\0" * (-len(payload) % BLOCK))
        return member

    def finish(self) -> None:
        self._write(b"\0" * (2 * BLOCK))

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self.position += len(data)


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
    if name.startswith("/") or ".." in name.split("/") or "\\" in name:
        raise SpeechmillError(
            f"{path}: the member name {name!r} leads out of the folder; a shard from a source like this is not read."
        )
    if _PICKLES & set(name.lower().split("/")[-1].split(".")[1:]):  # any of them: ".pkl.gz" is one too
        raise SpeechmillError(
            f"{path}: the member {name!r} is a pickle (or may hold one), which can run code when loaded; "
            f"convert it to FLAC and JSON."
        )
