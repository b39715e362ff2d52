"""Plain CSV and JSON lines, NeMo manifests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from corpus_fixtures import write_audio, write_lines

from speechmill.corpora import drops_path, import_corpus
from speechmill.corpora.base import Limits
from speechmill.errors import SpeechmillError
from speechmill.manifest import read_manifest


def jsonl(path: Path, *rows: dict[str, Any] | str) -> Path:
    return write_lines(path, *(row if isinstance(row, str) else json.dumps(row) for row in rows))


def drops(out: Path) -> list[tuple[Any, ...]]:
    table = pl.read_csv(drops_path(out), separator="\t", quote_char=None)
    return table.sort("row").select("row", "reason").rows()


def test_csv(tmp_path: Path) -> None:
    write_audio(tmp_path / "calls" / "a.wav", 6.0, 22050, channels=2)
    write_audio(tmp_path / "b.flac", 1.5)
    table = write_lines(
        tmp_path / "mine.csv",
        "audio,text,start,end,speaker,sector,native",
        'calls/a.wav,"Good morning, ""all"".",0.4,3.15,jane,Retail,true',
        'calls/a.wav,"Two',
        'lines",3.15,,joe,Retail,no',
        f"{tmp_path}/b.flac,Whole file.,,,,,",
        "calls/a.wav,Late,5.0,7.5,jane,,",
        "calls/a.wav,Backwards,3,2,jane,,",
        "calls/a.wav,When?,soon,5,jane,,",
        "calls/a.wav,,1,2,jane,,",
        "calls/a.wav,Short,1,1.1,jane,,",
        "calls/c.wav,Gone,1,2,jane,,",
        ",No audio,1,2,jane,,",
        "calls/a.wav,A cell, too many,1,2,jane,,",
    )
    out = tmp_path / "a.parquet"
    done = import_corpus("csv", table, out)
    kept = read_manifest(out)
    assert kept.select("start", "end", "text", "speaker", "call", "native", "sector", "samplerate", "timed").rows() == [
        (0.0, 1.5, "Whole file.", "", f"{tmp_path}/b", None, None, 8000, True),
        (0.4, 3.15, 'Good morning, "all".', "jane", "calls/a", True, "Retail", 22050, True),
        (3.15, 6.0, "Two\nlines", "joe", "calls/a", False, "Retail", 22050, True),
    ]
    assert kept["id"][1:].to_list() == ["calls-a_2", "calls-a_4"]  # the line that a row ends on
    assert drops(out) == [
        (6, "past-recording-end"), (7, "bad-time"), (8, "bad-time"), (9, "empty-text"), (10, "too-short"),
        (11, "missing-recording"), (12, "no-audio"), (13, "bad-row"),
    ]  # fmt: skip
    assert done.report["failures"][0].startswith("calls/c: missing-recording")


def test_times_can_be_ignored(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", 6.0)
    write_audio(tmp_path / "b.wav", 150.0)
    write_audio(tmp_path / "c.wav", 3.0)  # none of its times can be read
    table = write_lines(
        tmp_path / "mine.csv", "audio,text,start,end",
        "a.wav,One,3,4", "b.wav,Four,,", "a.wav,Two,soon,7", "a.wav,,1,2", "a.wav,Three,2,1", "b.wav,Five,900,901",
        ",No audio,1,2", "c.wav,Six,00:00:01,00:00:02",
    )  # fmt: skip
    out = tmp_path / "a.parquet"
    done = import_corpus("csv", table, out, limits=Limits(ignore_times=True))
    kept = read_manifest(out)
    assert kept.select("start", "end", "text", "timed").rows() == [
        (0.0, 2.0, "One", False), (2.0, 4.0, "Two", False), (4.0, 6.0, "Three", False),
        (0.0, 75.0, "Four", False), (75.0, 150.0, "Five", False), (0.0, 3.0, "Six", False),
    ]  # fmt: skip
    assert drops(out) == [(5, "empty-text"), (8, "no-audio")]
    assert done.report["hours_kept"] == pytest.approx(159 / 3600, abs=1e-6)
    table = pl.read_csv(drops_path(out), separator="\t", quote_char=None)
    assert table["seconds"].null_count() == len(table)


def test_rows_without_times_that_share_a_file_are_none_of_them_all_of_it(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", 6.0)
    write_audio(tmp_path / "b.wav", 3.0)
    table = write_lines(
        tmp_path / "t.csv", "audio,text,start,end",
        "a.wav,One,,", "a.wav,Two,,", "b.wav,Alone,,", "b.wav,Timed,1,2", "a.wav,,,", "a.wav,Three,,",
    )  # fmt: skip
    done = import_corpus("csv", table, tmp_path / "a.parquet")
    kept = read_manifest(tmp_path / "a.parquet")
    assert kept.select("start", "end", "text", "timed").rows() == [
        (0.0, 2.0, "One", False), (2.0, 4.0, "Two", False), (4.0, 6.0, "Three", False),
        (0.0, 3.0, "Alone", True), (1.0, 2.0, "Timed", True),
    ]  # fmt: skip
    (note,) = done.report["warnings"]
    assert note.startswith("3 rows without times share 1 recordings (timed: false)")
    assert "speechmill align" in note
    assert "--ignore-times" in note


def test_ids_are_made_fit_and_unique(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", 3.0)
    rows = [
        f"a.wav,text {number},{number},{number + 0.5},{name}" for number, name in enumerate(["x/1", "x 1", "y" * 200])
    ]
    import_corpus("csv", write_lines(tmp_path / "t.csv", "audio,text,start,end,id", *rows), tmp_path / "a.parquet")
    assert read_manifest(tmp_path / "a.parquet")["id"].to_list() == ["x-1", "x-1-2", "y" * 87]


def test_a_long_recording_without_times_is_kept_whole_to_be_aligned(tmp_path: Path) -> None:
    write_audio(tmp_path / "long.flac", 130.0, 4000)
    write_audio(tmp_path / "short.flac", 3.0, 4000)
    table = write_lines(tmp_path / "t.csv", "audio,text", "long.flac,A whole call.", "short.flac,One sentence.")
    done = import_corpus("csv", table, tmp_path / "a.parquet")
    kept = read_manifest(tmp_path / "a.parquet")
    assert kept.select("call", "end", "timed").rows() == [("long", 130.0, False), ("short", 3.0, True)]
    assert "1 recordings of 1 calls have no times" in done.report["warnings"][0]


def test_tab_separated_and_line_ends_of_windows(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", 3.0)
    table = write_lines(tmp_path / "t.tsv", "text\taudio", "Good, day\ta.wav", end="\r\n")
    import_corpus("csv", table, tmp_path / "a.parquet")
    assert read_manifest(tmp_path / "a.parquet")["text"].to_list() == ["Good, day"]


@pytest.mark.parametrize("mark", [";", "|", "\t"])
def test_other_separators_are_told_by_the_header(tmp_path: Path, mark: str) -> None:
    write_audio(tmp_path / "a.wav", 3.0)
    rows = (["text", "audio", "start", "end"], ['"Good; day, all"', "a.wav", "0.5", "1.25"])
    table = write_lines(tmp_path / "t.csv", *(mark.join(row) for row in rows))
    import_corpus("csv", table, tmp_path / "a.parquet")
    kept = read_manifest(tmp_path / "a.parquet")
    assert kept.select("text", "start", "end").rows() == [("Good; day, all", 0.5, 1.25)]


def test_excels_table_where_the_comma_is_the_decimal_point(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", 3.0)
    rows = ("\ufeffaudio;text;start;end", "a.wav;Well, yes.;0,5;1,25", "a.wav;No.;1,2,3;2")
    table = write_lines(tmp_path / "t.csv", *rows)
    import_corpus("csv", table, tmp_path / "a.parquet")
    kept = read_manifest(tmp_path / "a.parquet")
    assert kept.select("text", "start", "end").rows() == [("Well, yes.", 0.5, 1.25)]
    assert drops(tmp_path / "a.parquet") == [(3, "bad-time")]


@pytest.mark.parametrize(("kind", "key"), [("jsonl", "audio"), ("nemo", "audio_filepath")])
def test_audio_that_is_no_text(tmp_path: Path, kind: str, key: str) -> None:
    write_audio(tmp_path / "a.wav", 3.0)
    array = {"path": "a.wav", "array": [0.0, 0.5], "sampling_rate": 8000}
    values = [array, {"path": None, "bytes": ""}, ["a.wav", "b.wav"], 7, False, None, {"path": {"path": "a.wav"}}]
    out = tmp_path / "a.parquet"
    import_corpus(kind, jsonl(tmp_path / "t.jsonl", *({key: value, "text": "Hi."} for value in values)), out)
    kept = read_manifest(out)
    assert kept.select("recording", "call", "text").rows() == [(str(tmp_path / "a.wav"), "a", "Hi.")]
    found = pl.read_csv(drops_path(out), separator="\t", quote_char=None).sort("row")
    assert set(found["reason"]) == {"no-audio"}
    expected = "the path of an audio file was expected"
    assert found["detail"].to_list() == [
        f"{key} is an object without a path; {expected}", f"{key} is a list; {expected}", f"{key} is 7; {expected}",
        f"{key} is false; {expected}", f"no path of an audio file in {key}",
        f"{key} is an object without a path; {expected}",
    ]  # fmt: skip


def test_names_of_the_manifests_own_are_left_out_and_split_becomes_subset(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", 3.0)
    table = write_lines(tmp_path / "t.csv", "audio,text,split,recording,samplerate,sector", "a.wav,Hi,dev,x,9,Energy")
    done = import_corpus("csv", table, tmp_path / "a.parquet")
    kept = read_manifest(tmp_path / "a.parquet")
    assert kept.select("split", "subset", "samplerate", "sector").rows() == [("", "dev", 8000, "Energy")]
    assert "recording, samplerate" in done.report["warnings"][0]


def test_json_lines(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", 6.0)
    table = jsonl(
        tmp_path / "t.jsonl",
        {"audio": "a.wav", "text": "Good.", "start": 0, "end": 2.5, "speaker": 7, "take": 1, "ceo": True, "x": [1]},
        "",
        "not json",
        "[1, 2]",
        {"audio": "a.wav", "text": "Day.", "start": 2.5, "end": 5, "take": 2, "ceo": False, "native": True},
        {"text": "No audio."},
        {"audio": " ", "text": "No audio either."},
        {"audio": "a.wav", "text": "No time.", "start": 0, "end": "nan"},
    )
    import_corpus("jsonl", table, tmp_path / "a.parquet")
    kept = read_manifest(tmp_path / "a.parquet")
    assert kept.select("text", "speaker", "take", "ceo", "x", "native").rows() == [
        ("Good.", "7", 1, True, "[1]", None), ("Day.", "", 2, False, None, True),
    ]  # fmt: skip
    dropped = [(3, "bad-row"), (4, "bad-row"), (6, "no-audio"), (7, "no-audio"), (8, "bad-time")]
    assert drops(tmp_path / "a.parquet") == dropped
    assert "nan" not in {row["seconds"] for row in pl.read_csv(
        drops_path(tmp_path / "a.parquet"), separator="\t", infer_schema=False).to_dicts()}  # fmt: skip


def test_nemo(tmp_path: Path) -> None:
    write_audio(tmp_path / "wavs" / "a.wav", 3.0)
    write_audio(tmp_path / "call.mp3", 10.0, 16000)
    path = jsonl(
        tmp_path / "train.json",
        {"audio_filepath": "wavs/a.wav", "duration": 3.0, "text": "good morning"},
        {
            "audio_filepath": "call.mp3",
            "offset": 2.5,
            "duration": 4.0,
            "text": "thank you",
            "speaker": "jane",
            "lang": "en",
        },
        {"audio_filepath": "call.mp3", "offset": 8.0, "duration": 4.0, "text": "behind the end"},
        {"audio_filepath": "call.mp3", "offset": 1.0, "duration": "long", "text": "no number"},
        {"audio_filepath": "call.mp3", "text": None, "duration": 1.0},
        {"audio_filepath": "gone.wav", "text": "gone", "duration": 1.0},
    )
    import_corpus("nemo", path, tmp_path / "a.parquet")
    kept = read_manifest(tmp_path / "a.parquet")
    assert kept.select("id", "start", "end", "text", "speaker", "lang", "call").rows() == [
        ("call_2", 2.5, 6.5, "thank you", "jane", "en", "call"),
        ("wavs-a_1", 0.0, 3.0, "good morning", "", None, "wavs/a"),
    ]
    assert drops(tmp_path / "a.parquet") == [
        (3, "past-recording-end"), (4, "bad-time"), (5, "empty-text"), (6, "missing-recording"),
    ]  # fmt: skip


def test_a_manifest_whose_audio_is_gone_is_one_clear_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "t.json", {"audio_filepath": "gone.wav", "duration": 3.0, "text": "x"})
    with pytest.raises(
        SpeechmillError, match=r"none of 1 calls can be read; gone: missing-recording: .*gone\.wav: no such"
    ):
        import_corpus("nemo", path, tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("kind", "text", "wrong"),
    [
        ("csv", "", "empty"),
        ("csv", "audio,words\na,b\n", "line 1: no column 'text'"),
        ("csv", "audio,text,text\na,b,c\n", "'text' occurs twice"),
        ("csv", "audio,text\n", "t: has no rows"),
        ("csv", "audio;words\na;b\n", "line 1: no column 'audio'; found audio;words"),
        ("csv", "x" * 200_000, "line 1: no column 'audio'"),
        ("jsonl", "", "empty"),
        ("jsonl", '{"audio": "a"}\n', "no line has the key 'text'; found audio"),
        ("jsonl", "nothing\n", "no line has the key 'audio'; found no object"),
        ("nemo", '{"audio_filepath": "a"}\n', "no line has the key 'text'"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, kind: str, text: str, wrong: str) -> None:
    (tmp_path / "t").write_text(text)
    with pytest.raises(SpeechmillError, match=wrong):
        import_corpus(kind, tmp_path / "t", tmp_path / "a.parquet")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_tables_that_are_not_utf8(tmp_path: Path, kind: str) -> None:
    (tmp_path / "t").write_bytes(b'audio,text\n{"audio": "caf\xe9"}\n')
    with pytest.raises(SpeechmillError, match="line 2: not UTF-8"):
        import_corpus(kind, tmp_path / "t", tmp_path / "a.parquet")


def test_more_rows_than_are_held_as_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechmill.corpora.tables._CHUNK", 2)
    write_audio(tmp_path / "a.wav", 9.0)
    rows: list[dict[str, Any]] = [
        {"audio": "a.wav", "text": "x", "start": number, "end": number + 1, "mixed": value, "number": other}
        for number, (value, other) in enumerate([(1, 1), (2, 2), ("three", 0.5), (True, None), (None, 4)])
    ]
    import_corpus("jsonl", jsonl(tmp_path / "t.jsonl", *rows), tmp_path / "a.parquet")
    kept = read_manifest(tmp_path / "a.parquet")
    assert kept["mixed"].to_list() == ["1", "2", "three", "true", None]
    assert kept["number"].to_list() == [1.0, 2.0, 0.5, None, 4.0]
