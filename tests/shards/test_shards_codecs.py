"""Codecs: what goes in comes out, damage is noticed, and the fast decoders agree with libsndfile."""

from __future__ import annotations

import importlib.util
import io
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from conftest import SHARD_SETTINGS
from speechmill import audio
from speechmill.audio import Pcm, decode_bytes, encode_flac
from speechmill.errors import SpeechmillError
from speechmill.shards import codecs, flac
from speechmill.shards.codecs import CODECS, check_codec, decode_into, encode, flac_decoder, flac_encoder, wav_header
from speechmill.shards.flac import FlacEncoder, plain
from speechmill.shards.index import Index, open_index
from speechmill.shards.read import ShardReader
from speechmill.shards.write import shard_manifest


def speechlike(count: int, seed: int = 0, level: float = 3000.0) -> Pcm:
    """Coloured noise that swells and fades: predictors of several orders, and silence."""
    rng = np.random.default_rng(seed)
    noise = np.convolve(rng.standard_normal(count + 20), np.hanning(20), "valid")[:count]
    swell = np.clip(np.sin(np.arange(count) / 2500.0), 0, None)
    return np.clip(noise * swell * level, -32768, 32767).astype(np.int16)


def decoded(data: bytes, count: int, rate: int = 16000, fast: bool = True) -> npt.NDArray[np.int16]:
    out = np.full(count, 77, np.int16)
    decode_into(data, out, rate, fast)
    return out


@pytest.mark.parametrize("codec", ["flac", "wav"])
@given(
    samples=st.one_of(
        st.integers(1, 20_000).map(lambda n: speechlike(n, n)),
        st.lists(st.integers(-32768, 32767), min_size=1, max_size=300).map(lambda v: np.array(v, np.int16)),
        st.tuples(st.integers(1, 9000), st.sampled_from([-32768, -1, 0, 32767])).map(lambda p: np.full(*p, np.int16)),
    ),
    rate=st.sampled_from([8000, 16000, 44100]),
)
def test_lossless_codecs_and_both_their_decoders(codec: str, samples: Pcm, rate: int) -> None:
    data = encode(codec, samples, rate)
    assert encode(codec, samples, rate) == data
    if codec == "flac":
        assert plain(encode_flac(samples, rate)) == data
    assert np.array_equal(decoded(data, len(samples), rate), samples)
    assert np.array_equal(decoded(data, len(samples), rate, fast=False), samples)


@pytest.fixture
def libflac() -> Iterator[None]:
    """Which library is trusted is found out anew, and forgotten after the test."""
    flac._trusted_libflac.cache_clear()
    yield
    flac._trusted_libflac.cache_clear()


needs_libflac = pytest.mark.skipif(
    importlib.util.find_spec("pyflac") is None, reason="the extra speechmill[flac] is not installed"
)


@pytest.mark.usefixtures("libflac")
def test_without_libflac_the_bytes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(3).integers(-32768, 32767, 70_000, np.int16, endpoint=True)
    expected = FlacEncoder().encode(samples, 16000)
    monkeypatch.setattr(flac, "_libraries", lambda: iter(()))
    flac._trusted_libflac.cache_clear()
    encoder = FlacEncoder()
    assert encoder.library == "libsndfile"
    assert encoder.encode(samples, 16000) == expected


@needs_libflac
@pytest.mark.usefixtures("libflac")
def test_libflac_does_the_work_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = speechlike(40_000)
    expected = plain(encode_flac(samples, 16000)), plain(encode_flac(samples[:100], 8000))
    one, other = FlacEncoder(), FlacEncoder()
    assert one.library == flac_encoder() == "libFLAC"
    monkeypatch.setattr(flac, "encode_flac", lambda *_: pytest.fail("the slow path"))
    assert (one.encode(samples, 16000), other.encode(samples[:100], 8000)) == expected


@needs_libflac
@pytest.mark.usefixtures("libflac")
def test_a_library_that_codes_otherwise_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flac, "_LEVEL", 0)
    assert FlacEncoder().library == "libsndfile"


@needs_libflac
@pytest.mark.usefixtures("libflac")
def test_what_libflac_refuses_goes_to_libsndfile() -> None:
    samples = speechlike(3000)
    encoder = FlacEncoder()
    encoder._libflac._settings[0] = lambda *_: 0  # type: ignore[union-attr]
    assert encoder.encode(samples, 16000) == plain(encode_flac(samples, 16000))


@needs_libflac
@pytest.mark.usefixtures("libflac")
def test_an_interrupt_while_encoding_is_heard_and_costs_no_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = speechlike(60_000)
    encoder, expected = FlacEncoder(), plain(encode_flac(samples, 16000))
    monkeypatch.setattr(flac, "encode_flac", lambda *_: pytest.fail("the slow path"))
    write, frames = encoder._libflac._write, []  # type: ignore[union-attr]

    def interrupted(*arguments: int) -> int:
        frames.append(arguments)
        signal.raise_signal(signal.SIGINT)
        return write(*arguments)

    monkeypatch.setattr(encoder._libflac, "_write", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            encoder.encode(samples, 16000)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(frames) > 10  # it went on to the end
    monkeypatch.undo()
    assert encoder.encode(samples, 16000) == expected


def test_an_interrupt_is_heard_while_libsndfile_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = speechlike(60_000)
    expected = plain(encode_flac(samples, 16000))
    encoder, made = FlacEncoder(), []
    encoder._libflac = None

    class Interrupted(io.BytesIO):
        def write(self, data: Any) -> int:
            made.append(self)
            signal.raise_signal(signal.SIGINT)  # as it is in a callback, whose exceptions are lost
            return super().write(data)

    monkeypatch.setattr(audio, "io", SimpleNamespace(BytesIO=Interrupted))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            encoder.encode(samples, 16000)
    finally:
        signal.signal(signal.SIGINT, before)
    assert plain(made[-1].getvalue()) == expected  # it went on to the end


@needs_libflac
@pytest.mark.usefixtures("libflac")
def test_a_frame_that_was_not_taken_over_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = speechlike(60_000)
    encoder, expected = FlacEncoder(), plain(encode_flac(samples, 16000))
    write = encoder._libflac._write  # type: ignore[union-attr]

    def lost(*arguments: int) -> int:
        return 0 if arguments[4] == 3 else write(*arguments)  # as if an exception had left a 0 behind

    monkeypatch.setattr(encoder._libflac, "_write", lost)
    assert encoder.encode(samples, 16000) == expected


def test_the_header_is_followed_by_frames_and_holds_no_sum() -> None:
    samples = speechlike(5000)
    data = encode("flac", samples, 16000)
    assert data[:8] == b"fLaC\x80\0\0\x22"
    assert data[26:42] == bytes(16)
    assert data[42:44] == b"\xff\xf8"  # the sync code of the first frame
    found, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    assert rate == 16000
    assert np.array_equal(found, samples)


def test_the_fast_decoder_is_installed_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = speechlike(5000)
    data = {codec: encode(codec, samples, 16000) for codec in ("flac", "wav")}
    assert flac_decoder() == "miniaudio"
    monkeypatch.setattr(codecs, "decode_bytes", lambda _: pytest.fail("the slow path"))
    for each in data.values():
        assert np.array_equal(decoded(each, 5000), samples)


def test_without_the_fast_decoder_libsndfile_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = speechlike(5000)
    monkeypatch.setattr(codecs, "miniaudio", None)
    assert flac_decoder() == "libsndfile"
    assert np.array_equal(decoded(encode("flac", samples, 16000), 5000), samples)


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
def test_opus_keeps_the_length_and_nearly_the_sound(rate: int) -> None:
    pytest.importorskip("av", reason="the extra speechmill[opus] is not installed")
    time = np.arange(int(rate * 1.3)) / rate
    samples = (8000 * np.sin(2 * np.pi * 300 * time)).astype(np.int16)
    data = encode("opus", samples, rate)
    assert encode("opus", samples, rate) == data
    found = decoded(data, len(samples), rate).astype(float)
    inner = slice(rate // 10, -rate // 10)
    error = np.square(found - samples)[inner].mean() / np.square(samples.astype(float))[inner].mean()
    assert error < 0.02
    assert len(data) < len(samples) / 2


def test_what_opus_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpeechmillError, match=r"shard\.codec opus: has no rate of 44100 Hz"):
        check_codec("opus", 44100)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SpeechmillError, match=r"pip install 'speechmill\[opus\]'"):
        check_codec("opus", 16000)


def test_rates_that_flac_cannot_hold() -> None:
    for rate in (8000, 44100, 65535, 96000, 655350):
        check_codec("flac", rate)
        encode("flac", speechlike(100), rate)
    for rate in (65537, 655360):
        with pytest.raises(SpeechmillError, match=f"shard.codec flac: has no rate of {rate} Hz"):
            check_codec("flac", rate)


@pytest.mark.parametrize("codec", CODECS)
def test_only_int16_mono_is_encoded(codec: str) -> None:
    for wrong in (np.zeros(0, np.int16), np.zeros(9, np.float32), np.zeros((9, 2), np.int16)):
        with pytest.raises(SpeechmillError, match=f"{codec}: int16"):
            encode(codec, wrong, 16000)


@pytest.mark.parametrize("codec", ["flac", "opus"])
def test_a_flipped_bit_is_noticed_or_does_no_harm(codec: str) -> None:
    if codec == "opus":
        pytest.importorskip("av", reason="the extra speechmill[opus] is not installed")
    samples = speechlike(20_000)
    data = encode(codec, samples, 16000)
    whole = decoded(data, len(samples))
    rng = np.random.default_rng(1)
    told = 0
    for at in rng.integers(0, 8 * len(data), 400).tolist():
        broken = bytearray(data)
        broken[at // 8] ^= 1 << (at % 8)
        try:
            assert np.array_equal(decoded(bytes(broken), len(samples)), whole), f"bit {at} changed samples unseen"
        except SpeechmillError:
            told += 1
    assert told > 380  # the others: padding, or the checksum of the whole that nobody needs


@pytest.mark.parametrize("codec", CODECS)
def test_cut_off_anywhere(codec: str) -> None:
    if codec == "opus":
        pytest.importorskip("av", reason="the extra speechmill[opus] is not installed")
    samples = speechlike(9000)
    data = encode(codec, samples, 16000)
    for size in (0, 3, 30, 43, 60, len(data) // 2, len(data) - 10):
        with pytest.raises(SpeechmillError):
            decoded(data[:size], len(samples))


@pytest.mark.parametrize("codec", ["flac", "wav"])
@pytest.mark.parametrize("fast", [True, False])
def test_another_length_or_rate_than_expected(codec: str, fast: bool) -> None:
    data = encode(codec, speechlike(5000), 16000)
    for count, rate in ((4999, 16000), (5001, 16000), (5000, 8000)):
        with pytest.raises(SpeechmillError, match=f"5000 samples at 16000 Hz, the index says {count} at {rate}"):
            decoded(data, count, rate, fast)


def test_stereo_and_24_bits_are_left_to_libsndfile() -> None:
    both = np.stack([speechlike(4000, 1), speechlike(4000, 2)], axis=1)
    for subtype in ("PCM_16", "PCM_24"):
        stream = io.BytesIO()
        soundfile.write(stream, both, 16000, format="FLAC", subtype=subtype)
        assert np.array_equal(decoded(stream.getvalue(), 4000), decode_bytes(stream.getvalue())[0])


def test_a_wav_that_others_wrote() -> None:
    samples, stream = speechlike(4000), io.BytesIO()
    soundfile.write(stream, samples, 16000, format="WAVEX", subtype="PCM_16")
    assert not stream.getvalue().startswith(wav_header(4000, 16000))
    assert np.array_equal(decoded(stream.getvalue(), 4000), samples)


@pytest.fixture(scope="module")
def by_codec(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The shards of the tests' corpus in every codec that can be written here."""
    root, found = tmp_path_factory.mktemp("codecs"), {}
    for codec in CODECS:
        if codec == "opus":
            pytest.importorskip("av", reason="the extra speechmill[opus] is not installed")
        shard_manifest(manifest, root / codec, SHARD_SETTINGS.model_copy(update={"codec": codec}), processes=1)
        found[codec] = root / codec
    return found


def test_the_shards_of_each_codec(by_codec: dict[str, Path], shards: Path) -> None:
    flac = open_index(shards)
    assert open_index(by_codec["flac"]).fingerprint == flac.fingerprint
    assert {path.name: path.read_bytes() for path in by_codec["flac"].glob("*.tar")} == {
        path.name: path.read_bytes() for path in shards.glob("*.tar")
    }
    expected = ShardReader(flac)
    for codec in ("wav", "opus"):
        index = open_index(by_codec[codec])
        assert index.fingerprint != flac.fingerprint
        reader = ShardReader(index)
        for row in range(len(index)):
            found, wanted = reader.audio(row).astype(float), expected.audio(row).astype(float)
            assert reader.about(row) == expected.about(row)
            if codec == "wav":
                assert np.array_equal(found, wanted)
            else:
                assert np.square(found - wanted).mean() < 0.1 * np.square(wanted).mean()


@pytest.mark.parametrize("codec", CODECS)
def test_fast_and_slow_reading_are_one(codec: str, by_codec: dict[str, Path]) -> None:
    index = open_index(by_codec[codec])
    reader = ShardReader(index)
    for row in range(len(index)):
        slow = np.empty(int(index.samples[row]), np.int16)
        reader.audio_into(row, slow, fast=False)
        assert np.array_equal(reader.audio(row), slow)


@pytest.mark.parametrize("codec", CODECS)
def test_webdataset_reads_them(codec: str, by_codec: dict[str, Path]) -> None:
    index = open_index(by_codec[codec])
    reader, rows = ShardReader(index), {index.id(row): row for row in range(len(index))}
    tars = [str(path) for path in sorted(by_codec[codec].glob("*.tar"))]
    seen = []
    for sample in webdataset.WebDataset(tars, shardshuffle=False):
        audio, rate = soundfile.read(io.BytesIO(sample[codec]), dtype="int16")
        assert rate == index.sample_rate
        assert np.array_equal(audio, reader.audio(rows[sample["__key__"]]))
        seen.append(sample["__key__"])
    assert sorted(seen) == sorted(rows)


def broken_wav(source: Path, tmp_path: Path, at: int, data: bytes) -> Index:
    index = open_index(Path(shutil.copytree(source, tmp_path / "copy")))
    with index.shard_path(int(index.shard[5])).open("r+b") as stream:
        stream.seek(int(index.offset[5]) + at)
        stream.write(data)
    return index


@pytest.mark.parametrize(("at", "data"), [(-512, b"another.wav\0"), (0, b"RIFX"), (40, b"\1\0\0\0"), (24, b"\1\0")])
def test_a_wav_shard_that_is_not_what_the_index_says(
    at: int, data: bytes, by_codec: dict[str, Path], tmp_path: Path
) -> None:
    index = broken_wav(by_codec["wav"], tmp_path, at, data)
    with pytest.raises(SpeechmillError, match=f"the utterance '{index.id(5)}' is damaged"):
        ShardReader(index).audio(5)
    ShardReader(index).audio(4)


def test_the_command_line_has_the_codec(manifest: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "speechmill", "shard", str(manifest), str(tmp_path / "wav"), "--codec", "wav"]
    if not (Path(codecs.__file__).parents[1] / "__main__.py").is_file():
        command[1:3] = ["-c", "import sys; from speechmill.cli import main; sys.exit(main())"]
    subprocess.run([*command, "shard.sample_rate=8000", "features.sample_rate=8000"], check=True, capture_output=True)
    assert all(index_suffix(path) for path in (tmp_path / "wav").glob("*.tar"))


def index_suffix(path: Path) -> bool:
    return path.read_bytes()[:100].split(b"\0")[0].endswith(b".wav")
