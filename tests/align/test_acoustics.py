"""The acoustic model of PocketSphinx's wheel, read and computed."""

from pathlib import Path

import numpy as np
import pytest

from speechmill.align import acoustics, pocket
from speechmill.align.acoustics import differences, gaussians, likelihoods, senones, transformed, triphones
from speechmill.errors import SpeechmillError

MODEL = pocket.model_folder()
RNG = np.random.default_rng(0)


def test_the_wheels_model_is_read() -> None:
    known, table = gaussians(MODEL), senones(MODEL)
    assert known.means.shape == known.variances.shape == (42, 3, 128, 13)
    assert {"AA", "ZH", "SIL"} <= set(known.phones)
    assert (known.variances > 0).all()
    assert table.weights.shape == (3, 128, 5126)
    assert 0.85 < table.weights.sum(axis=1).min() <= table.weights.sum(axis=1).max() < 1.01  # a byte each: rounded
    assert np.array_equal(table.owners[:126], np.repeat(np.arange(42), 3))
    assert np.allclose(np.exp(table.stay) + np.exp(table.move), 1.0, atol=1e-6)
    assert (table.owners[table.of_key[:, :3]] == table.owners[table.of_key[:, :1]]).all()


def test_a_triphone_is_found_by_its_place_and_its_neighbours() -> None:
    names, table = gaussians(MODEL).phones, senones(MODEL)
    found = triphones(MODEL, ["HH", "AH", "L", "OW"], "SIL", "W")
    assert [int(table.owners[row[0]]) for row in found] == [names[phone] for phone in ("HH", "AH", "L", "OW")]
    assert len({tuple(row) for row in np.array([triphones(MODEL, ["AA"], left, "T")[0] for left in ("B", "S")])}) == 2
    alone, inside = triphones(MODEL, ["AY"], "SIL", "SIL"), triphones(MODEL, ["T", "AY", "M"], "SIL", "SIL")
    assert not np.array_equal(alone[0], inside[1])
    never = triphones(MODEL, ["ZH", "ZH", "ZH"], "SIL", "SIL")[1]
    assert np.array_equal(never, table.alone[names["ZH"]])


def test_likelihoods_as_their_slow_reference() -> None:
    known, table = gaussians(MODEL), senones(MODEL)
    frames = RNG.normal(0.0, 1.0, (3, 3, 13))
    wanted = np.array([5, 400, 5125])
    found = likelihoods(MODEL, frames, None, wanted)
    for frame in range(3):
        for number, senone in enumerate(wanted):
            phone, total = table.owners[senone], 0.0
            for stream in range(3):
                apart = frames[frame, stream] - known.means[phone, stream]
                variances = known.variances[phone, stream]
                each = -0.5 * (apart**2 / variances + np.log(variances)).sum(axis=1)
                total += np.logaddexp.reduce(each + np.log(table.weights[stream, :, senone]))
            assert found[frame, number] == pytest.approx(total, rel=1e-4)


def test_all_likelihoods_and_those_of_another_voice() -> None:
    frames = RNG.normal(0.0, 1.0, (70, 3, 13))  # more than are computed at once
    every = likelihoods(MODEL, frames, None)
    assert every.shape == (70, 5126)
    assert np.allclose(likelihoods(MODEL, frames, None, np.array([7, 3000])), every[:, [7, 3000]], rtol=1e-5)
    same, louder = np.eye(13, 14), np.eye(13, 14)
    louder[0, 13] = 30.0
    assert np.array_equal(transformed(gaussians(MODEL).means, same), gaussians(MODEL).means)
    assert np.allclose(likelihoods(MODEL, frames, same), every)
    shifted = frames.copy()
    shifted[:, 0, 0] += 30.0
    assert np.allclose(likelihoods(MODEL, shifted, louder), every, rtol=1e-3)


def test_differences_as_in_the_decoder_and_their_slow_reference() -> None:
    cepstra = RNG.normal(1.0, 1.0, (9, 13))
    cepstra[:, 0] = np.abs(cepstra[:, 0])
    found = differences(cepstra)
    centred = cepstra - cepstra.mean(axis=0)

    def at(frame: int) -> np.ndarray:
        return centred[min(max(frame, 0), 8)]

    for frame in range(9):
        assert np.allclose(found[frame, 0], at(frame))
        assert np.allclose(found[frame, 1], at(frame + 2) - at(frame - 2))
        second = at(frame + 3) - at(frame - 1) - (at(frame + 1) - at(frame - 3))
        assert np.allclose(found[frame, 2], second)
    assert differences(np.zeros((0, 13))).shape == (0, 3, 13)


@pytest.mark.parametrize(
    ("name", "replaced", "message"),
    [
        ("mdef", b"text", "binary model definition"),
        ("sendump", b"\x10\0\0\0cluster_count 4\0" + bytes(16), "a byte each"),
        ("transition_matrices", b"s3\nendhdr\n" + bytes(40), "transitions of 3 states"),
        ("means", b"s3\nendhdr\n" + bytes(40), "little-endian"),
    ],
)
def test_another_kind_of_model_is_an_error(tmp_path: Path, name: str, replaced: bytes, message: str) -> None:
    for path in MODEL.iterdir():
        (tmp_path / path.name).write_bytes(replaced if path.name == name else path.read_bytes())
    with pytest.raises(SpeechmillError, match=message):
        acoustics.senones(tmp_path)
