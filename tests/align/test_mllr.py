"""A voice as a transform of the acoustic model's means."""

from pathlib import Path

import numpy as np

from speechmill.align.acoustics import Gaussians, transformed
from speechmill.align.mllr import estimate, write

RNG = np.random.default_rng(0)


def model(phones: int = 3, densities: int = 6) -> Gaussians:
    """Well parted Gaussians, so that each frame has one that it is of."""
    means = RNG.normal(0.0, 4.0, (phones, 3, densities, 13))
    return Gaussians(means, np.full_like(means, 0.3), {name: place for place, name in enumerate("abcdef"[:phones])})


def spoken(known: Gaussians, transform: np.ndarray, frames: int) -> list[tuple[str, np.ndarray]]:
    """Frames drawn from the Gaussians under a transform."""
    means = transformed(known.means, transform)
    found = []
    for name, place in known.phones.items():
        which = RNG.integers(0, means.shape[2], (3, frames))
        drawn = np.stack([means[place, stream, which[stream]] for stream in range(3)], axis=1)
        found.append((name, drawn + RNG.normal(0.0, 0.3**0.5, drawn.shape)))
    return found


def test_the_transform_of_a_voice_is_found() -> None:
    known = model()
    true = np.concatenate([np.eye(13) + RNG.normal(0.0, 0.05, (13, 13)), RNG.normal(0.0, 0.8, (13, 1))], axis=1)
    found = estimate(known, spoken(known, true, 4000))
    assert np.abs(found - true).max() < 0.12
    assert np.abs(np.eye(13, 14) - true).max() > 0.5


def test_a_little_speech_changes_little() -> None:
    known = model()
    true = np.concatenate([np.eye(13), np.full((13, 1), 1.0)], axis=1)
    few, many = (np.abs(estimate(known, spoken(known, true, n)) - np.eye(13, 14)).max() for n in (3, 3000))
    assert few < 0.1 < many


def test_a_voice_in_the_decoders_file(tmp_path: Path) -> None:
    transform = np.arange(13 * 14, dtype=float).reshape(13, 14)
    write(transform, tmp_path / "voice.mllr")
    lines = (tmp_path / "voice.mllr").read_text().splitlines()
    assert lines[:3] == ["1", "3", "13"]
    first = np.array([line.split() for line in lines[3:16]], float)
    assert np.array_equal(first, transform[:, :13])
    assert lines[16].split() == [f"{value:.6f}" for value in transform[:, 13]]
    assert set(lines[17].split()) == {"1.000000"}
    assert set(lines[18 + 1 + 13].split()) == {"0.000000"}  # differences have no offset
