"""A speaker's voice as a transform of the acoustic model's means: maximum likelihood linear regression.

Leggetter and Woodland (1995), "Maximum likelihood linear regression for speaker adaptation of continuous density hidden
Markov models". One affine transform of the cepstra for all phones, the same (without its offset) for their first and
second differences: 182 numbers, which some seconds of speech determine. It cannot learn words, only how a voice and its
line sound; so it may be estimated from text that is only expected, and what is then heard still tells whether it was
said.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from speechmill.align.acoustics import STREAMS, Array, Gaussians, one_thread, transformed

_PRIOR = 300.0  # frames: so much weighs the voice of the model itself
_ROUNDS = 2  # of expectation and maximisation


def estimate(model: Gaussians, spoken: Sequence[tuple[str, Array]]) -> Array:
    """The transform `[13, 14]` (its last column is the offset) under which the model's means fit what was spoken:
    phones with their frames, `[frames, 3, 13]`.
    """
    size = model.means.shape[-1]
    transform = np.eye(size, size + 1)
    for _ in range(_ROUNDS):
        transform = _maximise(model, *_expect(model, transformed(model.means, transform), spoken))
    return transform


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
    extended, squares = _extended(model)
    flat_counts, flat_sums = counts.reshape(-1), sums.reshape(-1, size)
    inverse = 1.0 / model.variances.reshape(-1, size)
    prior = _PRIOR / max(float(counts[:, 0].sum()), 1.0)
    seen = np.flatnonzero(flat_counts)
    weights = inverse[seen] * flat_counts[seen, None]
    with one_thread():
        sides = (weights.T @ squares[seen]).reshape(size, size + 1, size + 1)
        goals = (flat_sums[seen] * inverse[seen]).T @ extended[seen]
    rows = []
    for row, (square, goal) in enumerate(zip(sides, goals, strict=True)):
        pull = np.diag(np.diag(square)) * prior
        rows.append(np.linalg.solve(square + pull + 1e-9 * np.eye(size + 1), goal + pull @ np.eye(size + 1)[row]))
    return np.array(rows)


@cache
def _extended(model: Gaussians) -> tuple[Array, Array]:
    """The model's means with the offset's factor, `[Gaussians, 14]`, and each one's square, `[Gaussians, 14 * 14]`."""
    offset = np.zeros((*model.means.shape[:3], 1))
    offset[:, 0] = 1.0
    extended = np.concatenate([model.means, offset], axis=-1).reshape(-1, model.means.shape[-1] + 1)
    return extended, (extended[:, :, None] * extended[:, None, :]).reshape(len(extended), -1)


def write(transform: Array, path: Path) -> None:
    """Sphinx's file of one class: for each stream the matrix, the offset, and factors of variances (ones)."""
    size = len(transform)
    lines = ["1", str(STREAMS)]
    for stream in range(STREAMS):
        offset = transform[:, -1] if stream == 0 else np.zeros(size)
        lines.append(str(size))
        lines += [" ".join(f"{value:.6f}" for value in row) for row in [*transform[:, :-1], offset, np.ones(size)]]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
