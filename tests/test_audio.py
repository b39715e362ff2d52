from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechmill.audio import decode, decode_bytes, encode_flac, probe
from speechmill.errors import SpeechmillError


def tone(rate: int, seconds: float, channels: int = 1) -> np.ndarray:
    """A sweep with a little noise, float32 `[frames, channels]`; each channel has its own loudness."""
    frames = int(rate * seconds) + 123
    time = np.arange(frames) / rate
    noise = np.random.default_rng(rate).standard_normal(frames) * 0.02
    wave = (0.3 * np.sin(2 * np.pi * (200 + 100 * time) * time) + noise).astype(np.float32)
    return wave[:, None] * np.linspace(1.0, 0.5, channels, dtype=np.float32)


def test_probe_reads_the_header(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(8000, 2.0, 2), 8000)
    info = probe(tmp_path / "a.wav")
    assert (info.samplerate, info.frames, info.channels) == (8000, 16123, 2)
    assert info.seconds == 16123 / 8000


def test_pcm_at_the_wanted_rate_comes_back_bit_for_bit(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 300_000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    assert np.array_equal(decode(tmp_path / "a.wav"), samples)


def test_channels_are_averaged(tmp_path: Path) -> None:
    samples = np.array([[1000, 3000], [-500, 500], [32767, 32767]], np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    assert decode(tmp_path / "a.wav").tolist() == [2000, 0, 32767]


def test_resampling_keeps_a_tone_and_clips(tmp_path: Path) -> None:
    time = np.arange(32000) / 32000
    soundfile.write(tmp_path / "a.wav", (1.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32), 32000, "FLOAT")
    samples = decode(tmp_path / "a.wav")
    assert len(samples) == 16000
    assert samples.max() == 32767
    assert samples.min() == -32768
    expected = np.clip(1.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000), -1, 32767 / 32768)
    assert np.abs(samples[500:-500] / 32768 - expected[500:-500]).max() < 1e-3


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3"])
@pytest.mark.parametrize("rate", [8000, 16000, 32000, 44100])
def test_a_span_is_the_slice_of_the_whole(tmp_path: Path, kind: str, rate: int) -> None:
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, tone(rate, 20.0, 2), rate)  # more than a block at the higher rates
    whole = decode(path).astype(int)
    step = 0 if rate == 16000 else 1
    for start, end in [(0.0, 1.0), (0.3, 2.2), (9.9994, 12.3), (18.0, 30.0)]:
        span = decode(path, start=start, end=end)
        expected = whole[round(start * 16000) : round(end * 16000)]
        assert len(span) == len(expected)
        assert np.abs(span - expected).max() <= step
    assert np.abs(decode(path, start=5.0) - whole[80000:]).max() <= step


def test_reading_mp3_in_blocks_makes_no_noise_and_no_seam(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, tone(16000, 40.0), 16000)
    at_once, _ = soundfile.read(path, dtype="float32", frames=probe(path).frames)
    capfd.readouterr()
    assert np.abs(decode(path) / 32768 - at_once).max() <= 0.51 / 32768
    assert capfd.readouterr().err == ""


def test_flac_gives_back_the_samples_and_the_same_bytes() -> None:
    samples = np.random.default_rng(1).integers(-2000, 2000, 5000).astype(np.int16)
    data = encode_flac(samples, 16000)
    back, rate = decode_bytes(data)
    assert rate == 16000
    assert np.array_equal(back, samples)
    assert encode_flac(samples, 16000) == data


@pytest.mark.parametrize("data", [b"", b"not audio at all", b"\x80\x04pickle"])
def test_bytes_that_are_not_audio(data: bytes) -> None:
    with pytest.raises(SpeechmillError, match=r"shard-0\.tar: not audio"):
        decode_bytes(data, "shard-0.tar")


def test_encoding_nothing_is_an_error() -> None:
    with pytest.raises(SpeechmillError, match="at least one"):
        encode_flac(np.zeros(0, np.int16), 16000)


def test_bad_recordings_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("these are words")
    soundfile.write(tmp_path / "zero.wav", np.zeros(0, np.int16), 16000)
    for name, reason in {
        "none.wav": "no such recording",
        "empty.wav": "0 bytes",
        "text.wav": "not audio",
        "zero.wav": "zero length",
        ".": "cannot be read|not audio",
    }.items():
        for read in (probe, decode):
            with pytest.raises(SpeechmillError, match=reason) as caught:
                read(tmp_path / name)
            assert str(tmp_path) in str(caught.value)


def test_truncated_flac_is_an_error_and_not_a_short_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(16000, 5.0), 16000)
    path.write_bytes(path.read_bytes()[:40_000])
    with pytest.raises(SpeechmillError, match=r"truncated|cannot be decoded"):
        decode(path)


def test_spans_without_sound(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(8000, 2.0), 8000)
    for start, end in [(1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (5.0, 6.0)]:
        with pytest.raises(SpeechmillError, match=r"no sound|no sample"):
            decode(tmp_path / "a.wav", start=start, end=end)
