"""Transcribe: any audio in, valid text, JSON, SubRip and WebVTT out."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from conftest import RATE
from speechmill import cli
from speechmill.errors import SpeechmillError
from speechmill.evaluate import open_recognizer
from speechmill.recognize import Recognizing
from speechmill.train.runlog import read_config
from speechmill.transcribe import Segment, Transcript, _loudness, cut_at_pauses, render, transcribe, without_silence
from trained import spoken, trained_run

TWO = [
    Transcript(
        "a.wav", 3725.0, "One & two. Three.", [Segment(0.0, 4.0625, "One & two."), Segment(3723.5, 3725.0, "Three.")]
    ),
    Transcript("b.wav", 1.0, "a < b", [Segment(0.0, 1.0, "a < b")]),
]
SILENT = Transcript("c.wav", 1.0, "", [])


@pytest.fixture(scope="module")
def run(shards: Path, tokenizer_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_run(shards, tokenizer_path, tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def recognizing(run: Path) -> Recognizing:
    return open_recognizer(run, read_config(run), "best")


@pytest.mark.parametrize("seconds", [0.01, 20.0, 20.5, 33.3, 36.005, 100.0])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_cuts_cover_everything_in_pieces_within_limits(seconds: float, rate: int) -> None:
    for seed in range(3):
        samples = np.random.default_rng(seed).integers(-3000, 3000, round(seconds * rate)).astype(np.int16)
        samples[len(samples) * 2 // 3 :] = 0  # the quietest moments are near the end
        spans = cut_at_pauses(samples, rate)
        assert (spans[0][0], spans[-1][1]) == (0, len(samples))
        assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))
        if seconds <= 20.0:
            assert len(spans) == 1
        else:
            assert all(4.0 * rate <= end - start <= 16.01 * rate for start, end in spans)


def test_cuts_are_in_the_pauses() -> None:
    rate = 8000
    speech = np.random.default_rng(0).integers(-3000, 3000, 60 * rate).astype(np.int16)
    pauses = [(9.0, 9.6), (21.0, 21.6), (33.0, 33.6), (44.0, 44.6), (50.0, 50.6)]
    for start, end in pauses:
        speech[round(start * rate) : round(end * rate)] = 0
    cuts = [end / rate for _, end in cut_at_pauses(speech, rate)[:-1]]
    assert cuts
    assert all(any(start < cut < end for start, end in pauses) for cut in cuts)


def test_pieces_begin_and_end_with_sound() -> None:
    rate = 8000
    audio = np.zeros(40 * rate, np.int16)
    said = [(1.0, 9.0), (10.5, 19.0), (30.0, 38.0)]
    for start, end in said:
        audio[round(start * rate) : round(end * rate)] = np.random.default_rng(1).integers(-3000, 3000)
        audio[round(start * rate) : round(end * rate) : 2] *= -1
    spans = without_silence(audio, rate, [(0, 10 * rate), (10 * rate, 20 * rate), (20 * rate, 29 * rate),
                                          (29 * rate, 40 * rate)])  # fmt: skip
    assert np.array(spans) / rate == pytest.approx(np.array([(start - 0.01, end + 0.2) for start, end in said]))
    assert without_silence(audio[: rate // 2], rate, [(0, rate // 2)]) == []
    assert without_silence(audio[:0], rate, [(0, 0)]) == []


def test_steady_noise_is_kept_whole() -> None:
    noise = np.random.default_rng(0).integers(-300, 300, 16_000).astype(np.int16)
    assert without_silence(noise, 8000, [(0, 16_000)]) == [(0, 16_000)]


@pytest.mark.parametrize("form", ["text", "srt"])
def test_silence_has_no_text(form: str, recognizing: Recognizing, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros((3 * RATE, 2)), RATE)
    found = transcribe(recognizing, tmp_path / "silence.wav")
    assert (found.text, found.segments, found.seconds) == ("", [], pytest.approx(3.0))
    assert render([found], form) == ""


def test_text() -> None:
    assert render([*TWO, SILENT], "text") == "One & two. Three.\na < b\n"


def test_json() -> None:
    rows = json.loads(render([*TWO, SILENT], "json"))
    assert [row["file"] for row in rows] == ["a.wav", "b.wav", "c.wav"]
    assert rows[0]["segments"][1] == {"start": 3723.5, "end": 3725.0, "text": "Three.", "words": [], "caught": ""}
    assert rows[2] == {"file": "c.wav", "seconds": 1.0, "text": "", "segments": []}


def test_srt() -> None:
    cues = render(TWO[:1], "srt").split("\n\n")
    assert cues[0] == "1\n00:00:00,000 --> 00:00:04,062\nOne & two."
    assert cues[1] == "2\n01:02:03,500 --> 01:02:05,000\nThree."
    assert len(cues) == 2
    assert render([SILENT], "srt") == ""


def test_vtt() -> None:
    cues = render(TWO[:1], "vtt").split("\n\n")
    assert cues[0] == "WEBVTT"
    assert cues[1] == "00:00:00.000 --> 00:00:04.062\nOne &amp; two."
    assert len(cues) == 3
    assert render(TWO[1:], "vtt").endswith("00:00:00.000 --> 00:00:01.000\na &lt; b")
    assert render([SILENT], "vtt") == "WEBVTT"


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles_are_of_one_recording(
    form: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SpeechmillError, match=f"--format {form}: subtitles have the times of one recording; 2 were"):
        render(TWO, form)
    assert cli.main(["transcribe", str(run), str(tmp_path / "a.wav"), str(tmp_path / "b.wav"), "--format", form]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1


def test_loudness_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32767, 100_003).astype(np.int16)
    whole = _loudness(samples, 80)
    monkeypatch.setattr("speechmill.transcribe._BLOCK", 7)
    assert (_loudness(samples, 80) == whole).all()
    power = np.square(samples[: 30 * 80].astype(np.float64)).sum() / (30 * 80)
    assert whole[15] == pytest.approx(power)


def test_any_rate_and_two_channels(recognizing: Recognizing, tmp_path: Path) -> None:
    said = ["cash", "debt", "cash"]
    mono = spoken(said)
    soundfile.write(tmp_path / "mono.wav", mono, RATE, subtype="PCM_16")
    soundfile.write(tmp_path / "stereo.flac", np.stack([mono, mono], axis=1), RATE, subtype="PCM_16")
    soundfile.write(tmp_path / "fast.wav", np.repeat(mono, 3), 3 * RATE, subtype="FLOAT")
    plain = transcribe(recognizing, tmp_path / "mono.wav")
    assert plain.seconds == pytest.approx(len(mono) / RATE)
    assert plain.text.lower().rstrip(".").split() == said
    (segment,) = plain.segments
    assert [word.text.lower().rstrip(".") for word in segment.words] == said
    assert (segment.start, segment.end) == (segment.words[0].start, segment.words[-1].end)
    assert 0.0 <= segment.start < segment.end <= plain.seconds
    assert transcribe(recognizing, tmp_path / "stereo.flac").text == plain.text
    assert transcribe(recognizing, tmp_path / "fast.wav").seconds == pytest.approx(plain.seconds, abs=1e-3)


def test_a_long_recording_comes_in_timed_segments(recognizing: Recognizing, tmp_path: Path) -> None:
    words = ["cash", "cost", "debt", "growth"] * 20
    pieces = [spoken(words[k : k + 2]) for k in range(0, len(words), 2)]
    audio = np.concatenate([np.concatenate([piece, np.zeros(RATE // 2)]) for piece in pieces])
    soundfile.write(tmp_path / "long.wav", audio, RATE, subtype="PCM_16")
    found = transcribe(recognizing, tmp_path / "long.wav")
    assert len(found.segments) >= 2
    assert found.text == " ".join(segment.text for segment in found.segments)
    assert all(a.end <= b.start for a, b in zip(found.segments[:-1], found.segments[1:], strict=True))
    assert found.segments[-1].end <= found.seconds + 1e-3
    heard = [word for segment in found.segments for word in segment.words]
    assert " ".join(word.text for word in heard) == found.text
    assert all(a.start < a.end <= b.start + 1e-3 for a, b in itertools.pairwise(heard))


def test_json_alone_on_stdout(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, spoken(["price"]), RATE, subtype="PCM_16")
    assert cli.main(["transcribe", str(run), str(tmp_path / "a.wav"), str(tmp_path / "b.wav"), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [Path(row["file"]).name for row in rows] == ["a.wav", "b.wav"]
    assert all(isinstance(row["text"], str) for row in rows)


@pytest.mark.parametrize("form", ["text", "json"])
def test_one_bad_file_does_not_lose_the_others(
    form: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / name for name in ("a.wav", "bad.wav", "b.wav")]
    for path in paths[::2]:
        soundfile.write(path, spoken(["price"]), RATE, subtype="PCM_16")
    paths[1].write_bytes(b"no audio at all")
    assert cli.main(["transcribe", str(run), *map(str, paths), "--format", form]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("speechmill transcribe: ")
    assert "bad.wav: not audio" in shown.err
    if form == "text":  # each line says which file it is of
        lines = [line.partition(": ") for line in shown.out.splitlines()]
        assert [name for name, _, _ in lines] == [str(paths[0]), str(paths[2])]
        texts = [text for _, _, text in lines]
    else:
        texts = [row["text"] for row in json.loads(shown.out)]
    assert len(texts) == 2
    assert texts[0] == texts[1] != ""


@pytest.mark.parametrize("form", ["text", "srt", "vtt"])
def test_formats_on_the_command_line(form: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "a.wav", spoken(["price", "share"]), RATE, subtype="PCM_16")
    assert cli.main(["transcribe", str(run), str(tmp_path / "a.wav"), "--format", form]) == 0
    shown = capsys.readouterr().out
    times = re.findall(r"^\d\d:\d\d:\d\d([,.])\d{3} --> \d\d:\d\d:\d\d\1\d{3}$", shown, re.MULTILINE)
    assert times == {"text": [], "srt": [","], "vtt": ["."]}[form]


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such recording"), (b"", "is empty"), (b"no audio at all", "not audio")]
)
def test_bad_files(content: bytes | None, message: str, recognizing: Recognizing, tmp_path: Path) -> None:
    path = tmp_path / "bad.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpeechmillError, match=rf"bad\.wav: .*{message}"):
        transcribe(recognizing, path)
