"""Sound that changes like speech: syllables of a few harmonics with pauses, no two seeds alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RATE = 16000


def speechlike(seconds: float, seed: int) -> npt.NDArray[np.float32]:
    """float32 `[samples]` at RATE."""
    rng = np.random.default_rng(seed)
    parts: list[npt.NDArray[np.float64]] = []
    count = 0
    while count < seconds * RATE:
        length = int(rng.uniform(0.08, 0.3) * RATE)
        time = np.arange(length) / RATE
        pitch = rng.uniform(90, 250) * (1 + rng.uniform(-0.2, 0.2) * time)
        tones = range(1, 20)
        levels = rng.uniform(0, 1, len(tones)) ** 3
        voice = sum(
            level * np.sin(2 * np.pi * k * np.cumsum(pitch) / RATE) for k, level in zip(tones, levels, strict=True)
        )
        syllable = np.hanning(length) * (voice + 0.3 * rng.standard_normal(length))
        parts += [0.1 * syllable, np.zeros(int(rng.uniform(0, 0.1) * RATE))]
        count += length + len(parts[-1])
    return np.concatenate(parts)[: round(seconds * RATE)].astype(np.float32)
