"""A phonetically tied acoustic model in Sphinx's files, and how likely it finds each frame of sound.

Each phone has 128 Gaussians in each of three streams (cepstra, their first and second differences); a senone, the state
of a phone between two others, is a mixture of its phone's. Here all senones are computed, as products of matrices:
PocketSphinx goes through those that its search asks for, which is slower where many sentences are tried on one stretch.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from speechmill.errors import SpeechmillError

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

STREAMS = 3  # cepstra, their first and second differences
STATES = 3  # of a phone, one after the other
SILENCE = "SIL"
_FLOOR = 1e-4  # of variances, as PocketSphinx has it
_WEIGHT = 1024e-4  # a step of a mixture weight's logarithm, as PocketSphinx has it
_INSIDE, _FIRST, _LAST, _ALONE = range(4)  # where in its word a phone stands
_FRAMES = 64  # computed at once: what they take stays in the cache


@dataclass(frozen=True, eq=False)
class Gaussians:
    """The model's Gaussians, `[phones, streams, densities, cepstra]`; a phone's name is its place in `phones`."""

    means: Array
    variances: Array
    phones: dict[str, int]


@dataclass(frozen=True, eq=False)
class Senones:
    """Mixtures and their places: of which phone's Gaussians they are made, and which triphone has which."""

    weights: Floats  # [streams, densities, senones]
    owners: Ints  # [senones]: the phone
    stay: Floats  # [transition matrices, STATES]: log probability of one more frame in a state
    move: Floats  # likewise of leaving it
    keys: Ints  # of all triphones, see `_key`, in order
    of_key: Ints  # [triphones, STATES + 1]: their senones, and their transition matrix
    alone: Ints  # [phones, STATES + 1]: the same where a phone's neighbours are not looked at


@cache
def gaussians(model: Path) -> Gaussians:
    """Raises SpeechmillError for a model of another kind."""
    means, variances = (_parameters(model / name) for name in ("means", "variances"))
    phones = _phones(model / "mdef")[0]
    if means.shape != variances.shape or means.shape[:2] != (len(phones), STREAMS):
        raise SpeechmillError(f"{model}: expected Gaussians of {len(phones)} phones in {STREAMS} streams.")
    return Gaussians(means, np.maximum(variances, _FLOOR), phones)


@cache
def senones(model: Path) -> Senones:
    """Raises SpeechmillError for a model of another kind."""
    names, counts, place = _phones(model / "mdef")
    data = (model / "mdef").read_bytes()
    _, phones, states, _, count, _, sequences, _, nodes, _ = counts
    if states != STATES:
        raise SpeechmillError(f"{model / 'mdef'}: expected phones of {STATES} states, not {states}.")
    place += 8 * nodes  # a tree by which PocketSphinx finds triphones
    kind = np.dtype([("sequence", "<i4"), ("transitions", "<i4"), ("at", "u1"), ("context", "u1", 3)])
    table = np.frombuffer(data, kind, phones, place)
    of_sequence = np.frombuffer(data, "<i2", sequences * STATES, place + 12 * phones + 4).reshape(-1, STATES)
    rows = np.concatenate([of_sequence[table["sequence"]], table["transitions"][:, None]], axis=1).astype(np.int64)
    base, left, right = (table["context"][len(names) :, number].astype(np.int64) for number in range(3))
    keys = _key(table["at"][len(names) :].astype(np.int64), base, left, right)
    order = np.argsort(keys)
    owners = np.zeros(count, np.int64)
    owners[rows[len(names) :, :STATES]] = base[:, None]
    owners[rows[: len(names), :STATES]] = np.arange(len(names))[:, None]
    stay, move = _transitions(model / "transition_matrices")
    weights = _weights(model / "sendump", count, gaussians(model).means.shape[2])
    return Senones(weights, owners, stay, move, keys[order], rows[len(names) :][order], rows[: len(names)])


def triphones(model: Path, spoken: list[str], before: str, after: str) -> Ints:
    """`[phones, STATES + 1]`: senones and transition matrix of each phone of a word between two other phones."""
    names, table = gaussians(model).phones, senones(model)
    around = [names[phone] for phone in (before, *spoken, after)]
    left, base, right = (np.array(around[shift : shift + len(spoken)]) for shift in range(3))
    at = np.full(len(spoken), _INSIDE)
    at[0], at[-1] = _FIRST, _LAST
    if len(spoken) == 1:
        at[0] = _ALONE
    found: Ints = table.alone[base]
    for turn in range(3, -1, -1):  # the own place in the word last: it counts where it is there
        keys = _key(at ^ turn, base, left, right)
        places = np.searchsorted(table.keys, keys).clip(max=len(table.keys) - 1)
        there = table.keys[places] == keys
        found[there] = table.of_key[places[there]]
    return found


def differences(cepstra: Floats) -> Array:
    """`[frames, 13]` -> `[frames, 3, 13]` as PocketSphinx has them: mean taken off, differences over 4 and 2 x 4."""
    if not len(cepstra):
        return np.zeros((0, STREAMS, cepstra.shape[1]))
    spoken = cepstra[cepstra[:, 0] >= 0]
    centred = cepstra.astype(np.float64) - (spoken if len(spoken) else cepstra).mean(axis=0, dtype=np.float64)
    frames = len(centred)
    padded = np.concatenate([centred[:1]] * 3 + [centred] + [centred[-1:]] * 3)
    at = [padded[shift : shift + frames] for shift in range(7)]  # at[3] is the frame itself
    return np.stack([centred, at[5] - at[1], (at[6] - at[2]) - (at[4] - at[0])], axis=1)


def transformed(means: Array, transform: Array) -> Array:
    """`[phones, streams, densities, 13]` under a transform (see `mllr`); differences have no offset."""
    found = means @ transform[:, :-1].T
    found[:, 0] += transform[:, -1]
    return found


def likelihoods(model: Path, frames: Array, transform: Array | None, wanted: Ints | None = None) -> Floats:
    """`[frames, senones]`: log likelihoods of `frames` (see `differences`), of all senones or of the `wanted` ones."""
    gauss, table = gaussians(model), senones(model)
    means = gauss.means if transform is None else transformed(gauss.means, transform)
    owners = table.owners if wanted is None else table.owners[wanted]
    phones = np.unique(owners)
    members = [np.flatnonzero(owners == phone) for phone in phones]
    found = np.zeros((len(frames), len(owners)), np.float32)
    with one_thread():
        for stream in range(STREAMS):
            weights = table.weights[stream] if wanted is None else table.weights[stream][:, wanted]
            mixtures = [np.ascontiguousarray(weights[:, own]) for own in members]
            densities = _densities(means[phones, stream], gauss.variances[phones, stream])
            for start in range(0, len(frames), _FRAMES):
                each = densities(frames[start : start + _FRAMES, stream].astype(np.float32))
                best = each.max(axis=2, keepdims=True)
                shares = np.exp(each - best)
                for number, (own, mixture) in enumerate(zip(members, mixtures, strict=True)):
                    found[start : start + _FRAMES, own] += np.log(shares[:, number] @ mixture) + best[:, number]
    return found


def _densities(means: Array, variances: Array) -> Callable[[Floats], Floats]:
    """Log densities `[frames, phones, densities]` (but for a constant) of `[frames, 13]`, as one product."""
    shape, size = means.shape[:2], means.shape[2]
    mean, inverse = means.reshape(-1, size), 1.0 / variances.reshape(-1, size)
    factors = np.concatenate([-0.5 * inverse, mean * inverse], axis=1).T.astype(np.float32)
    constant = -0.5 * (mean * mean * inverse - np.log(inverse)).sum(axis=1).astype(np.float32)
    return lambda part: (np.concatenate([part * part, part], axis=1) @ factors + constant).reshape(-1, *shape)


def one_thread() -> AbstractContextManager[object]:
    """While so small products of matrices are computed that threads take longer to meet than to compute."""
    return _pools().limit(limits=1)  # type: ignore[no-any-return]


@cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


def _key(at: Ints, base: Ints, left: Ints, right: Ints) -> Ints:
    """Numbers by which triphones are found; each argument `[triphones]`."""
    return ((at * 256 + base) * 256 + left) * 256 + right


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


def _transitions(path: Path) -> tuple[Floats, Floats]:
    """Logarithms of staying in each state and of going on to the next; rows are counts that were not divided."""
    data = path.read_bytes()
    place = data.index(b"endhdr\n") + 7
    mark, count, states, to, total = struct.unpack_from("<5i", data, place)
    if mark != 0x11223344 or (states, to) != (STATES, STATES + 1):
        raise SpeechmillError(f"{path}: expected little-endian transitions of {STATES} states.")
    rows = np.frombuffer(data, "<f4", total, place + 20).reshape(count, states, to).astype(np.float64)
    rows = rows / rows.sum(axis=2, keepdims=True)
    at = np.arange(STATES)
    stay, move = rows[:, at, at], rows[:, at, at + 1]
    if not np.allclose(stay + move, 1.0):
        raise SpeechmillError(f"{path}: expected phones whose states follow one another.")
    return np.log(stay).astype(np.float32), np.log(move).astype(np.float32)


def _weights(path: Path, count: int, densities: int) -> Floats:
    """Mixture weights: texts with their lengths before them, to an empty one; two counts; a byte for each weight."""
    data = path.read_bytes()
    place, header = 0, []
    while length := struct.unpack_from("<i", data, place)[0]:
        header.append(data[place + 4 : place + 4 + length].rstrip(b"\0"))
        place += 4 + length
    rows, columns = struct.unpack_from("<2i", data, place + 4)
    if b"cluster_count 0" not in header or (rows, columns) != (densities, count):
        raise SpeechmillError(f"{path}: expected {densities} weights, of a byte each, for {count} senones.")
    steps = np.frombuffer(data, np.uint8, STREAMS * rows * columns, place + 12).reshape(STREAMS, rows, columns)
    weights: Floats = np.exp(np.float32(-_WEIGHT) * steps.astype(np.float32))
    return weights


def _phones(path: Path) -> tuple[dict[str, int], tuple[int, ...], int]:
    """Names of the phones in a binary mdef, its ten counts, and where what follows them begins."""
    data = path.read_bytes()
    if data[:4] != b"BMDF":
        raise SpeechmillError(f"{path}: expected a binary model definition.")
    place = 12 + struct.unpack_from("<i", data, 8)[0]
    counts = struct.unpack_from("<10i", data, place)
    place += 40
    names = data[place:].split(b"\0", counts[0])[: counts[0]]
    length = sum(len(name) + 1 for name in names)
    return {name.decode("ascii"): number for number, name in enumerate(names)}, counts, place + -(-length // 4) * 4
