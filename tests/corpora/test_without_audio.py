"""Rows that name no audio file are dropped with a reason, whatever the format; a manifest has no row without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import lhotse
import polars as pl
import pytest
from corpus_fixtures import write_audio, write_lines

from speechmill.corpora import KINDS, drops_path, import_corpus
from speechmill.corpora.base import Limits
from speechmill.corpora.rows import import_rows, items_table
from speechmill.errors import SpeechmillError
from speechmill.manifest import read_manifest

EMPTY = ("", "  ")
Written = Callable[[Path, tuple[str, ...]], Path]


def csv(root: Path, paths: tuple[str, ...]) -> Path:
    return write_lines(root / "t.csv", "audio,text,call,id", *(f"{path},Hello.,c,x" for path in paths))


def commonvoice(root: Path, paths: tuple[str, ...]) -> Path:
    (root / "clips").symlink_to(root)
    return write_lines(root / "test.tsv", "client_id\tpath\tsentence", *(f"ann\t{path}\tHello." for path in paths))


def spgispeech(root: Path, paths: tuple[str, ...]) -> Path:
    rows = (f"{path}|5|Hello." for path in paths)
    return write_lines(root / "val.csv", "wav_filename|wav_filesize|transcript", *rows)


def jsonl(root: Path, paths: tuple[str, ...]) -> Path:
    return write_lines(root / "t.jsonl", *(json.dumps({"audio": path, "text": "Hello."}) for path in paths))


def nemo(root: Path, paths: tuple[str, ...]) -> Path:
    rows = ({"audio_filepath": path, "text": "Hello.", "duration": 1.0} for path in paths)
    return write_lines(root / "t.json", *map(json.dumps, rows))


def cuts(root: Path, paths: tuple[str, ...]) -> Path:
    found = []
    for number, path in enumerate(paths):
        source = lhotse.AudioSource("file", [0], str(root / path) if path.strip() else path)
        recording = lhotse.Recording(f"r{number}", [source], 8000, 16000, 2.0)
        said = lhotse.SupervisionSegment(f"s{number}", f"r{number}", 0.0, 1.0, text="Hello.")
        found.append(lhotse.MonoCut(f"c{number}", 0.0, 2.0, 0, [said], recording=recording))
    lhotse.CutSet.from_cuts(found).to_file(root / "cuts.jsonl")
    return root / "cuts.jsonl"


WITH_PATHS: dict[str, Written] = {
    "spgispeech": spgispeech, "commonvoice": commonvoice, "nemo": nemo, "lhotse": cuts, "csv": csv, "jsonl": jsonl,
}  # fmt: skip
BY_NAME = {
    "bizspeech",
    "librispeech",
    "earnings21",
    "earnings22",
    "folder",
}  # find the audio by the name of a call or utterance


def test_every_format_is_known_here() -> None:
    assert {*WITH_PATHS, *BY_NAME} == set(KINDS)


@pytest.mark.parametrize("kind", WITH_PATHS)
def test_an_empty_path(kind: str, tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", 2.0)
    out = tmp_path / "out.parquet"
    done = import_corpus(kind, WITH_PATHS[kind](tmp_path, ("a.wav", *EMPTY)), out)
    kept = read_manifest(out)
    assert kept.height == done.report["utterances"] == 1
    assert kept.select("id", "recording", "start", "end").null_count().sum_horizontal().item() == 0
    assert Path(kept["recording"][0]).samefile(tmp_path / "a.wav")
    assert done.report["dropped"] == {"no-audio": 2}
    assert len(pl.read_csv(drops_path(out), separator="\t", quote_char=None)) == 2
    assert all("no-audio: " in failure for failure in done.report["failures"])


@pytest.mark.parametrize("kind", WITH_PATHS)
def test_nothing_but_empty_paths(kind: str, tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match="no-audio: "):
        import_corpus(kind, WITH_PATHS[kind](tmp_path, EMPTY), tmp_path / "out.parquet")


def test_a_row_without_a_recording_is_dropped_though_its_importer_said_nothing(tmp_path: Path) -> None:
    audio = str(write_audio(tmp_path / "a.wav", 2.0))
    rows = pl.DataFrame({"id": ["a", "b", "c"], "recording": [audio, None, None], "end": [None, 1.0, None]})
    rows = rows.with_columns(text=pl.lit("Hello."), call=pl.lit("c"))
    result = import_rows(tmp_path, items_table(rows), limits=Limits())
    assert result.table["id"].to_list() == ["a"]
    assert result.counts == {"no-audio": 2}
