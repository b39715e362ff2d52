"""Transcribe: any audio file -> text with times. Long recordings are cut at their quietest moments."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from speechmill.audio import decode
from speechmill.errors import SpeechmillError
from speechmill.hypothesis import Hypothesis, Word
from speechmill.progress import Progress
from speechmill.recognize import Audio, Recognizing

FORMATS = ("text", "json", "srt", "vtt")
_WHOLE = 20.0  # seconds up to which a recording is not cut
_SHORTEST, _LONGEST = 4.0, 16.0  # seconds of a piece of a longer one
_PAUSE = 0.3  # seconds over which loudness is averaged to find a pause
_STEP = 0.01  # seconds
_BLOCK = 6000  # steps
# Training utterances begin where speech does: a piece that began in a pause was given a word for it ("Thank, First").
_DEEPEST_DB = 60.0  # below a recording's loudest moments: what is softer is no speech, however silent its pauses are
_ABOVE_NOISE = 0.2  # of the way in dB from the softest moments (noise) to the loudest (speech)
_CLEAR_DB = 20.0  # between noise and speech; where they are closer, pauses cannot be told
_BEFORE, _AFTER = 0.01, 0.2  # seconds of a piece kept before its first sound and behind its last


@dataclass(frozen=True)
class Segment:
    """A piece of a recording from its first sound to its last: seconds from its start, and what was heard."""

    start: float  # seconds
    end: float  # seconds
    text: str
    words: tuple[Word, ...] = ()  # with their times from the start of the recording
    caught: str = ""  # see Hypothesis


@dataclass(frozen=True)
class Transcript:
    """A file with its segments in order of time."""

    file: str
    seconds: float
    text: str
    segments: list[Segment]


def transcribe(recognizing: Recognizing, path: Path) -> Transcript:
    """The text of one audio file of any rate and number of channels."""
    rate = recognizing.model.log_mel.settings.sample_rate
    audio = decode(path, rate)
    spans = cut_at_pauses(audio, rate)
    sounding = without_silence(audio, rate, spans)
    if len(spans) > 1 or not sounding:  # a short recording is heard whole, as other toolkits hear it
        spans = sounding
    pieces = [audio[start:end] for start, end in spans]
    with Progress(f"transcribe {path.name}", len(pieces), "pieces") as progress:
        heard = recognizing.all(pieces.__getitem__, [len(piece) for piece in pieces], progress)
    segments = [
        _segment(hypothesis, start / rate, end / rate)
        for (start, end), hypothesis in zip(spans, heard, strict=True)
        if hypothesis.text
    ]
    return Transcript(str(path), len(audio) / rate, " ".join(segment.text for segment in segments), segments)


def _segment(hypothesis: Hypothesis, start: float, end: float) -> Segment:
    """From the first word to the last, where their times are known; else the piece as it was cut."""
    words = tuple(
        replace(word, start=round(start + word.start, 3), end=round(min(end, start + word.end), 3))
        for word in hypothesis.words
    )
    first, last = (words[0].start, words[-1].end) if words else (round(start, 3), round(end, 3))
    return Segment(first, last, hypothesis.text, words, hypothesis.caught)


def cut_at_pauses(audio: Audio, rate: int) -> list[tuple[int, int]]:
    """Spans (samples) that cover a recording; each but the last ends where it is quietest, 4 to 16 s on."""
    if len(audio) <= _WHOLE * rate:
        return [(0, len(audio))]
    level = _loudness(audio, round(_STEP * rate))
    cuts = [0]
    while len(level) - cuts[-1] > _LONGEST / _STEP:
        first, last = cuts[-1] + int(_SHORTEST / _STEP), cuts[-1] + int(_LONGEST / _STEP)
        last = min(last, len(level) - int(_SHORTEST / _STEP))  # what is left is not too short to be recognized
        cuts.append(first + int(np.argmin(level[first:last])))
    edges = [cut * round(_STEP * rate) for cut in cuts] + [len(audio)]
    return list(itertools.pairwise(edges))


def without_silence(audio: Audio, rate: int, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans (samples) from their first sound to their last, a little of the pauses kept; silent ones are left out.

    Sound is what comes out of the recording's noise; see `_threshold`.
    """
    hop = round(_STEP * rate)
    if len(audio) < hop:
        return spans if audio.any() else []
    power = _power(audio, hop)
    sound = power > _threshold(power)
    before, after = round(_BEFORE * rate), round(_AFTER * rate)
    found = []
    for start, end in spans:
        heard = np.flatnonzero(sound[start // hop : -(-end // hop)]) + start // hop
        if len(heard):
            first, last = int(heard[0]) * hop - before, (int(heard[-1]) + 1) * hop + after
            found.append((max(start, first), min(end, last)))
    return found


def _threshold(power: npt.NDArray[np.float64]) -> float:
    """The power above which a hop is sound, by the recording's softest twentieth and its loudest hundredth."""
    noise, speech = 10 * np.log10(np.quantile(power, (0.05, 0.99)) + 1e-3)
    if speech - noise < _CLEAR_DB:
        return 0.0  # digital silence alone is told
    noise = max(noise, speech - _DEEPEST_DB)
    return float(10 ** ((noise + _ABOVE_NOISE * (speech - noise)) / 10))


def _loudness(audio: Audio, hop: int) -> npt.NDArray[np.float64]:
    """Mean square of each hop, averaged over the length of a pause around it."""
    width = round(_PAUSE / _STEP)
    return np.convolve(_power(audio, hop), np.ones(width) / width, mode="same")


def _power(audio: Audio, hop: int) -> npt.NDArray[np.float64]:
    """Mean square of each whole hop."""
    framed = audio[: len(audio) // hop * hop].reshape(-1, hop)
    power = np.empty(len(framed))
    for start in range(0, len(framed), _BLOCK):  # of hours of sound, only a block is copied at a time
        power[start : start + _BLOCK] = np.square(framed[start : start + _BLOCK].astype(np.float64)).mean(axis=1)
    return power


def render(transcripts: list[Transcript], form: str) -> str:
    """Transcripts as text (a line each), JSON (a list), SubRip or WebVTT subtitles (of one recording)."""
    if form == "json":
        return json.dumps([asdict(transcript) for transcript in transcripts], ensure_ascii=False, indent=1)
    if form == "text":
        return "\n".join(transcript.text for transcript in transcripts)
    check_format(form, len(transcripts))
    segments = transcripts[0].segments
    if form == "srt":
        return "\n\n".join(f"{number}\n{_cue(segment, ',')}" for number, segment in enumerate(segments, 1))
    # "&" and "<" begin markup in WebVTT.
    escaped = [replace(segment, text=escape(segment.text)) for segment in segments]
    return "\n\n".join(["WEBVTT", *(_cue(segment, ".") for segment in escaped)])


def check_format(form: str, files: int) -> None:
    """Raise SpeechmillError where that many recordings do not go into one output."""
    if form in ("srt", "vtt") and files != 1:
        raise SpeechmillError(f"--format {form}: subtitles have the times of one recording; {files} were given.")


def _cue(segment: Segment, decimal: str) -> str:
    return f"{_time(segment.start, decimal)} --> {_time(segment.end, decimal)}\n{segment.text}"


def _time(seconds: float, decimal: str) -> str:
    """3723.5 -> 01:02:03.500"""
    milliseconds = round(seconds * 1000)
    whole = milliseconds // 1000
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{decimal}{milliseconds % 1000:03d}"
