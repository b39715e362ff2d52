"""The codecs of shards: FLAC (lossless, the default), WAV (PCM, for fast disks) and Opus (lossy, for small ones).

Encoding is a pure function of samples and rate. Decoding writes into a buffer of the caller's, of as many samples as
the index says: damage shows as another number, or as an error of the decoder.
"""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from speechmill.audio import Pcm, decode_bytes
from speechmill.errors import SpeechmillError
from speechmill.shards.flac import FlacEncoder

try:
    import miniaudio
except ImportError:  # no wheel for this machine: `flac_decoder` tells, and libsndfile does the same, slower
    miniaudio = None

CODECS = ("flac", "wav", "opus")  # also the suffixes of the members
WAV_HEADER = 44  # bytes before the samples

_FLAC_RATE, _FLAC_STEP = 655_350, 65_535  # Hz: the highest, the highest that is not a multiple of 10 (RFC 9639, 9.1)
_OPUS_BITRATE = 32_000  # bits a second
# Complexity 0 in CELT mode: ten times the speed of 10 (the default) at the same size and the same distance of the
# log-mel features from the original's, 1.1 dB; see docs/log.md.
_OPUS_OPTIONS = {"application": "audio", "compression_level": "0", "vbr": "on"}

_OF_THREAD = threading.local()

Buffer = bytes | bytearray | memoryview


def encode(codec: str, samples: Pcm, rate: int) -> bytes:
    """Encode int16 `[samples]` (mono, at least one). The bytes are the same for the same samples, codec library and
    CPU family."""
    if samples.dtype != np.int16 or samples.ndim != 1 or not len(samples):
        raise SpeechmillError(
            f"{codec}: int16 [samples] expected, at least one; found {samples.dtype} {samples.shape}."
        )
    return _ENCODERS[codec](samples, rate)


def check_codec(codec: str, rate: int) -> None:
    """Raise SpeechmillError where a codec cannot be written here, before hours of audio are decoded for it."""
    if codec == "flac" and (rate > _FLAC_RATE or (rate > _FLAC_STEP and rate % 10)):
        raise SpeechmillError(
            f"shard.codec flac: has no rate of {rate} Hz; it has those up to {_FLAC_STEP}, and multiples of 10 up to "
            f"{_FLAC_RATE}."
        )
    if codec == "opus":
        _require_av()
        if rate not in (8000, 12000, 16000, 24000, 48000):
            raise SpeechmillError(
                f"shard.codec opus: has no rate of {rate} Hz; use 8000, 12000, 16000, 24000 or 48000, or another codec."
            )


def decode_into(data: Buffer, out: Pcm, rate: int, fast: bool = True) -> None:
    """Decode one encoded utterance into `out`, int16 `[samples]`, contiguous.

    Which codec it is, the bytes say. `fast=False` has libsndfile decode everything: the readable path, which the fast
    ones are compared with.

    Raises SpeechmillError where the bytes are damaged or hold another number of samples or another rate than expected.
    What a flipped bit does: in FLAC a frame fails its checksum and is missed; in Opus a page is; a WAV has no checksum
    and only its header is checked.
    """
    if fast and miniaudio is not None and bytes(data[:4]) == b"fLaC":
        done = _flac_into(data, out, rate)
    elif fast and bytes(data[:WAV_HEADER]) == wav_header(len(out), rate):
        done = _wav_into(data, out)
    else:
        done = False
    if not done:
        samples, found = decode_bytes(bytes(data))
        _check(len(samples), found, out, rate)
        out[:] = samples


def flac_encoder() -> str:
    """The library that encodes FLAC here: libFLAC, or libsndfile, which takes longer."""
    return _flac_encoder().library


def flac_decoder() -> str:
    """The library that decodes FLAC here."""
    return "libsndfile" if miniaudio is None else "miniaudio"


def wav_header(samples: int, rate: int) -> bytes:
    """The 44 bytes before the samples of a mono 16-bit WAV."""
    size = 2 * samples
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + form + b"data" + struct.pack("<I", size)


def _flac_into(data: Buffer, out: Pcm, rate: int) -> bool:
    """dr_flac, of miniaudio. It checks every frame's checksum and leaves a damaged frame out without a word, so that
    the number of samples tells. False where the stream is not mono and 16 bit, which libsndfile shall read."""
    ffi, lib = miniaudio.ffi, miniaudio.lib
    flac = lib.ma_dr_flac_open_memory(ffi.from_buffer(data), len(data), ffi.NULL)
    if flac == ffi.NULL:
        raise SpeechmillError("not a FLAC stream that can be read.")
    try:
        if flac.channels != 1 or flac.bitsPerSample != 16:
            return False
        _check(flac.totalPCMFrameCount or len(out), flac.sampleRate, out, rate)
        found = lib.ma_dr_flac_read_pcm_frames_s16(flac, len(out), ffi.from_buffer("short[]", out))
    finally:
        lib.ma_dr_flac_close(flac)
    _check(found, rate, out, rate)
    return True


def _wav_into(data: Buffer, out: Pcm) -> bool:
    samples = np.frombuffer(data, "<i2", offset=WAV_HEADER)
    if len(samples) != len(out):
        raise SpeechmillError(f"{len(samples)} samples, its header says {len(out)}.")
    out[:] = samples
    return True


def _check(samples: int, found: int, out: Pcm, rate: int) -> None:
    if samples != len(out) or found != rate:
        raise SpeechmillError(f"{samples} samples at {found} Hz, the index says {len(out)} at {rate}.")


def _encode_wav(samples: Pcm, rate: int) -> bytes:
    return wav_header(len(samples), rate) + samples.astype("<i2").tobytes()


def _encode_opus(samples: Pcm, rate: int) -> bytes:
    """Ogg Opus by libopus, in FFmpeg. `bitexact`: else each stream had a random serial number."""
    av = _require_av()
    stream = io.BytesIO()
    with av.open(stream, "w", format="ogg", options={"fflags": "+bitexact"}) as container:
        track = container.add_stream("libopus", rate=rate, layout="mono", options=_OPUS_OPTIONS)
        track.bit_rate = _OPUS_BITRATE
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        for part in (frame, None):
            container.mux(track.encode(part))
    return stream.getvalue()


def _require_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise SpeechmillError(
            "shard.codec opus: needs the package av to write; pip install 'speechmill[opus]', or use another codec."
        ) from error
    return av


def _flac_encoder() -> FlacEncoder:
    """The thread's own."""
    if not hasattr(_OF_THREAD, "flac"):
        _OF_THREAD.flac = FlacEncoder()
    encoder: FlacEncoder = _OF_THREAD.flac
    return encoder


def _encode_flac(samples: Pcm, rate: int) -> bytes:
    return _flac_encoder().encode(np.ascontiguousarray(samples), rate)


_ENCODERS: dict[str, Callable[[Pcm, int], bytes]] = {"flac": _encode_flac, "wav": _encode_wav, "opus": _encode_opus}
