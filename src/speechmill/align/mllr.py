"""A speaker's voice as a transform of the acoustic model's means: maximum likelihood linear regression.

Leggetter and Woodland (1995), "Maximum likelihood linear regression for speaker adaptation of continuous density hidden
Markov models". One affine transform of the cepstra for all phones, the same (without its offset) for their first and
second differences: 182 numbers, which some seconds of speech determine. It cannot learn words, only how a voice and its
line sound; so it may be estimated from text that is only expected, and what is then heard still tells whether it was
said.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speechmill.errors import SpeechmillError

Array = npt.NDArray[np.float64]
_STREAMS = 3  # cepstra, their first and second differences
_PRIOR = 300.0  # frames: so much weighs the voice of the model itself
_ROUNDS = 2  # of expectation and maximisation
_FLOOR = 1e-4  # of variances, as PocketSphinx has it


@dataclass(frozen=True)
class Gaussians:
    """The model's Gaussians, `[phones, streams, densities, cepstra]`; a phone's name is its place in `phones`."""

    means: Array
    variances: Array
    phones: dict[str, int]


@cache
def gaussians(model: Path) -> Gaussians:
    """Those of a phonetically tied model in Sphinx's files. Raises SpeechmillError for another kind."""
    means, variances = (_parameters(model / name) for name in ("means", "variances"))
    phones = _phones(model / "mdef")
    if means.shape != variances.shape or means.shape[:2] != (len(phones), _STREAMS):
        raise SpeechmillError(f"{model}: expected Gaussians of {len(phones)} phones in {_STREAMS} streams.")
    return Gaussians(means, np.maximum(variances, _FLOOR), phones)


def _parameters(path: Path) -> Array:
    """A Sphinx-3 file: a text header, a byte order mark, counts, 32-bit floats."""
    data = path.read_bytes()
    place = data.index(b"endhdr\n") + 7
    mark, codebooks, streams, densities = struct.unpack_from("<4i", data, place)
    lengths = struct.unpack_from(f"<{streams}i", data, place + 16)
    if mark != 0x11223344 or len(set(lengths)) != 1:
        raise SpeechmillError(f"{path}: expected little-endian numbers in streams of one length.")
    floats = np.frombuffer(data, "<f4", codebooks * streams * densities * lengths[0], place + 20 + 4 * streams)
    return floats.reshape(codebooks, streams, densities, lengths[0]).astype(np.float64)


def _phones(path: Path) -> dict[str, int]:
    """Names of the context-independent phones in a binary mdef: a header, ten counts, names ended by zeros."""
    data = path.read_bytes()
    if data[:4] != b"BMDF":
        raise SpeechmillError(f"{path}: expected a binary model definition.")
    place = 12 + struct.unpack_from("<i", data, 8)[0]
    count = struct.unpack_from("<i", data, place)[0]
    names = data[place + 40 :].split(b"\0", count)[:count]
    return {name.decode("ascii"): number for number, name in enumerate(names)}


def differences(cepstra: Array) -> Array:
    """`[frames, 13]` -> `[frames, 3, 13]` as PocketSphinx has them: mean taken off, differences over 4 and 2 x 4."""
    if not len(cepstra):
        return np.zeros((0, _STREAMS, cepstra.shape[1]))
    spoken = cepstra[cepstra[:, 0] >= 0]
    centred = cepstra - (spoken if len(spoken) else cepstra).mean(axis=0)
    frames = len(centred)
    padded = np.concatenate([centred[:1]] * 3 + [centred] + [centred[-1:]] * 3)
    at = [padded[shift : shift + frames] for shift in range(7)]  # at[3] is the frame itself
    return np.stack([centred, at[5] - at[1], (at[6] - at[2]) - (at[4] - at[0])], axis=1)


def estimate(model: Gaussians, spoken: Sequence[tuple[str, Array]]) -> Array:
    """The transform `[13, 14]` (its last column is the offset) under which the model's means fit what was spoken:
    phones with their frames, `[frames, 3, 13]`.
    """
    size = model.means.shape[-1]
    transform = np.eye(size, size + 1)
    for _ in range(_ROUNDS):
        transform = _maximise(model, *_expect(model, transformed(model.means, transform), spoken))
    return transform


def transformed(means: Array, transform: Array) -> Array:
    """`[phones, streams, densities, 13]` under a transform; differences have no offset."""
    found = means @ transform[:, :-1].T
    found[:, 0] += transform[:, -1]
    return found


def _expect(model: Gaussians, means: Array, spoken: Sequence[tuple[str, Array]]) -> tuple[Array, Array]:
    """How many frames fall to each Gaussian `[phones, streams, densities]`, and their sums `[..., 13]`.

    Weights of a mixture are taken as equal: a global transform is not sensitive to them.
    """
    counts, sums = np.zeros(means.shape[:3]), np.zeros(means.shape)
    for phone, frames in spoken:
        number = model.phones[phone]
        variances = model.variances[number]  # [streams, densities, 13]
        apart = frames[:, :, None, :] - means[number]
        likelihood = -0.5 * ((apart * apart / variances).sum(-1) + np.log(variances).sum(-1))
        share = np.exp(likelihood - likelihood.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)  # [frames, streams, densities]
        counts[number] += share.sum(0)
        sums[number] += np.einsum("fsd,fsc->sdc", share, frames)
    return counts, sums


def _maximise(model: Gaussians, counts: Array, sums: Array) -> Array:
    """The weighted least squares of each row of the transform, drawn to identity by `_PRIOR` frames."""
    size = model.means.shape[-1]
    offset = np.zeros((*model.means.shape[:3], 1))
    offset[:, 0] = 1.0
    extended = np.concatenate([model.means, offset], axis=-1).reshape(-1, size + 1)
    flat_counts, flat_sums = counts.reshape(-1), sums.reshape(-1, size)
    variances = model.variances.reshape(-1, size)
    prior = _PRIOR / max(float(counts[:, 0].sum()), 1.0)
    rows = []
    for row in range(size):
        weighted = extended * (flat_counts / variances[:, row])[:, None]
        square = weighted.T @ extended
        pull = np.diag(np.diag(square)) * prior
        goal = extended.T @ (flat_sums[:, row] / variances[:, row]) + pull @ np.eye(size + 1)[row]
        rows.append(np.linalg.solve(square + pull + 1e-9 * np.eye(size + 1), goal))
    return np.array(rows)


def write(transform: Array, path: Path) -> None:
    """Sphinx's file of one class: for each stream the matrix, the offset, and factors of variances (ones)."""
    size = len(transform)
    lines = ["1", str(_STREAMS)]
    for stream in range(_STREAMS):
        offset = transform[:, -1] if stream == 0 else np.zeros(size)
        lines.append(str(size))
        lines += [" ".join(f"{value:.6f}" for value in row) for row in [*transform[:, :-1], offset, np.ones(size)]]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
