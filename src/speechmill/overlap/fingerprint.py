"""A fingerprint of sound that survives another rate, level or codec: 32 bits every 32 ms.

After Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR 2002): in 33 bands between 300 and
3,000 Hz (what a telephone leaves) a bit says whether the difference of two neighbouring bands grows. Equal sound gives
nearly equal bits, other sound agrees in half of them. Frames much quieter than the recording hold nothing to compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.fft

from speechmill.audio import Pcm, decode

RATE = 8000  # Hz
HOP = 256  # samples
SECONDS = HOP / RATE  # of a step
_FRAME = 2048  # samples
_BANDS = 33
_LOWEST, _HIGHEST = 300.0, 3000.0  # Hz
_LAG = 4  # steps between the frames that are compared: shorter, and rounding decides the bits
_QUIET = 1e-4  # of the power of the loudest twentieth (40 dB)
_BLOCK = 4096  # frames at a time: 32 MiB


@dataclass(frozen=True)
class Fingerprint:
    """Of one recording. Step `k` begins at `k * SECONDS`."""

    bits: npt.NDArray[np.uint32]  # [steps]
    heard: npt.NDArray[np.bool_]  # [steps]; false where it is too quiet to tell

    def __len__(self) -> int:
        return len(self.bits)


def read_fingerprint(path: Path | str) -> Fingerprint:
    """Of a recording of any rate and number of channels. Raises SpeechmillError where it cannot be decoded."""
    return fingerprint_of(decode(path, RATE))


def fingerprint_of(samples: Pcm) -> Fingerprint:
    """Of int16 `[samples]` at RATE; empty where there is less than half a second of it."""
    energy = _energies(samples)
    if len(energy) <= _LAG:
        return Fingerprint(np.zeros(0, np.uint32), np.zeros(0, np.bool_))
    slope = np.diff(np.log(energy + 1e-9), axis=1)
    rising = slope[_LAG:] > slope[:-_LAG]
    bits = np.packbits(rising, axis=1).view(">u4")[:, 0].astype(np.uint32)
    power = energy.sum(axis=1)
    # At both frames: a bit compares the two.
    loud = power > _QUIET * np.quantile(power, 0.95)
    return Fingerprint(bits, loud[_LAG:] & loud[:-_LAG] & (power[_LAG:] > 0))


def _energies(samples: Pcm) -> npt.NDArray[np.float32]:
    """Power in each band, [frames, bands]."""
    count = max(0, (len(samples) - _FRAME) // HOP + 1)
    edges = np.geomspace(_LOWEST, _HIGHEST, _BANDS + 1) * _FRAME / RATE
    places = np.round(edges).astype(int)
    window = np.hanning(_FRAME).astype(np.float32) / np.float32(32768 * _FRAME / 4)
    found = np.empty((count, _BANDS), np.float32)
    for start in range(0, count, _BLOCK):
        stop = min(count, start + _BLOCK)
        part = samples[start * HOP : (stop - 1) * HOP + _FRAME].astype(np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(part, _FRAME)[::HOP]
        spectrum = scipy.fft.rfft(frames * window, axis=1)[:, places[0] : places[-1]]
        power = spectrum.real**2 + spectrum.imag**2
        found[start:stop] = np.add.reduceat(power, places[:-1] - places[0], axis=1)
    return found


def disagreement(left: npt.NDArray[np.uint32], right: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]:
    """Share of the 32 bits that differ, for each step."""
    share: npt.NDArray[np.float32] = np.bitwise_count(left ^ right).astype(np.float32) / np.float32(32)
    return share
