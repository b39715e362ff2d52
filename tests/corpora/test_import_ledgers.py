"""What an import says of every second of its recordings, in every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import corpus_fixtures
import lhotse
import polars as pl
import pytest
from corpus_fixtures import tokens, untimed, write_audio, write_lines

from speechmill.audio import probe
from speechmill.corpora import KINDS, import_corpus
from speechmill.errors import SpeechmillError
from speechmill.inspection import inspect_ledger
from speechmill.ledger import KEPT, UNTRANSCRIBED, ledger_path, read_ledger
from speechmill.manifest import read_manifest


def bizspeech(root: Path) -> Path:
    header = "SentenceID\tSpeakerID\tSession\tSentenceTimeGen\tSentence"
    rows = [f"S{n}\t1\tq-and-a\t00:00:0{n}.000\tSentence {n}." for n in range(1, 5)]
    for call, seconds in (("good", 6.0), ("no-transcript", 3.0), ("short-transcript", 2.5), ("no-audio", None)):
        if call != "no-transcript":
            lines = rows[:1] if call == "short-transcript" else rows
            write_lines(root / "MEDIA" / call / "transcript_timealigned.txt", header, *lines)
        if seconds:
            write_audio(root / "MEDIA" / call / "recording.wav", seconds)
    return root


def earnings21(root: Path) -> Path:
    for call, seconds in (("1", 12.0), ("2", 130.0)):
        write_lines(root / "nlp_references" / f"{call}.nlp", corpus_fixtures.REFERENCE, *untimed(tokens("Not timed.")))
        write_audio(root / "media" / f"{call}.mp3", seconds, 16000)
    write_lines(root / "nlp_references" / "3.nlp", "nothing|of|the|kind")
    write_audio(root / "media" / "3.mp3", 4.0)
    return root


def table_rows(root: Path) -> list[dict[str, object]]:
    write_audio(root / "a.wav", 6.0)
    write_audio(root / "b.flac", 1.5)
    write_audio(root / "c.wav", 2.0)
    return [
        {"audio": "a.wav", "text": "One.", "start": 0.5, "end": 2.0},
        {"audio": "a.wav", "text": "Two.", "start": 1.5, "end": 3.0},
        {"audio": "a.wav", "text": "", "start": 4.0, "end": 5.0},
        {"audio": "a.wav", "text": "Back.", "start": 5.0, "end": 4.0},
        {"audio": "b.flac", "text": "All of it."},
        {"audio": "c.wav", "text": "When?", "start": "soon", "end": "late"},
        {"audio": "gone.wav", "text": "Gone.", "start": 0.0, "end": 1.0},
        {"text": "No audio.", "start": 0.0, "end": 1.0},
    ]


def jsonl(root: Path) -> Path:
    return write_lines(root / "t.jsonl", *map(json.dumps, table_rows(root)))


def csv(root: Path) -> Path:
    rows = table_rows(root)
    names = ("audio", "text", "start", "end")
    return write_lines(root / "t.csv", ",".join(names), *(",".join(str(row.get(n, "")) for n in names) for row in rows))


def nemo(root: Path) -> Path:
    write_audio(root / "a.wav", 6.0)
    write_audio(root / "b.wav", 2.0)
    rows = [
        {"audio_filepath": "a.wav", "offset": 1.0, "duration": 2.0, "text": "one"},
        {"audio_filepath": "a.wav", "offset": 5.0, "duration": 2.0, "text": "past the end"},
        {"audio_filepath": "b.wav", "duration": 2.0, "text": ""},
    ]
    return write_lines(root / "t.json", *map(json.dumps, rows))


def lhotse_pair(root: Path) -> Path:
    paths = [write_audio(root / "r1.flac", 10.0, 16000), write_audio(root / "r2.wav", 5.0, channels=2)]
    said = [("s1", "r1", 0.5, 2.0, 0), ("s2", "r1", 9.0, 2.0, 0), ("s3", "r2", 0.0, 4.0, 1)]
    made = [
        lhotse.SupervisionSegment(name, recording, start, seconds, channel=channel, text="said")
        for name, recording, start, seconds, channel in said
    ]
    lhotse.RecordingSet.from_recordings(map(lhotse.Recording.from_file, paths)).to_file(root / "x_recordings.jsonl.gz")
    lhotse.SupervisionSet.from_segments(made).to_file(root / "x_supervisions.jsonl.gz")
    return root


CORPORA: dict[str, Callable[[Path], Path]] = {
    "bizspeech": bizspeech,
    "librispeech": corpus_fixtures.librispeech,
    "spgispeech": corpus_fixtures.spgispeech,
    "earnings21": earnings21,
    "earnings22": corpus_fixtures.earnings22,
    "commonvoice": corpus_fixtures.commonvoice,
    "nemo": nemo,
    "lhotse": lhotse_pair,
    "csv": csv,
    "jsonl": jsonl,
    "folder": corpus_fixtures.folder,
}


def length(path: Path) -> float | None:
    try:
        return probe(path).seconds
    except SpeechmillError:
        return None


def outcomes(ledger: pl.DataFrame, name: str) -> dict[str, float]:
    some = ledger.filter(pl.col("recording").str.ends_with(name), (pl.col("seconds") != 0) | (pl.col("utterances") > 0))
    return dict(some.select("outcome", pl.col("seconds").round(3)).iter_rows())


def test_every_format_is_here() -> None:
    assert tuple(CORPORA) == KINDS


@pytest.mark.parametrize("kind", CORPORA)
def test_every_second_of_every_recording(kind: str, tmp_path: Path) -> None:
    source = CORPORA[kind](tmp_path / "corpus")
    out = tmp_path / "a.parquet"
    report = import_corpus(kind, source, out).report
    ledger = read_ledger(ledger_path(out))
    there = [path for path in sorted((tmp_path / "corpus").rglob("*")) if path.suffix in (".wav", ".mp3", ".flac")]
    known = {path: seconds for path in there if (seconds := length(path)) is not None}
    told = dict(ledger.drop_nulls("source_seconds").select("recording", "source_seconds").iter_rows())
    assert told == pytest.approx({str(path): seconds for path, seconds in known.items()}, abs=1e-6)
    assert float(ledger["seconds"].sum()) == pytest.approx(sum(known.values()), abs=1e-5 * len(ledger))
    counted = ledger.filter(pl.col("utterances") > 0).group_by("outcome").agg(pl.col("utterances").sum())
    kept = read_manifest(out).height
    assert dict(counted.iter_rows()) == {KEPT: kept, **report["dropped"]}
    assert inspect_ledger(out)[1] == []


def test_seconds_fall_with_the_recording_that_they_are_of(tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    import_corpus("librispeech", corpus_fixtures.librispeech(tmp_path / "corpus"), out)
    ledger = read_ledger(ledger_path(out))
    assert outcomes(ledger, "134686-0000.flac") == {KEPT: 2.0}
    assert outcomes(ledger, "70968-0000.flac") == {KEPT: 3.0}
    assert outcomes(ledger, "0003.flac") == {"empty-text": 1.0}
    assert outcomes(ledger, "0002.flac") == {"missing-recording": 0.0}


def test_a_recording_of_which_nothing_can_be_used_falls_for_the_reason_why(tmp_path: Path) -> None:
    import_corpus("bizspeech", bizspeech(tmp_path / "biz"), tmp_path / "a.parquet")
    ledger = read_ledger(ledger_path(tmp_path / "a.parquet"))
    assert outcomes(ledger, "no-transcript/recording.wav") == {"missing-transcript": 3.0}
    assert outcomes(ledger, "short-transcript/recording.wav") == {"empty-transcript": 2.5}
    assert outcomes(ledger, "good/recording.wav") == {KEPT: 3.0, "unknown-end": 0.0, UNTRANSCRIBED: 3.0}
    import_corpus("earnings21", earnings21(tmp_path / "e21"), tmp_path / "b.parquet")
    found = outcomes(read_ledger(ledger_path(tmp_path / "b.parquet")), "3.mp3")
    assert found == {"missing-column": pytest.approx(probe(tmp_path / "e21/media/3.mp3").seconds, abs=1e-3)}


def test_rows_of_one_recording(tmp_path: Path) -> None:
    import_corpus("csv", csv(tmp_path / "t"), tmp_path / "a.parquet")
    ledger = read_ledger(ledger_path(tmp_path / "a.parquet"))
    assert outcomes(ledger, "a.wav") == {
        KEPT: 3.0, "overlap": -0.5, "empty-text": 1.0, "bad-time": 0.0, UNTRANSCRIBED: 2.5,
    }  # fmt: skip
    assert outcomes(ledger, "c.wav") == {"bad-time": 2.0}
    assert outcomes(ledger, "gone.wav") == {"missing-recording": 0.0}
