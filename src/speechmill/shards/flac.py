"""FLAC of utterances: the header in its plainest form, the frames of libFLAC.

A quarter of the time that libsndfile takes to encode goes into an MD5 of the samples, which it cannot be told to leave
out. Nothing here asks for it: frames have checksums, the header and the index have the number of samples, and each
shard has a SHA-256. So libFLAC is called itself where the package pyflac (extra `speechmill[flac]`) has brought it, on
Linux, and libsndfile elsewhere. Debian's own libFLAC is not looked for: it is built without the instructions that make
it fast. Either way the header says "MD5 unset" and "sizes of frames unknown" (RFC 9639, 8.2), and nothing follows it
but frames: the bytes do not depend on which of the two a machine has. That they code alike is tried on a few sounds
when the first encoder is made; `benchmarks.shards` compares hours of speech.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from speechmill.audio import FLAC_LEVEL, Pcm, encode_flac
from speechmill.errors import SpeechmillError

_LEVEL = round(FLAC_LEVEL * 8)  # libsndfile counts from 0 to 1
_BITS = 16
_STREAMINFO = 34  # bytes
_SLACK = 1 << 16  # bytes: headers, and samples that do not compress
_WRITTEN = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p
)


class FlacEncoder:
    """Encodes one utterance after the other; one for each thread."""

    def __init__(self) -> None:
        library = _trusted_libflac()
        self._libflac = _Libflac(library) if library else None

    @property
    def library(self) -> str:
        """What does the work: libFLAC itself, or libsndfile."""
        return "libFLAC" if self._libflac else "libsndfile"

    def encode(self, samples: Pcm, rate: int) -> bytes:
        """FLAC of int16 `[samples]`, at least one, at `rate` Hz; the same bytes for the same samples."""
        if samples.dtype != np.int16 or samples.ndim != 1 or not len(samples):
            raise SpeechmillError(
                f"FLAC: int16 [samples] expected, at least one; found {samples.dtype} {samples.shape}."
            )
        with _interrupts_later():
            whole = self._libflac.encode(samples, rate) if self._libflac else None
            return plain(whole or encode_flac(samples, rate))


def plain(data: bytes) -> bytes:
    """A FLAC stream with the header and nothing else before its frames; MD5 and sizes of frames are taken out of it."""
    at, last = 4, False
    while not last:
        last, size = bool(data[at] & 0x80), int.from_bytes(data[at + 1 : at + 4], "big")
        at += 4 + size
    info = bytearray(data[8 : 8 + _STREAMINFO])
    info[4:10] = bytes(6)  # least and most bytes of a frame
    info[18:34] = bytes(16)  # MD5
    return b"".join((b"fLaC\x80", _STREAMINFO.to_bytes(3, "big"), info, data[at:]))


@cache
def _trusted_libflac() -> ctypes.CDLL | None:
    """pyflac's libFLAC, if it is there and codes as the one in libsndfile does."""
    for library in _libraries():
        try:
            libflac = _Libflac(library)
        except (AttributeError, OSError, SpeechmillError):  # not a libFLAC with all of the functions
            continue
        trials = ((libflac.encode(sound, rate), encode_flac(sound, rate)) for sound, rate in _trials())
        if all(found is not None and plain(found) == plain(expected) for found, expected in trials):
            return library
    return None


def _trials() -> Iterator[tuple[Pcm, int]]:
    """Sounds that make an encoder choose each of its ways: prediction, silence, as it is, bits that are never used."""
    dice = np.random.default_rng(0)
    walk, noise = np.cumsum(dice.standard_normal(20_000)) * 100, dice.standard_normal(20_000)
    yield (walk + 300 * noise).astype(np.int16), 16_000
    yield (8000 * np.sin(np.arange(20_000) * 0.05) + 20 * noise).astype(np.int16), 8_000
    yield np.zeros(5_000, np.int16), 16_000
    yield dice.integers(-32768, 32767, 5_000, np.int16, endpoint=True), 44_100
    yield (walk[:9_000].astype(np.int16) // 16) * 16, 48_000
    yield np.array([-32768], np.int16), 16_000


def _libraries() -> Iterator[ctypes.CDLL]:
    if sys.platform != "linux":
        return  # not tried there
    spec = importlib.util.find_spec("pyflac")  # not imported: that would make its own binding
    for folder in (spec and spec.submodule_search_locations) or []:
        for path in sorted(Path(folder).glob("libraries/*/libFLAC*")):
            with contextlib.suppress(OSError):  # another machine's: there is one for each kind
                yield ctypes.CDLL(str(path))


class _Libflac:
    """libFLAC's stream encoder (FLAC/stream_encoder.h), its MD5 turned off (share/private.h, which is kept stable).

    It writes into a buffer through a callback: a file in memory, tried too, takes back half of what the MD5 had cost.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        def function(name: str, result: Any, *arguments: Any) -> Any:
            found = getattr(library, f"FLAC__stream_encoder_{name}")
            found.restype, found.argtypes = result, arguments
            return found

        pointer, number = ctypes.c_void_p, ctypes.c_uint32
        self._settings = [
            function(f"set_{name}", ctypes.c_int, pointer, number)
            for name in ("channels", "bits_per_sample", "sample_rate", "compression_level", "do_md5")
        ]
        self._set_total = function("set_total_samples_estimate", ctypes.c_int, pointer, ctypes.c_uint64)
        self._init = function("init_stream", ctypes.c_int, pointer, _WRITTEN, *[pointer] * 4)
        self._process = function("process_interleaved", ctypes.c_int, pointer, pointer, number)
        self._finish = function("finish", ctypes.c_int, pointer)
        delete = function("delete", None, pointer)
        self._encoder = function("new", pointer)()
        if not self._encoder:
            raise SpeechmillError("libFLAC: no memory for an encoder.")
        weakref.finalize(self, delete, self._encoder)
        self._reserve(0)

    def _reserve(self, size: int) -> None:
        self._buffer = np.empty(size, np.uint8)
        self._address, self._size = self._buffer.ctypes.data, size

    def _write(self, encoder: int, source: int, count: int, samples: int, frame: int, data: int) -> int:
        del encoder, frame, data
        if self._at + count > self._size:
            return 1  # a fatal error
        ctypes.memmove(self._address + self._at, source, count)
        self._at += count
        self._coded += samples
        return 0

    def encode(self, samples: Pcm, rate: int) -> bytes | None:
        """None where the library refuses, or something went wrong in between."""
        if self._size < samples.nbytes + _SLACK:
            self._reserve(2 * (samples.nbytes + _SLACK))
        self._at = self._coded = 0
        wide = samples.astype(np.int32)
        encoder, written = self._encoder, _WRITTEN(self._write)
        put = zip(self._settings, (1, _BITS, rate, _LEVEL, 0), strict=True)
        ready = all(setting(encoder, value) for setting, value in put) and self._set_total(encoder, len(wide))
        ready = ready and not self._init(encoder, written, *[None] * 4)
        done = ready and self._process(encoder, wide.ctypes.data, len(wide))
        done = self._finish(encoder) and done  # also makes it ready for the next
        # An exception in a callback, such as one of memory, is lost, and what C is told then is anything.
        whole = self._coded == len(samples)
        return self._buffer[: self._at].tobytes() if done and whole else None


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Ctrl-C is heard at the end: in a callback from C, libFLAC's or libsndfile's, its exception would be lost."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda _, frame: heard.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        before(signal.SIGINT, heard[0])
