"""The demo corpus on disk: earnings-call-like recordings in the BizSpeech layout.

    OUT/settings.json                              what was asked for; another wish needs another folder
    OUT/MEDIA/<event>/recording.wav (or .mp3)      8, 16 or 32 kHz, mono
    OUT/MEDIA/<event>/transcript_timealigned.txt   SentenceID SpeakerID Session SentenceTimeGen Sentence
    OUT/MEDIA/<event>/words.tsv                    exact times: SentenceID Word Start End (seconds)
    OUT/summary.json
    OUT/metadata/BizSpeech_MetaData.json           written last

A folder under MEDIA is complete or absent, so that a killed run goes on where it was.
"""

from __future__ import annotations

import io
import multiprocessing
import signal
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import soundfile

from speechmill.artefact import fingerprint, locked, read_json, write_json, written_folder
from speechmill.corpora.demo.digits import write_digit_calls
from speechmill.corpora.demo.espeak import find_library
from speechmill.corpora.demo.render import Recording, render
from speechmill.corpora.demo.script import INSTRUCTIONS, Call, normalized, write_calls
from speechmill.errors import SpeechmillError
from speechmill.progress import Progress
from speechmill.workers import end_with_parent

FORMAT = 1  # raise it when the same settings give another corpus
HEADER = "SentenceID\tSpeakerID\tSession\tSentenceTimeGen\tSentence"
# Rates in turn, 16 kHz twice as often; every fourth call an MP3, at each rate.
_KINDS = tuple(
    ((16000, 8000, 16000, 32000)[place % 4], ".mp3" if (place + place // 4) % 4 == 1 else ".wav") for place in range(16)
)
SCRIPTS = {"earnings": write_calls, "digits": write_digit_calls}
_LEAST_HOURS = {"earnings": 0.02, "digits": 0.002}  # of a call
_NATIVE_PARTITION = 5


@dataclass(frozen=True)
class DemoSummary:
    """What a demo corpus holds."""

    calls: int
    native_calls: int
    companies: int
    hours: float
    voices: int
    sentences: int
    words: int
    word_types: int

    def __str__(self) -> str:
        return (
            f"{self.calls} calls ({self.native_calls} native) of {self.companies} companies, {self.hours:.2f} hours, "
            f"{self.voices} voices, {self.sentences} sentences, {self.words} words of {self.word_types} types"
        )


@dataclass(frozen=True)
class _Job:
    """All that a process needs to make one call."""

    call: Call
    folder: Path
    rate: int
    suffix: str
    seed: str


def make_demo_corpus(
    out: Path, *, calls: int = 280, hours: float = 14.0, seed: int = 0, workers: int = 2, script: str = "earnings"
) -> DemoSummary:
    """Synthesise the demo corpus into `out`, or go on with one that was interrupted.

    `hours` is met within some per cent. The bytes are a function of `calls`, `hours`, `seed` and `script`, not of
    `workers`. `script` is `earnings`, or `digits`: a person in each call who reads digits, WAV at 8 kHz.
    Raises SpeechmillError when eSpeak NG is not installed, `out` holds something else, or a number makes no sense.
    """
    settings = _settings(calls, hours, seed, workers, script)
    metadata = out / "metadata" / "BizSpeech_MetaData.json"
    if not metadata.exists():
        find_library()
    _claim(out, settings)
    if metadata.exists():
        return DemoSummary(**read_json(out / "summary.json"))
    written = SCRIPTS[script](calls, hours, seed)
    kinds = _KINDS if script == "earnings" else ((8000, ".wav"),)
    jobs = [_job(out, call, kinds[place % len(kinds)], seed) for place, call in enumerate(written)]
    with locked(out):
        _make_all(jobs, workers)
        summary = _summary(written, jobs)
        write_json(out / "summary.json", asdict(summary))
        write_json(metadata, {call.event: _metadata(call) for call in written})
    return summary


def _settings(calls: int, hours: float, seed: int, workers: int, script: str) -> dict[str, Any]:
    if script not in SCRIPTS:
        raise SpeechmillError(f"demo corpus: no script {script!r}; there are {', '.join(SCRIPTS)}")
    if calls < 2 or workers < 1:
        raise SpeechmillError(
            f"demo corpus: {calls} calls by {workers} workers; at least 2 calls and 1 worker are needed"
        )
    least = _LEAST_HOURS[script]
    if not least * calls <= hours <= 1.0 * calls:
        raise SpeechmillError(f"demo corpus: {hours} hours in {calls} calls; ask for {least:g} to 1 hour per call")
    return {"format": FORMAT, "calls": calls, "hours": float(hours), "seed": seed, "script": script}


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Leave the settings in a new folder; refuse one that holds another corpus or anything else."""
    marker = out / "settings.json"
    wanted = {**settings, "fingerprint": fingerprint(settings)}
    if marker.exists():
        found = read_json(marker)
        if found != wanted:
            raise SpeechmillError(
                f"{out}: holds a demo corpus with other settings ({_shown(found)}; asked for: {_shown(wanted)}); "
                "choose another folder or delete this one"
            )
        return
    if out.exists() and (not out.is_dir() or any(path.name[0] != "." for path in out.iterdir())):
        raise SpeechmillError(f"{out}: is not empty and holds no demo corpus; choose another folder")
    write_json(marker, wanted)


def _shown(settings: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in dict(settings).items() if key != "fingerprint")


def _job(out: Path, call: Call, kind: tuple[int, str], seed: int) -> _Job:
    return _Job(call, out / "MEDIA" / call.event, *kind, f"{seed} {call.event} audio")


def _make_all(jobs: list[_Job], workers: int) -> None:
    """One process per call, `workers` at a time: eSpeak NG gives the same samples only in a fresh process."""
    missing = [job for job in jobs if not job.folder.exists()]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["speechmill.corpora.demo.build"])
    running: dict[int, tuple[BaseProcess, Connection]] = {}
    queue = iter(missing)
    with Progress("demo corpus", len(jobs), "calls") as progress:
        progress.resume_at(len(jobs) - len(missing))
        try:
            while True:
                for job in islice(queue, workers - len(running)):
                    receiver, sender = context.Pipe(duplex=False)
                    process: BaseProcess = context.Process(target=_run, args=(job, sender))
                    process.start()
                    sender.close()
                    running[process.sentinel] = (process, receiver)
                if not running:
                    return
                for sentinel in wait(list(running)):
                    _finish(*running.pop(int(str(sentinel))))
                    progress.advance()
        finally:
            for process, _ in running.values():
                process.terminate()
                process.join()


def _finish(process: BaseProcess, receiver: Connection) -> None:
    process.join()
    try:
        raise SpeechmillError(receiver.recv())
    except EOFError:  # the child closed its end without a word: nothing went wrong, or it died
        pass
    finally:
        receiver.close()
    if process.exitcode != 0:
        raise SpeechmillError(f"demo corpus: a worker ended with exit code {process.exitcode}; run the command again")


def _run(job: _Job, sender: Connection) -> None:
    """In a process of its own: make one call, and tell the parent what went wrong in one line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its children
    end_with_parent()
    try:
        make_call(job)
    except SpeechmillError as error:
        sender.send(str(error))
    finally:
        sender.close()


def make_call(job: _Job) -> None:
    """Speak one call and write its folder."""
    recording = render(job.call, job.rate, job.seed)
    with written_folder(job.folder) as folder:
        (folder / f"recording{job.suffix}").write_bytes(encoded(recording, job.suffix))
        (folder / "transcript_timealigned.txt").write_text(transcript(job.call, recording), encoding="utf-8")
        (folder / "words.tsv").write_text(word_times(recording), encoding="utf-8")


def encoded(recording: Recording, suffix: str) -> bytes:
    """The recording as WAV (16 bit) or MP3. Made in memory, so that a full disk is an OSError like any other."""
    kind, coding = ("MP3", "MPEG_LAYER_III") if suffix == ".mp3" else ("WAV", "PCM_16")
    stream = io.BytesIO()
    soundfile.write(stream, recording.samples, recording.rate, format=kind, subtype=coding)
    return stream.getvalue()


def transcript(call: Call, recording: Recording) -> str:
    """transcript_timealigned.txt; the last row only says when the last sentence is over."""
    rows = [HEADER]
    for place, (sentence, timed) in enumerate(zip(call.sentences, recording.sentences, strict=True)):
        start = clock(timed.start)
        rows.append(f"{sentence_id(place)}\t{sentence.speaker.id}\t{sentence.session}\t{start}\t{sentence.text}")
    last = call.sentences[-1]
    rows.append(f"END\t{last.speaker.id}\t{last.session}\t{clock(recording.sentences[-1].end + 0.1)}\t")
    return "\n".join(rows) + "\n"


def word_times(recording: Recording) -> str:
    """words.tsv: every written token; "Operator Instructions" rows, whose words are not said, have none."""
    rows = ["SentenceID\tWord\tStart\tEnd"]
    for place, sentence in enumerate(recording.sentences):
        rows += [f"{sentence_id(place)}\t{word.written}\t{word.start:.3f}\t{word.end:.3f}" for word in sentence.words]
    return "\n".join(rows) + "\n"


def sentence_id(place: int) -> str:
    return f"S{place:04d}"


def clock(seconds: float) -> str:
    """3723.5 -> '01:02:03.500'."""
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest / 1000:06.3f}"


def _metadata(call: Call) -> dict[str, Any]:
    company = call.company
    partition = _NATIVE_PARTITION if company.native else 1 + int(call.event) % 4
    return {"partition": partition, "ceoID": company.boss.id, "company": company.name, "country": company.country}


def _summary(script: list[Call], jobs: list[_Job]) -> DemoSummary:
    sentences = [sentence for call in script for sentence in call.sentences]
    words = [w for sentence in sentences if sentence.text != INSTRUCTIONS for w in normalized(sentence.text).split()]
    seconds = sum(soundfile.info(job.folder / f"recording{job.suffix}").duration for job in jobs)
    return DemoSummary(
        calls=len(script),
        native_calls=sum(call.company.native for call in script),
        companies=len({call.company.name for call in script}),
        hours=round(seconds / 3600, 4),
        voices=len({sentence.speaker.voice for sentence in sentences}),
        sentences=len(sentences),
        words=len(words),
        word_types=len(set(words)),
    )
