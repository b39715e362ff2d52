"""A voice as a transform of the acoustic model's means."""

import re
from pathlib import Path

import numpy as np
import pytest

from speechmill.align import mllr, pocket
from speechmill.align.mllr import Gaussians, differences, estimate, transformed
from speechmill.audio import decode

CORPUS = Path(__file__).parents[2].parent / "shared" / "data" / "ljspeech_part"
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


def test_the_wheels_model_is_read() -> None:
    known = mllr.gaussians(pocket.model_folder())
    assert known.means.shape == known.variances.shape == (42, 3, 128, 13)
    assert {"AA", "ZH", "SIL"} <= set(known.phones)
    assert (known.variances > 0).all()


@pytest.mark.skipif(not CORPUS.is_dir(), reason="no real speech to score")
def test_a_voice_of_the_model_itself_changes_nothing_that_is_heard(tmp_path: Path) -> None:
    known = mllr.gaussians(pocket.model_folder())
    assert np.array_equal(transformed(known.means, np.eye(13, 14)), known.means)
    name, text = (CORPUS / "metadata.csv").read_text(encoding="utf-8").splitlines()[0].split("|")[:2]
    words = [word for word in re.sub(r"[^a-z ]", " ", text.lower()).split() if word]
    samples = decode(CORPUS / f"{name}.flac")
    assert pocket.write_dictionary([*words, "hello"], tmp_path / "some.dict") == {*words, "hello"}
    same, other = np.eye(13, 14), np.eye(13, 14)
    other[0, 13] = 30.0  # as if everything were said much louder
    voices: dict[str, Path | None] = {"none": None}
    for label, transform in (("same", same), ("other", other)):
        voices[label] = tmp_path / f"{label}.mllr"
        mllr.write(transform, tmp_path / f"{label}.mllr")
    found = {label: pocket.Scorer(tmp_path / "some.dict", voice)(samples, words) for label, voice in voices.items()}
    assert found["none"] is not None
    assert found["none"] == found["same"]
    assert found["other"] is None or found["other"][0] < found["none"][0]


def test_another_kind_of_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mdef").write_bytes(b"text")
    for name in ("means", "variances"):
        (tmp_path / name).write_bytes((pocket.model_folder() / name).read_bytes())
    with pytest.raises(mllr.SpeechmillError, match="binary model definition"):
        mllr.gaussians(tmp_path)
