"""Long MP3s: the length, and a span from the middle, are those of decoding from the start."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from speechmill.audio import decode, probe
from speechmill.errors import SpeechmillError
from speechmill.mp3 import stated

RATE = 8000
Samples = npt.NDArray[np.float32]


def sound(seconds: float, seed: int, loud: float = 0.3) -> Samples:
    """Noise for a second, near silence for a second, ...: variable bit rates vary."""
    count = round(seconds * RATE)
    level = np.where(np.arange(count) // RATE % 2 == 0, loud, 0.0005)
    return (level * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def encode(path: Path, samples: Samples, mode: str, rate: int = RATE) -> bytes:
    soundfile.write(path, samples, rate, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode=mode)
    return path.read_bytes()


def without_header(data: bytes) -> bytes:
    """An MP3 of variable bit rate without the frame that states its length: each frame's size from its own header."""
    place = data.find(b"Xing")
    assert 0 < place < 64, "the encoder wrote no header"
    following = data.find(data[:2], 64)
    return data[following:]


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An hour and 40 seconds: pieces of two kinds in an order that never repeats, of constant and variable rate."""
    folder = tmp_path_factory.mktemp("hours")
    pattern = [bin(number).count("1") % 2 for number in range(26)]
    found = {}
    for mode in ("CONSTANT", "VARIABLE"):
        pieces = [encode(folder / "piece.mp3", sound(140.0, seed), mode) for seed in (1, 2)]
        if mode == "VARIABLE":
            pieces = [without_header(piece) for piece in pieces]
        found[mode] = folder / f"{mode}.mp3"
        found[mode].write_bytes(b"".join(pieces[kind] for kind in pattern))
    return found


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_an_hour_is_an_hour_and_a_span_of_it_is_the_slice_of_the_whole(hours: dict[str, Path], mode: str) -> None:
    path = hours[mode]
    info = probe(path)
    whole = decode(path, RATE)
    assert info.seconds > 3600
    assert info.frames == len(whole)
    for start in (0.0, 1.234, 1799.9, 3555.5, info.seconds - 2.0):
        span = decode(path, RATE, start, start + 1.5)
        assert np.array_equal(span, whole[round(start * RATE) : round((start + 1.5) * RATE)])
    assert np.abs(whole[-4 * RATE :].astype(int)).max() > 3000  # the end is sound, not what a reader fills up with


def test_without_a_header_nothing_is_lost(tmp_path: Path) -> None:
    """libsndfile alone guesses the length from the first frame's bit rate and stops there."""
    given = sound(60.0, 3)
    given[: 3 * RATE] = sound(3.0, 4, 0.5)
    data = encode(tmp_path / "with.mp3", given, "VARIABLE")
    (tmp_path / "without.mp3").write_bytes(without_header(data))
    guessed = soundfile.info(tmp_path / "without.mp3").frames
    assert guessed < 0.9 * len(given)
    whole, other = decode(tmp_path / "with.mp3", RATE), decode(tmp_path / "without.mp3", RATE)
    assert probe(tmp_path / "with.mp3").frames == len(whole) == len(given)
    assert probe(tmp_path / "without.mp3").frames == len(other)
    shift = len(other) - len(whole)  # what the header tells to cut off, in frames of 576
    assert 0 < shift < 3 * 576
    best = min(range(shift + 1), key=lambda k: int(np.abs(whole[:4000].astype(int) - other[k : k + 4000]).sum()))
    assert np.array_equal(whole[4000:-4000], other[best + 4000 : best + len(whole) - 4000])


def test_tags_around_the_sound_do_not_count(tmp_path: Path) -> None:
    data = without_header(encode(tmp_path / "a.mp3", sound(10.0, 5), "VARIABLE"))
    (tmp_path / "bare.mp3").write_bytes(data)
    picture = b"\xff\xfb\x90\x00" * 25_000  # what looks like frames, and is none
    size = len(picture)
    synchsafe = bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
    tagged = b"ID3\x03\x00\x00" + synchsafe + picture + data + b"TAG" + bytes(125)
    (tmp_path / "tagged.mp3").write_bytes(tagged)
    assert np.array_equal(decode(tmp_path / "tagged.mp3", RATE), decode(tmp_path / "bare.mp3", RATE))


def test_a_file_that_was_cut_short_has_the_length_of_what_is_left(tmp_path: Path) -> None:
    data = encode(tmp_path / "a.mp3", sound(60.0, 6), "VARIABLE")
    (tmp_path / "half.mp3").write_bytes(data[: len(data) // 2])
    info = probe(tmp_path / "half.mp3")
    assert 20 < info.seconds < 40
    assert len(decode(tmp_path / "half.mp3", RATE)) == pytest.approx(info.frames, abs=2 * 576)


def test_a_stated_length_is_believed(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp3", sound(5.0, 7), "VARIABLE")
    assert stated(tmp_path / "a.mp3") is None
    assert probe(tmp_path / "a.mp3").frames == 5 * RATE


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_rate_and_both_numbers_of_channels(tmp_path: Path, rate: int, channels: int) -> None:
    samples = np.repeat(sound(4.0, 8)[:, None], channels, 1)
    encode(tmp_path / "a.mp3", samples, "VARIABLE", rate)
    (tmp_path / "b.mp3").write_bytes(without_header((tmp_path / "a.mp3").read_bytes()))
    info = probe(tmp_path / "b.mp3")
    assert (info.samplerate, info.channels) == (rate, channels)
    assert 0 <= info.frames - len(samples) <= 3 * 1152
    assert len(decode(tmp_path / "b.mp3", rate)) == info.frames


def test_damage_in_the_middle_costs_what_it_hit(tmp_path: Path) -> None:
    data = bytearray(without_header(encode(tmp_path / "a.mp3", sound(20.0, 9), "VARIABLE")))
    (tmp_path / "a.mp3").write_bytes(data)
    clean = probe(tmp_path / "a.mp3").frames
    middle = len(data) // 2
    data[middle : middle + 700] = bytes(700)
    (tmp_path / "b.mp3").write_bytes(data)
    assert clean - 20 * 576 <= probe(tmp_path / "b.mp3").frames < clean


def test_noise_that_is_no_mp3(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(20_000)
    (tmp_path / "a.mp3").write_bytes(noise)
    with pytest.raises(SpeechmillError, match=r"not audio|zero length"):
        probe(tmp_path / "a.mp3")
    assert stated(tmp_path / "a.mp3") is None


def test_the_header_that_is_put_before_it(tmp_path: Path) -> None:
    data = without_header(encode(tmp_path / "a.mp3", sound(5.0, 7), "VARIABLE"))
    (tmp_path / "a.mp3").write_bytes(data)
    file = stated(tmp_path / "a.mp3")
    assert file is not None
    content = file.read()
    assert content.endswith(data)
    place = content.index(b"Xing")
    assert struct.unpack(">II", content[place + 4 : place + 12])[0] == 1
    assert file.seek(-10, 2) == len(content) - 10
    assert file.read() == content[-10:]
    file.seek(len(content) - len(data) - 5)
    assert file.read(10) == content[len(content) - len(data) - 5 :][:10]
    file.close()
