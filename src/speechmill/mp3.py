"""How long an MP3 is, where its header does not say so.

An MP3 is a chain of frames, each with its own header and no table. A Xing, Info or VBRI frame at the start states
their number; without one, decoders guess it from the size and the first frame's bit rate. For variable bit rates the
guess can be wrong by a factor of three, and libsndfile stops reading there. `stated` counts the frames and gives a file
that begins with a frame which states their number, so that everything is read. Layout of headers: ISO/IEC 11172-3,
13818-3; the Xing frame: http://gabriel.mp3-tech.org/mp3infotag.html.
"""

from __future__ import annotations

import io
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

_KILOBITS = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1, layer III
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2 and 2.5
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by the version's two bits
_SEARCHED = 1 << 16  # bytes in which the first frame, or the next after a damage, must be found
_TAGS_AT_END = 1 << 16  # bytes that ID3v1, APE and the like may take behind the sound


@dataclass(frozen=True)
class _Frame:
    size: int  # bytes
    kind: int  # version, layer and rate: what all frames of a file share


class Stated(io.RawIOBase):
    """An MP3 from its first frame on, behind a silent frame that states the number of frames."""

    def __init__(self, path: Path, header: bytes, start: int) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._header, self._start = header, start
        self._size = len(header) + path.stat().st_size - start
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]  # a writable buffer of any kind
        view = memoryview(buffer).cast("B")
        part = self._header[self._place : self._place + len(view)]
        view[: len(part)] = part
        self._file.seek(max(0, self._place + len(part) - len(self._header)) + self._start)
        read = len(part) + self._file.readinto(view[len(part) :])
        self._place += read
        return read

    def close(self) -> None:
        self._file.close()
        super().close()


def stated(path: Path) -> Stated | None:
    """The MP3 with its number of frames stated; None where it states that itself, and truly, or it cannot be told."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = _first_frame(data)
        if start is None or _states_length(data, start):
            return None
        begin = start + _frame(data, start).size if _is_info(data, start) else start  # type: ignore[union-attr]
        count = _count(data, begin)
        header = bytearray(data[begin : begin + 4])
    header[1] |= 1  # no checksum behind the header
    frame = _frame(header, 0)
    if frame is None:
        return None
    place = 4 + _side_info(header)
    content = header + bytes(place - 4) + b"Xing" + struct.pack(">II", 1, count)
    if len(content) > frame.size:
        return None
    return Stated(path, bytes(content.ljust(frame.size, b"\0")), begin)


def _frame(data: bytes | bytearray | mmap.mmap, place: int) -> _Frame | None:
    """The frame whose header lies at `place`; None where there is none (or one of free format)."""
    if place + 4 > len(data) or data[place] != 0xFF or data[place + 1] & 0xE6 != 0xE2:  # sync, layer III
        return None
    version, rate, bits = data[place + 1] >> 3 & 3, data[place + 2] >> 2 & 3, data[place + 2] >> 4
    if version == 1 or rate == 3 or bits in (0, 15):
        return None
    first = version == 3
    size = (144 if first else 72) * _KILOBITS[1 if first else 2][bits] * 1000 // _RATES[version][rate]
    return _Frame(size + (data[place + 2] >> 1 & 1), version << 2 | rate)


def _first_frame(data: mmap.mmap) -> int | None:
    """Where the first frame lies that is followed by another of its kind."""
    begin = 0
    while data[begin : begin + 3] == b"ID3" and len(data) > begin + 10:
        size = data[begin + 6 : begin + 10]  # seven bits a byte
        footer = 10 if data[begin + 5] & 0x10 else 0
        begin += 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3]) + footer
    return _next_frame(data, begin, None)


def _next_frame(data: mmap.mmap, begin: int, kind: int | None) -> int | None:
    place = data.find(b"\xff", begin, begin + _SEARCHED)
    while place >= 0:
        frame = _frame(data, place)
        if frame is not None and kind in (None, frame.kind):
            following = _frame(data, place + frame.size)
            if following is not None and following.kind == frame.kind:
                return place
        place = data.find(b"\xff", place + 1, begin + _SEARCHED)
    return None


def _side_info(data: bytes | bytearray | mmap.mmap, place: int = 0) -> int:
    """Bytes between a frame's header and its sound: by version and number of channels."""
    mono = data[place + 3] >> 6 == 3
    first = data[place + 1] >> 3 & 3 == 3
    return (17 if mono else 32) if first else (9 if mono else 17)


def _info(data: mmap.mmap, place: int) -> int | None:
    """Where the Xing, Info or VBRI block of this frame begins."""
    beside = place + 4 + _side_info(data, place)
    for block, names in ((beside, (b"Xing", b"Info")), (place + 36, (b"VBRI",))):
        if data[block : block + 4] in names:
            return block
    return None


def _is_info(data: mmap.mmap, place: int) -> bool:
    return _info(data, place) is not None


def _states_length(data: mmap.mmap, place: int) -> bool:
    """Whether the first frame states how many there are, for a file of this size: it may have been cut since."""
    block = _info(data, place)
    if block is None:
        return False
    if data[block : block + 4] == b"VBRI":
        (size,) = struct.unpack(">I", data[block + 10 : block + 14])
    else:
        flags, _, size = struct.unpack(">III", data[block + 4 : block + 16])
        if flags & 3 != 3:  # not both a number of frames and of bytes
            return bool(flags & 1)
    left = len(data) - place
    return bool(size <= left + 1 and left - size <= max(_TAGS_AT_END, left // 100))


def _count(data: mmap.mmap, place: int) -> int:
    """Number of whole frames; damaged places are passed over, as decoders do."""
    sizes: dict[bytes, _Frame | None] = {}
    frame = _frame(data, place)
    kind = frame.kind if frame else None
    end, count = len(data), 0
    while place + 4 <= end:
        head = data[place : place + 3]
        if head not in sizes:
            sizes[head] = _frame(data, place)
        frame = sizes[head]
        if frame is None or frame.kind != kind:
            found = _next_frame(data, place + 1, kind)
            if found is None:
                break
            place = found
            continue
        place += frame.size
        count += place <= end
    return count
