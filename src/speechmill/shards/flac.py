"""FLAC by libsndfile without the Python file between: the bytes of `audio.encode_flac`, a tenth sooner.

`soundfile` hands every frame that libFLAC writes through four Python calls. Here they go into one buffer by the C
functions that `soundfile` itself calls; where a version of it has them no longer, `encode_flac` does the work.
"""

from __future__ import annotations

from typing import Any

import soundfile

from speechmill.audio import FLAC_LEVEL, Pcm, encode_flac

_WRITE, _FLAC_PCM_16, _SET_LEVEL = 0x20, 0x170000 | 0x0002, 0x1301  # of sndfile.h
_SLACK = 1 << 16  # bytes: headers, and samples that do not compress


class FlacEncoder:
    """Encodes one utterance after the other; one for each process."""

    def __init__(self) -> None:
        self._ffi: Any = getattr(soundfile, "_ffi", None)
        self._library: Any = getattr(soundfile, "_snd", None)
        self._at = self._end = self._size = 0
        if self.fast:
            self._prepare()

    @property
    def fast(self) -> bool:
        return self._ffi is not None and hasattr(self._library, "sf_open_virtual")

    def _prepare(self) -> None:
        ffi = self._ffi
        self._info, self._level = ffi.new("SF_INFO*"), ffi.new("double*", FLAC_LEVEL)
        # Kept: the library only borrows them.
        self._calls = {
            "get_filelen": ffi.callback("sf_vio_get_filelen", lambda _: self._end),
            "seek": ffi.callback("sf_vio_seek", self._seek),
            "read": ffi.callback("sf_vio_read", lambda *_: 0),
            "write": ffi.callback("sf_vio_write", self._write),
            "tell": ffi.callback("sf_vio_tell", lambda _: self._at),
        }
        self._file = ffi.new("SF_VIRTUAL_IO*", self._calls)

    def _seek(self, offset: int, whence: int, data: object) -> int:
        del data
        self._at = offset + (0, self._at, self._end)[whence]
        return self._at

    def _write(self, source: Any, count: int, data: object) -> int:
        del data
        after = self._at + count
        if after > self._size:
            return 0
        self._ffi.memmove(self._buffer + self._at, source, count)
        self._at = after
        if after > self._end:
            self._end = after
        return count

    def encode(self, samples: Pcm, rate: int) -> bytes:
        """As `encode_flac`, of int16 `[samples]`, at least one."""
        return (self._encode(samples, rate) if self.fast else None) or encode_flac(samples, rate)

    def _encode(self, samples: Pcm, rate: int) -> bytes | None:
        ffi, library = self._ffi, self._library
        if self._size < samples.nbytes + _SLACK:
            self._size = 2 * (samples.nbytes + _SLACK)
            self._buffer = ffi.new("char[]", self._size)
        self._at = self._end = 0
        info = self._info
        info.samplerate, info.channels, info.format, info.frames = rate, 1, _FLAC_PCM_16, 0
        file = library.sf_open_virtual(self._file, _WRITE, info, ffi.NULL)
        if file == ffi.NULL:
            return None
        library.sf_command(file, _SET_LEVEL, self._level, 8)
        done = library.sf_writef_short(file, ffi.from_buffer("short[]", samples), len(samples))
        failed = library.sf_close(file)
        return None if failed or done != len(samples) else bytes(ffi.buffer(self._buffer, self._end))
