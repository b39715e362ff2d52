"""Lhotse cut sets in, and manifests out to Lhotse and NeMo."""

from __future__ import annotations

import builtins
import gzip
import json
import sys
from pathlib import Path

import lhotse
import polars as pl
import pytest
from corpus_fixtures import write_audio, write_lines

from speechmill.corpora import import_corpus
from speechmill.corpora.export import export_manifest
from speechmill.errors import SpeechmillError
from speechmill.manifest import read_manifest, write_manifest


def supervision(name: str, recording: str, start: float, seconds: float, text: str | None, **more: object):  # type: ignore[no-untyped-def]
    return lhotse.SupervisionSegment(name, recording, start, seconds, text=text, **more)


def cut(name: str, recording: object, start: float, seconds: float, *supervisions: object):  # type: ignore[no-untyped-def]
    return lhotse.MonoCut(name, start, seconds, 0, list(supervisions), recording=recording)


def test_cuts(tmp_path: Path) -> None:
    long = lhotse.Recording.from_file(write_audio(tmp_path / "r1.flac", 10.0, 16000))
    stereo = lhotse.Recording.from_file(write_audio(tmp_path / "r2.wav", 5.0, 8000, channels=2))
    gone = lhotse.Recording.from_file(write_audio(tmp_path / "r3.wav", 5.0))
    (tmp_path / "r3.wav").unlink()
    piped = long.to_dict() | {"id": "r4", "sources": [{"type": "command", "channels": [0], "source": "cat"}]}
    other = lhotse.Recording.from_dict(piped)
    one = supervision("s1", "r1", 0.5, 2.0, "one", speaker="ann", custom={"native": True, "take": 3})
    first = cut("c1", long, 0.5, 6.0, one, supervision("s2", "r1", 3.0, 2.0, "two", language="en"))
    cuts = [
        first,
        cut("c2", stereo, 0.0, 5.0, supervision("s3", "r2", 0.0, 2.0, "left")),
        cut("c3", gone, 0.0, 5.0, supervision("s4", "r3", 0.0, 2.0, "gone")),
        cut("c4", other, 0.0, 5.0, supervision("s5", "r4", 0.0, 2.0, "piped")),
        cut("c5", long, 7.0, 2.0),
        cut("c6", long.perturb_speed(1.1), 0.0, 2.0, supervision("s6", "r1", 0.0, 2.0, "fast")),
        cut("c7", long, 7.0, 1.0, supervision("s7", "r1", 0.0, 1.0, None)),
        first.pad(duration=8.0),
    ]
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    done = import_corpus("lhotse", tmp_path, tmp_path / "a.parquet")
    kept = read_manifest(tmp_path / "a.parquet")
    assert kept.select("id", "start", "end", "text", "speaker", "call", "native", "take", "language").rows() == [
        ("s1", 1.0, 3.0, "one", "ann", "r1", True, 3, None), ("s2", 3.5, 5.5, "two", "", "r1", None, None, "en"),
    ]  # fmt: skip
    assert done.report["dropped"] == {
        "empty-text": 1, "missing-recording": 1, "mixed-cut": 1, "no-supervision": 1, "not-a-file": 1,
        "one-of-several-channels": 1, "transformed": 1,
    }  # fmt: skip
    again = import_corpus("lhotse", tmp_path / "cuts.jsonl.gz", tmp_path / "b.parquet")
    assert read_manifest(again.manifest).equals(kept)


def test_recordings_with_supervisions_as_lhotse_prepares_them(tmp_path: Path) -> None:
    recordings = [
        lhotse.Recording.from_file(write_audio(tmp_path / "r1.flac", 10.0, 16000)),
        lhotse.Recording.from_file(write_audio(tmp_path / "r2.wav", 5.0, 8000, channels=2)),
    ]
    supervisions = [
        supervision("s1", "r1", 0.5, 2.0, "one", speaker="ann"),
        supervision("s2", "r2", 0.5, 2.0, "left"),
        supervision("s3", "r9", 0.5, 2.0, "nowhere"),
        supervision("s4", "r2", 0.0, 4.0, "both", channel=[0, 1]),
    ]
    lhotse.RecordingSet.from_recordings(recordings).to_file(tmp_path / "mine_recordings_test.jsonl.gz")
    lhotse.SupervisionSet.from_segments(supervisions).to_file(tmp_path / "mine_supervisions_test.jsonl.gz")
    for number, source in enumerate((tmp_path, *sorted(tmp_path.glob("mine_*")))):
        done = import_corpus("lhotse", source, tmp_path / f"{number}.parquet")
        kept = read_manifest(done.manifest)
        assert kept.select("id", "start", "end", "text", "call").rows() == [
            ("s1", 0.5, 2.5, "one", "r1"), ("s4", 0.0, 4.0, "both", "r2"),
        ]  # fmt: skip
        assert done.report["dropped"] == {"no-recording": 1, "one-of-several-channels": 1}


def test_halves_and_files_of_other_kinds(tmp_path: Path) -> None:
    recording = lhotse.Recording.from_file(write_audio(tmp_path / "r1.flac", 2.0, 16000))
    lhotse.RecordingSet.from_recordings([recording]).to_file(tmp_path / "mine_recordings.jsonl")
    with pytest.raises(SpeechmillError, match="the other half"):
        import_corpus("lhotse", tmp_path / "mine_recordings.jsonl", tmp_path / "a.parquet")
    write_lines(tmp_path / "cuts.jsonl", '{"id": "x", "nothing": 1}')
    with pytest.raises(SpeechmillError, match="Lhotse cannot read it"):
        import_corpus("lhotse", tmp_path / "cuts.jsonl", tmp_path / "a.parquet")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Three utterances of two calls, one of them in stereo, with columns of all types and values that are unknown."""
    calls = [write_audio(tmp_path / "one" / "recording.flac", 9.0, 16000),
             write_audio(tmp_path / "two" / "recording.wav", 5.0, 44100, channels=2)]  # fmt: skip
    table = pl.DataFrame(
        {
            "id": ["a_1", "a_2", "b_1"], "recording": [str(calls[0]), str(calls[0]), str(calls[1])],
            "start": [0.1, 4.0, 0.0], "end": [3.3, 8.75, 5.0], "text": ["Grüß Gott.", 'So "yes".', "Well, no."],
            "speaker": ["ann", "", "bob"], "call": ["a", "a", "b"], "session": ["presentation", "q-and-a", ""],
            "native": [True, None, False], "split": ["train", "train", "test"], "ceo": [True, False, None],
            "quarter": [3, 3, None], "samplerate": [16000, 16000, 44100], "timed": [True, True, False],
        }
    )  # fmt: skip
    write_manifest(table, tmp_path / "mine.parquet")
    return tmp_path / "mine.parquet"


@pytest.mark.parametrize(
    ("form", "name"), [("nemo", "out.json"), ("lhotse", "cuts.jsonl.gz"), ("lhotse", "cuts.jsonl")]
)
def test_out_and_in_again_gives_the_same_rows(tmp_path: Path, manifest: Path, form: str, name: str) -> None:
    assert export_manifest(manifest, tmp_path / name, form) == 3
    import_corpus(form, tmp_path / name, tmp_path / "back.parquet")
    given, back = read_manifest(manifest), read_manifest(tmp_path / "back.parquet")
    assert back["subset"].to_list() == ["train", "train", "test"]  # select makes splits
    assert back.select(given.columns).drop("split").equals(given.drop("split"))


def test_rows_that_share_a_recording_without_times_are_no_manifest_of_others(tmp_path: Path, manifest: Path) -> None:
    table = read_manifest(manifest)
    table = table.with_columns(recording=pl.lit(table["recording"][0]), timed=pl.lit(False))
    write_manifest(table, tmp_path / "none.parquet")
    with pytest.raises(SpeechmillError, match="3 rows have no times of their own"):
        export_manifest(tmp_path / "none.parquet", tmp_path / "out.json", "nemo")
    assert not (tmp_path / "out.json").exists()


def test_what_is_written(tmp_path: Path, manifest: Path) -> None:
    export_manifest(manifest, tmp_path / "train.json", "nemo", "train")
    lines = [json.loads(line) for line in (tmp_path / "train.json").read_text().splitlines()]
    assert lines[0] == {
        "audio_filepath": str(tmp_path / "one" / "recording.flac"), "offset": 0.1, "duration": 3.2,
        "text": "Grüß Gott.",
        "id": "a_1", "speaker": "ann", "call": "a", "session": "presentation", "native": True, "split": "train",
        "ceo": True, "quarter": 3, "samplerate": 16000, "timed": True,
    }  # fmt: skip
    assert len(lines) == 2
    export_manifest(manifest, tmp_path / "cuts.jsonl.gz", "lhotse")
    cuts = lhotse.CutSet.from_file(tmp_path / "cuts.jsonl.gz").to_eager()
    lhotse.validate(cuts, read_data=True)
    assert [one.load_audio().shape for one in cuts] == [(1, 51200), (1, 76000), (2, 220500)]
    assert cuts["a_2"].supervisions[0].text == 'So "yes".'
    before = (tmp_path / "cuts.jsonl.gz").read_bytes()
    export_manifest(manifest, tmp_path / "cuts.jsonl.gz", "lhotse")
    assert (tmp_path / "cuts.jsonl.gz").read_bytes() == before
    assert gzip.decompress(before).count(b"\n") == 3


def test_exporting_what_is_not_there(tmp_path: Path, manifest: Path) -> None:
    with pytest.raises(SpeechmillError, match=r"no rows of the split 'dev'; there is 'test', 'train'"):
        export_manifest(manifest, tmp_path / "x.json", "nemo", "dev")
    (tmp_path / "two" / "recording.wav").unlink()
    with pytest.raises(SpeechmillError, match=r"1 of its 2 recordings are not there any more, .*recording\.wav"):
        export_manifest(manifest, tmp_path / "x.json", "nemo")
    with pytest.raises(SpeechmillError, match="no format"):
        export_manifest(manifest, tmp_path / "x.json", "kaldi")
    assert not (tmp_path / "x.json").exists()


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name == "lhotse":
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "lhotse", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(SpeechmillError, match=r"pip install 'speechmill\[lhotse\]'"):
        import_corpus("lhotse", tmp_path, tmp_path / "a.parquet")
