"""Audio in and out: libsndfile reads and writes, soxr resamples. Samples are int16, mono, in memory."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from speechmill.errors import SpeechmillError
from speechmill.mp3 import stated

Pcm = npt.NDArray[np.int16]

RATE = 16_000  # Hz
_BLOCK = 1 << 18  # frames read at a time: 1 MiB a channel, whatever the length of the recording
# libFLAC's level 5 of 8, libsndfile's default. By measurement (docs/log.md): 0 to 2 are a tenth faster and 2 % larger,
# 8 is half as fast and 2 % smaller.
FLAC_LEVEL = 0.625
_MARGIN = 0.25  # seconds of sound around a span, so that the resampling filter sees what it would see in the whole
# Formats where libsndfile seeks to the very sample. After a seek in an MP3 the decoder lacks the bit reservoir: what
# follows is off by 1e-7 of full scale at best, and it complains on standard error.
_EXACT_SEEK = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "FLAC"}


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]
    """A file read from start to end: `soundfile` seeks after every read, unless it is told that it cannot."""

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a recording says."""

    samplerate: int  # Hz
    frames: int  # samples per channel
    channels: int

    @property
    def seconds(self) -> float:
        return self.frames / self.samplerate


def probe(path: Path | str) -> AudioInfo:
    """Read the header only. Raises SpeechmillError where the file is missing, unreadable, empty or of zero length."""
    with _open(path) as file:
        return AudioInfo(file.samplerate, file.frames, file.channels)


def decode(path: Path | str, rate: int = RATE, start: float | None = None, end: float | None = None) -> Pcm:
    """Decode a recording, or its span from `start` to `end` (seconds), to mono at `rate` Hz.

    Returns int16 `[samples]`: the channels' mean, resampled (soxr HQ), rounded, clipped. A span is cut at the samples
    `round(start * rate)` and `round(end * rate)` and ends with the recording where that is earlier. It equals the same
    slice of the whole recording exactly where nothing is resampled; else a sample may differ by one step of int16
    (1/32768), because the resampler adds up in another order. Memory is that of the result and one block.
    A span of an MP3 is decoded from the start of the file: exact, but slow for many spans of one file.

    Raises SpeechmillError where the file is missing, unreadable, empty or truncated, or the span holds no sample.
    """
    first = round((start or 0.0) * rate)
    last = None if end is None else round(end * rate)
    if first < 0 or (last is not None and last <= first):
        raise SpeechmillError(f"{path}: the span {start} to {end} s holds no sample.")
    with _open(path) as file:
        period = file.samplerate // math.gcd(file.samplerate, rate)  # source frames after which the phases repeat
        step = rate // math.gcd(file.samplerate, rate)  # output samples in that time
        skipped = max(0, first // step - math.ceil(_MARGIN * rate / step)) if start is not None else 0
        stop = file.frames
        if last is not None:
            stop = min(stop, math.ceil(last * file.samplerate / rate) + math.ceil(_MARGIN * file.samplerate))
        try:
            blocks = list(_resampled(file, skipped * period, stop, rate))
        except soundfile.LibsndfileError as error:
            raise SpeechmillError(f"{path}: the audio cannot be decoded ({_reason(error)}).") from error
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.int16)
    offset = first - skipped * step
    samples = samples[offset : None if last is None else last - skipped * step]
    if not len(samples):
        raise SpeechmillError(f"{path}: no sound between {start or 0.0:.3f} s and {end or 'the end'}: it ends earlier.")
    return samples


def _resampled(file: soundfile.SoundFile, start: int, stop: int, rate: int) -> Iterator[Pcm]:
    """Yield int16 blocks of the source frames `start` to `stop`, at `rate` Hz."""
    resampler = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="HQ")
    for block in _mono(file, start, stop):
        yield _int16(block if file.samplerate == rate else resampler.resample_chunk(block))
    if file.samplerate != rate:
        yield _int16(resampler.resample_chunk(np.zeros(0, np.float32), last=True))


def _mono(file: soundfile.SoundFile, start: int, stop: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the mean of the channels, float32 blocks, from frame `start` to frame `stop`."""
    position = start
    if file.format in _EXACT_SEEK:
        file.seek(min(start, file.frames))
    else:
        position = 0
    while position < stop:
        aim = start if position < start else stop
        block = file.read(min(_BLOCK, aim - position), dtype="float32", always_2d=True)
        if not len(block):
            # The length in an MP3's header is an estimate; other formats state it.
            if file.format in _EXACT_SEEK:
                raise SpeechmillError(
                    f"{file.name}: truncated: the sound ends at {position / file.samplerate:.2f} s, "
                    f"the header says {file.frames / file.samplerate:.2f} s."
                )
            return
        if position >= start:
            yield block.mean(axis=1) if block.shape[1] > 1 else block[:, 0]
        position += len(block)


def _int16(samples: npt.NDArray[np.float32]) -> Pcm:
    scaled = np.rint(np.nan_to_num(samples) * 32768.0)
    pcm: Pcm = np.clip(scaled, -32768, 32767).astype(np.int16)
    return pcm


def encode_flac(samples: Pcm, rate: int) -> bytes:
    """Encode int16 `[samples]` (mono) as FLAC: lossless, and the same bytes for the same samples and libFLAC."""
    if samples.dtype != np.int16 or samples.ndim != 1 or not len(samples):
        raise SpeechmillError(f"FLAC: int16 [samples] expected, at least one; found {samples.dtype} {samples.shape}.")
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="FLAC", subtype="PCM_16", compression_level=FLAC_LEVEL)
    return stream.getvalue()


def decode_bytes(data: bytes, name: str = "audio") -> tuple[Pcm, int]:
    """Decode a small file held in memory: (int16 `[samples]` mono, rate in Hz), not resampled.

    Raises SpeechmillError, beginning with `name`, where the bytes are not audio or hold no sample.
    """
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise SpeechmillError(f"{name}: not audio that libsndfile reads ({_reason(error)}).") from error
    if not len(samples):
        raise SpeechmillError(f"{name}: holds no sample.")
    mono = samples[:, 0] if samples.shape[1] == 1 else np.rint(samples.mean(axis=1)).astype(np.int16)
    return np.ascontiguousarray(mono), int(rate)


def _open(path: Path | str) -> soundfile.SoundFile:
    try:
        size = Path(path).stat().st_size
    except FileNotFoundError as error:
        raise SpeechmillError(f"{path}: no such recording.") from error
    except OSError as error:
        raise SpeechmillError(f"{path}: cannot be read ({error.strerror}).") from error
    if size == 0:
        raise SpeechmillError(f"{path}: the recording is empty (0 bytes).")
    try:
        file = soundfile.SoundFile(path)
        if file.format not in _EXACT_SEEK:
            file.close()
            file = _Sequential((stated(Path(path)) if file.format == "MP3" else None) or path)
    except (soundfile.LibsndfileError, TypeError) as error:  # a TypeError: ".raw" has no header
        raise SpeechmillError(f"{path}: not audio that libsndfile reads ({_reason(error)}).") from error
    if file.frames <= 0:
        file.close()
        raise SpeechmillError(f"{path}: the recording has zero length.")
    return file


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).strip().rstrip(".")
