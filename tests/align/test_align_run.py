"""`speechmill align` over recordings: parts, workers, merging, bad input."""

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from scripted import Scripted, manifest, said

from speechmill.align import run
from speechmill.align.base import Heard
from speechmill.align.known import Telling
from speechmill.align.run import align_manifest
from speechmill.align.transcript import sentences_of
from speechmill.audio import RATE, Pcm
from speechmill.cli import main
from speechmill.errors import SpeechmillError
from speechmill.inspection import inspect_ledger
from speechmill.manifest import read_manifest
from speechmill.settings import AlignSettings
from speechmill.workers import ALONE, Worker

A = "we saw strong demand in europe this year"
B = "margins were a little lower than we had planned"
C = "the second half should bring better prices for steel"


@pytest.fixture
def hears(monkeypatch: pytest.MonkeyPatch) -> list[Heard]:
    """What the aligner hears in every recording; a test fills it."""
    script: list[Heard] = []
    monkeypatch.setattr(run, "open_aligner", lambda _: Scripted(script))
    monkeypatch.setattr(run, "_OPEN", {"scripted": Scripted(script)})

    def listen(_: Scripted, samples: Pcm) -> Iterator[list[Heard]]:
        yield script if np.any(samples) else []

    monkeypatch.setattr(Scripted, "listen", listen)
    return script


def align(source: Path, worker: Worker = ALONE) -> run.AlignReport:
    return align_manifest(source, source.with_name("out.parquet"), AlignSettings(), "scripted", worker)


def table(source: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(source.with_name(f"out.{name}.parquet"))


def one(folder: Path, hears: list[Heard], texts: Sequence[str]) -> Path:
    samples, heard, _ = said([A, B, C])
    hears += heard
    return manifest(folder, {"call": (samples, texts)}, ceo=True)


def test_words_that_were_not_heard_and_missing_ones_are_left_open(tmp_path: Path, hears: list[Heard]) -> None:
    written = A.replace("strong demand", "weak results").replace("in europe", "europe")
    source = one(tmp_path, hears, [f"-- {written}", B, C])
    align(source)
    rows = read_manifest(tmp_path / "out.parquet")
    assert rows["known_text"].to_list() == ["-- we saw ★ europe this year", B, C]
    assert table(source, "words")["by_sound"].to_list() == [False] * len(table(source, "words"))


def test_utterances_words_sentences_and_ledger(tmp_path: Path, hears: list[Heard]) -> None:
    source = one(tmp_path, hears, [A, "nobody ever said anything about oranges", C])
    report = align(source).report
    rows = read_manifest(tmp_path / "out.parquet")
    assert rows["text"].to_list() == [A, C]
    assert rows["id"].to_list() == ["call_0", "call_2"]
    assert rows["ceo"].to_list() == [True, True]
    assert rows["confidence"].min() > 0.9  # type: ignore[operator]
    assert table(source, "words")["word"].to_list() == [*A.split(), *C.split()]
    assert table(source, "words")["extra"].sum() == 0
    assert rows["known_text"].to_list() == rows["text"].to_list()
    kept = table(source, "sentences")["kept"].to_list()
    assert kept == [True, False, True]
    assert table(source, "sentences")["reason"].to_list()[1] == "something-else-spoken"
    spans = table(source, "spans")
    seconds = soundfile.info(tmp_path / "call.wav").duration
    assert (spans["end"] - spans["start"]).sum() == pytest.approx(seconds)
    assert report["hours_in"] == pytest.approx(seconds / 3600, abs=1e-5)
    assert report["sentences"] == {"kept": 2, "something-else-spoken": 1}
    assert {"kept", "untranscribed-speech", "silence-or-music"} <= set(spans["kind"])
    shown, problems = inspect_ledger(tmp_path / "out.parquet")
    assert problems == []
    assert "silence-or-music" in shown
    assert rows["quiet_before"][0] == pytest.approx(rows["start"][0])
    assert rows["quiet_after"][0] == pytest.approx(0.5, abs=0.05)  # to what no sentence has
    assert rows["end"][1] + rows["quiet_after"][1] == pytest.approx(seconds)


def test_two_utterances_share_the_silence_between_them(tmp_path: Path, hears: list[Heard]) -> None:
    source = one(tmp_path, hears, [A, B, C])
    align(source)
    rows = read_manifest(tmp_path / "out.parquet")
    between = (rows["start"][1:] - rows["end"][:2]).to_list()
    assert rows["quiet_after"][:2].to_list() == pytest.approx([gap / 2 for gap in between])
    assert rows["quiet_before"][1:].to_list() == pytest.approx([gap / 2 for gap in between])


def test_done_is_not_done_again_and_a_change_is(tmp_path: Path, hears: list[Heard]) -> None:
    source = one(tmp_path, hears, [A, B, C])
    assert not align(source).done_before
    before = (tmp_path / "out.parquet").read_bytes()
    assert align(source).done_before
    assert (tmp_path / "out.parquet").read_bytes() == before
    hears.clear()
    manifest(tmp_path, {"call": (said([A, B])[0], [A, B])}, ceo=True)
    assert not align(source).done_before


def test_workers_share_the_recordings_and_the_last_merges(tmp_path: Path, hears: list[Heard]) -> None:
    samples, heard, _ = said([A, B, C])
    hears += heard
    source = manifest(tmp_path, {f"call{n}": (samples, [A, B, C]) for n in range(3)})
    first = align(source, Worker(0, 2))
    assert (first.done, first.of, first.report) == (2, 3, {})
    assert not (tmp_path / "out.parquet").exists()
    assert align(source, Worker(1, 2)).report["utterances"] == 9
    by_two = (tmp_path / "out.parquet").read_bytes()
    (tmp_path / "out.parquet").unlink()
    align(source)
    assert (tmp_path / "out.parquet").read_bytes() == by_two
    assert not (tmp_path / "out.parts").exists()


def test_a_bad_recording_does_not_stop_the_rest(tmp_path: Path, hears: list[Heard]) -> None:
    samples, heard, _ = said([A, B, C])
    hears += heard
    nothing = np.zeros(0, np.int16)
    source = manifest(tmp_path, {"gone": (nothing, [A]), "torn": (nothing, [B]), "good": (samples, [A, B, C])})
    (tmp_path / "torn.wav").write_bytes(b"RIFF no sound")
    report = align(source).report
    assert report["utterances"] == 3
    assert report["sentences"] == {"kept": 3, "unreadable-recording": 2}
    assert len(report["failures"]) == 2
    assert any("gone.wav" in failure for failure in report["failures"])
    accounted = table(source, "ledger").filter(pl.col("source_seconds").is_null())
    assert accounted.select("recording", "outcome").sort("recording").rows() == [
        (str(tmp_path / f"{name}.wav"), "unreadable-recording") for name in ("gone", "torn")
    ]
    shown, problems = inspect_ledger(tmp_path / "out.parquet")
    assert problems == []
    assert "2 recordings have no known length" in shown


def test_a_manifest_may_have_its_columns_in_any_order(tmp_path: Path, hears: list[Heard]) -> None:
    samples, heard, _ = said([A, B, C])
    hears += heard
    source = manifest(tmp_path, {"gone": (np.zeros(0, np.int16), [A]), "good": (samples, [A, B, C])}, ceo=True)
    rows = pl.read_parquet(source)
    rows.select(sorted(rows.columns)).write_parquet(source)
    assert align(source).report["sentences"] == {"kept": 3, "unreadable-recording": 1}


def test_what_is_aligned_is_what_is_written(tmp_path: Path, hears: list[Heard]) -> None:
    """A selection for training has wildcards in its text, and what is written beside it."""
    source = one(tmp_path, hears, [A, "we ★ lower than ★", C])
    written = pl.Series("written_text", [None, B, None], pl.String)
    pl.read_parquet(source).with_columns(written).write_parquet(source)
    assert align(source).report["sentences"] == {"kept": 3}
    rows = read_manifest(tmp_path / "out.parquet")
    assert rows["text"].to_list() == [A, B, C]
    assert "written_text" not in rows.columns


def test_a_row_without_a_recording_is_refused(tmp_path: Path, hears: list[Heard]) -> None:
    source = one(tmp_path, hears, [A, B, C])
    rows = pl.read_parquet(source)
    rows.with_columns(recording=pl.lit(None, pl.String)).write_parquet(source)
    with pytest.raises(SpeechmillError, match="3 of its 3 rows name no recording"):
        align(source)


def test_names_of_calls_and_rows_may_be_long(tmp_path: Path, hears: list[Heard]) -> None:
    samples, heard, _ = said([A, B, C] * 3)
    hears += heard
    source = manifest(tmp_path, {"call": (samples, [" ".join(f"{text.capitalize()}." for text in [A, B, C] * 3)])})
    rows = pl.read_parquet(source)
    rows.with_columns(call=pl.lit("x" * 250), id=pl.lit("y" * 95)).write_parquet(source)
    align(source)
    ids = read_manifest(tmp_path / "out.parquet")["id"].to_list()
    assert ids == ["y" * 92 + f"_p{number}" for number in range(1, 10)]


def test_ids_that_importers_number_and_parts_of_running_text_stay_apart(tmp_path: Path, hears: list[Heard]) -> None:
    samples, heard, _ = said([A, B, C] * 4)
    hears += heard
    text = " ".join(f"{sentence.capitalize()}." for sentence in [A, B, C] * 3)
    source = manifest(tmp_path, {"call": (samples, [text, A, B, C])})
    ids = pl.Series("id", ["call", "call-2", "call-3", "call-4"])
    pl.read_parquet(source).with_columns(ids).write_parquet(source)
    align(source)
    found = read_manifest(tmp_path / "out.parquet")
    assert found["id"].n_unique() == len(found) == 12
    assert found["known_text"].to_list() == found["text"].to_list()


def test_two_rows_with_one_id_are_told(tmp_path: Path, hears: list[Heard]) -> None:
    source = one(tmp_path, hears, [A, B, C])
    pl.read_parquet(source).with_columns(id=pl.lit("same")).write_parquet(source)
    with pytest.raises(SpeechmillError, match="several rows are named 'same'"):
        align(source)
    assert not (tmp_path / "out.parquet").exists()


def test_parts_that_a_kill_has_left_after_merging_are_taken_away(tmp_path: Path, hears: list[Heard]) -> None:
    source = one(tmp_path, hears, [A, B, C])
    align(source)
    (tmp_path / "out.parts" / "call").mkdir(parents=True)
    assert align(source).done_before
    assert not (tmp_path / "out.parts").exists()


def test_a_fault_in_one_recording_does_not_stop_the_rest_and_is_tried_again(
    tmp_path: Path, hears: list[Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, heard, _ = said([A, B, C])
    hears += heard
    source = manifest(tmp_path, {name: (samples, [A, B, C]) for name in ("first", "odd", "last")})
    listened: list[str] = []
    with monkeypatch.context() as patched:
        count_recordings(patched, listened, fails="odd")
        outcome = align(source)
    report = outcome.report
    assert outcome.again == 1
    assert report["sentences"] == {"alignment-failed": 3, "kept": 6}
    assert [line.partition(": ")[0] for line in report["failures"]] == [str(tmp_path / "odd.wav")]
    assert "ZeroDivisionError at test_align_run.py:" in report["failures"][0]
    assert listened == ["first", "odd", "last"]
    listened.clear()
    count_recordings(monkeypatch, listened)
    assert align(source).report["sentences"] == {"kept": 9}
    assert listened == ["odd"]
    assert align(source).done_before


def count_recordings(patched: pytest.MonkeyPatch, listened: list[str], fails: str = "") -> None:
    """Note each recording that is aligned; one of them breaks the aligner."""
    true_decode = run.decode

    def decode(path: str) -> Pcm:
        listened.append(Path(path).stem)
        if Path(path).stem == fails:
            _ = 1 / 0
        return true_decode(path)

    patched.setattr(run, "decode", decode)


def test_only_what_is_new_or_changed_is_aligned(
    tmp_path: Path, hears: list[Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, heard, _ = said([A, B, C])
    hears += heard
    source = manifest(tmp_path, {name: (samples, [A, B, C]) for name in ("b", "c")})
    align(source)
    listened: list[str] = []
    count_recordings(monkeypatch, listened)
    two = pl.read_parquet(source)
    manifest(tmp_path, {"a": (samples, [C])})
    pl.concat([pl.read_parquet(source), two]).write_parquet(source)
    assert align(source).report["sentences"]["kept"] == 7
    assert listened == ["a"]
    assert table(source, "sentences")["call"].to_list() == ["a", *"bbbccc"]
    before = {name: table(source, name) for name in ("words", "sentences", "spans", "ledger")}
    rows = read_manifest(tmp_path / "out.parquet")
    shutil.copy(source, tmp_path / "other.parquet")
    align_manifest(tmp_path / "other.parquet", tmp_path / "anew.parquet", AlignSettings(), "scripted")
    assert read_manifest(tmp_path / "anew.parquet").equals(rows)
    for name, found in before.items():
        assert pl.read_parquet(tmp_path / f"anew.{name}.parquet").equals(found), name
    listened.clear()
    who = pl.when(pl.col("call") == "c").then(pl.lit("somebody else")).otherwise("speaker")
    pl.read_parquet(source).with_columns(speaker=who).write_parquet(source)
    align(source)
    assert listened == ["c"]


def test_what_is_made_of_all_together_is_made_anew_without_listening(
    tmp_path: Path, hears: list[Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = one(tmp_path, hears, [A.replace("strong demand", "weak results"), B, C])
    align(source)
    assert "★" in read_manifest(tmp_path / "out.parquet")["known_text"][0]
    listened: list[str] = []
    count_recordings(monkeypatch, listened)
    monkeypatch.setattr(run, "_MERGING_VERSION", run._MERGING_VERSION + 1)
    monkeypatch.setattr(run, "telling", lambda *_: Telling(*[frozenset()] * 4))
    align(source)
    rows = read_manifest(tmp_path / "out.parquet")
    assert listened == []
    assert rows["known_text"].to_list() == rows["text"].to_list()


def test_a_merge_that_was_cut_off_leaves_nothing_that_counts_as_whole(
    tmp_path: Path, hears: list[Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, heard, _ = said([A, B, C])
    hears += heard
    source = manifest(tmp_path, {"one": (samples, [A, B, C]), "two": (samples, [A, C])})
    align(source)
    before = {name: table(source, name) for name in ("words", "sentences", "spans")}
    rows = pl.read_parquet(source)
    rows.reverse().sort("call", descending=True, maintain_order=True).write_parquet(source)
    with monkeypatch.context() as patched:
        patched.setattr(run, "write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            align(source)
    rows.write_parquet(source)
    assert not align(source).done_before
    for name, expected in before.items():
        assert table(source, name).equals(expected), name


def die_of_one(job: run._Job) -> None:
    """What a process does that the system kills when it comes to a recording that is too much for it."""
    if job.rows["call"][0] == "huge":
        os.kill(os.getpid(), signal.SIGKILL)
    run._write_part(job, {"fingerprint": job.name, "failure": "", "again": False}, {})


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_process_costs_the_recording_that_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    rows = [pl.read_parquet(manifest(tmp_path, {name: (said([A])[0], [A])})) for name in ("a", "huge", "b", "c")]
    jobs = [run._Job(one, tmp_path / one["call"][0], one["call"][0], "scripted", AlignSettings()) for one in rows]
    monkeypatch.setattr(run, "_align_one", die_of_one)
    run._align_all(jobs, len(jobs), processes)
    states = {job.name: run._state(job) for job in jobs}
    assert {name for name, state in states.items() if not state["failure"]} == {"a", "b", "c"}
    assert states["huge"]["failure"].startswith(f"{tmp_path / 'huge.wav'}: its process was killed (out of memory?)")
    assert states["huge"]["again"]


def test_an_empty_transcript(tmp_path: Path, hears: list[Heard]) -> None:
    source = one(tmp_path, hears, ["", "[music]", "你好"])
    report = align(source).report
    assert report["sentences"] == {"nothing-to-say": 3}
    assert report["utterances"] == 0
    assert read_manifest(tmp_path / "out.parquet").is_empty()


def test_silence(tmp_path: Path, hears: list[Heard]) -> None:
    hears += said([A])[1]
    report = align(manifest(tmp_path, {"call": (np.zeros(4 * RATE, np.int16), [A])})).report
    assert report["sentences"] == {"not-spoken": 1}
    assert set(report["hours"]) == {"silence-or-music"}


def test_times_that_run_backwards_do_not_matter(tmp_path: Path, hears: list[Heard]) -> None:
    source = one(tmp_path, hears, [A, B, C])
    rows = pl.read_parquet(source).with_columns(start=pl.Series([90.0, 50.0, -3.0]), end=pl.Series([20.0, 10.0, -9.0]))
    rows.write_parquet(source)
    assert align(source).report["sentences"] == {"kept": 3}
    starts = read_manifest(tmp_path / "out.parquet")["start"].to_list()
    assert starts == sorted(starts)


def test_three_hours_of_8_khz_mp3(tmp_path: Path, hears: list[Heard]) -> None:
    hears += said([A])[1]
    source = manifest(tmp_path, {"call": (np.zeros(0, np.int16), [A])})
    rows = pl.read_parquet(source).with_columns(recording=pl.lit(str(tmp_path / "call.mp3")))
    rows.write_parquet(source)
    with soundfile.SoundFile(tmp_path / "call.mp3", "w", 8000, 1, format="MP3", subtype="MPEG_LAYER_III") as stream:
        for _ in range(180):
            stream.write(np.zeros(60 * 8000, np.int16))
    report = align(source).report
    assert report["hours_in"] == pytest.approx(3.0, abs=0.001)
    assert report["sentences"] == {"not-spoken": 1}


def test_running_text_is_cut_at_sentence_ends(tmp_path: Path, hears: list[Heard]) -> None:
    text = " ".join(f"{sentence.capitalize()}." for sentence in [A, B, C] * 3)
    samples, heard, _ = said([A, B, C] * 3)
    hears += heard
    align(manifest(tmp_path, {"call": (samples, [text])}))
    rows = read_manifest(tmp_path / "out.parquet")
    assert " ".join(rows["text"]) == text
    assert rows["id"].to_list() == [f"call_0_p{n}" for n in range(1, 10)]


def test_running_text_keeps_its_marks_and_is_not_cut_after_a_title() -> None:
    before = " ".join(["word"] * 60) + "."
    parts = [
        before,
        'He said "we did well."',
        "Then Mr. Smith left (see p. 3.)",
        "Élan rose 3%.",
        "$5 is “fine.”",
        "So",
    ]
    assert sentences_of(" ".join(parts)) == parts


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples, _, _ = said([A])
    source, out = str(manifest(tmp_path, {"call": (samples, [A])})), str(tmp_path / "out.parquet")
    assert main(["align", source, source]) == 2
    assert "overwrite" in capsys.readouterr().err
    assert main(["align", source, out, "--aligner", "p2fa"]) == 2
    assert "no aligner; known: pocketsphinx" in capsys.readouterr().err
    assert main(["align", source, out, "--worker", "3/2"]) == 2
    assert "--worker 3/2: I/N was expected" in capsys.readouterr().err
    assert main(["align", source, out, "--aligner", "ctc"]) == 2
    assert main(["align", source, out, "--aligner", f"ctc:{tmp_path}"]) == 2
    assert "config.yaml" in capsys.readouterr().err
