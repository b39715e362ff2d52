"""Recordings with a transcript beside each."""

from __future__ import annotations

import re
from pathlib import Path

import corpus_fixtures
import polars as pl
import pytest
from corpus_fixtures import write_audio, write_lines

from speechmill.corpora import drops_path, import_corpus
from speechmill.errors import SpeechmillError
from speechmill.manifest import read_manifest


def test_audio_and_text_of_one_name_belong_together(tmp_path: Path) -> None:
    root = corpus_fixtures.folder(tmp_path / "calls")
    done = import_corpus("folder", root, tmp_path / "a.parquet")
    kept = read_manifest(tmp_path / "a.parquet")
    assert kept.select("id", "call", "text", "start", "timed").rows() == [
        ("2024-long", "2024/long", "A whole call.", 0.0, False),
        ("2024-short", "2024/short", "Good morning, and welcome.", 0.0, True),
    ]
    assert kept["end"].to_list() == pytest.approx([130.0, 3.0], abs=0.1)
    assert kept["recording"].to_list() == [str(root / "2024" / name) for name in ("long.mp3", "short.wav")]
    assert kept["transcript"].to_list() == [str(root / "2024" / name) for name in ("long.txt", "short.txt")]
    dropped = pl.read_csv(drops_path(tmp_path / "a.parquet"), separator="\t", quote_char=None)
    assert sorted(dropped.select("call", "reason").rows()) == [
        ("empty", "empty-text"), ("gone", "missing-recording"), ("latin", "unreadable-transcript"),
        ("no.text", "missing-transcript"),
    ]  # fmt: skip
    assert dropped.filter(call="no.text")["detail"].item().endswith("no.text.flac: no no.text.txt beside it")
    assert "1 recordings of 1 calls have no times" in done.report["warnings"][0]
    assert import_corpus("folder", root, tmp_path / "a.parquet").done_before


def test_of_several_recordings_with_one_name_one_is_taken_and_the_others_are_told(tmp_path: Path) -> None:
    for name in ("a.flac", "a.WAV"):
        write_audio(tmp_path / "calls" / name, 2.0)
    write_lines(tmp_path / "calls" / "a.TXT", "Good day.")
    done = import_corpus("folder", tmp_path / "calls", tmp_path / "a.parquet")
    assert read_manifest(tmp_path / "a.parquet")["recording"].to_list() == [str(tmp_path / "calls" / "a.WAV")]
    assert done.report["warnings"] == ["1 files are left out, another of the same name is taken: a.flac"]


@pytest.mark.parametrize(
    ("place", "wrong"), [("calls/a.wav", "a.wav: is a file; a folder of"), ("calls", "calls: no .txt in it")]
)
def test_what_is_no_such_folder(place: str, wrong: str, tmp_path: Path) -> None:
    write_audio(tmp_path / "calls" / "a.wav", 2.0)
    with pytest.raises(SpeechmillError, match=re.escape(wrong)):
        import_corpus("folder", tmp_path / place, tmp_path / "a.parquet")
