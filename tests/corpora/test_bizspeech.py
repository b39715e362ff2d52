from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from speechmill.corpora import import_corpus
from speechmill.corpora.base import Limits
from speechmill.corpora.bizspeech import COLUMNS, import_bizspeech, in_order, parse_time
from speechmill.errors import SpeechmillError
from speechmill.manifest import read_manifest

HEADER = "\t".join(COLUMNS)
LINES = (
    HEADER,
    "S0000\t101\tpresentation\t00:00:00.400\tGood morning, and welcome.",
    "S0001\t102\tpresentation\t00:00:02.000\tRevenue rose 12.5% to $3.4 billion.",
    'S0002\t103\tq-and-a\t00:00:05.500\tThank you. "Margins"?',
    "END\t103\tq-and-a\t00:00:08.000\t",
)
DIGITS = Path(__file__).parents[3] / "shared" / "data" / "digit_calls"


def add_call(source: Path, call: str, lines: tuple[str, ...] | list[str] = LINES, seconds: float = 8.0) -> Path:
    folder = source / "MEDIA" / call
    folder.mkdir(parents=True)
    soundfile.write(folder / "recording.wav", np.zeros(int(seconds * 8000), np.int16), 8000)
    (folder / "transcript_timealigned.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def add_metadata(source: Path, metadata: object) -> None:
    (source / "metadata").mkdir(parents=True, exist_ok=True)
    (source / "metadata" / "BizSpeech_MetaData.json").write_text(json.dumps(metadata))


def dropped(source: Path, **settings: Limits) -> list[tuple[int | None, str]]:
    drops = import_bizspeech(source, **settings).drops  # type: ignore[arg-type]
    return [(row, reason) for row, reason in drops.select("row", "reason").iter_rows()]


def test_rows_become_utterances_that_end_where_the_next_begins(tmp_path: Path) -> None:
    add_call(tmp_path, "1001")
    add_metadata(tmp_path, {"1001": {"partition": 5, "ceoID": 102, "company": "Acme", "country": "US"}})
    result = import_bizspeech(tmp_path)
    table = result.table
    assert table["id"].to_list() == ["1001_S0000", "1001_S0001", "1001_S0002"]
    assert table["start"].to_list() == [0.4, 2.0, 5.5]
    assert table["end"].to_list() == [2.0, 5.5, 8.0]
    assert table["text"].to_list()[1:] == ["Revenue rose 12.5% to $3.4 billion.", 'Thank you. "Margins"?']
    assert table["session"].to_list() == ["presentation", "presentation", "q-and-a"]
    assert table["ceo"].to_list() == [False, True, False]
    assert table["native"].to_list() == [True] * 3
    assert table.row(0, named=True)["recording"] == str(tmp_path / "MEDIA" / "1001" / "recording.wav")
    assert table.select("company", "country", "samplerate").row(0) == ("Acme", "US", 8000)
    assert result.counts == {}
    assert result.seconds == 8.0


def test_other_partitions_are_not_native_and_no_metadata_means_unknown(tmp_path: Path) -> None:
    add_call(tmp_path, "1")
    add_call(tmp_path, "2")
    assert import_bizspeech(tmp_path).table["native"].null_count() == 6
    add_metadata(tmp_path, {"1": {"partition": 1}})
    table = import_bizspeech(tmp_path).table
    assert table.filter(call="1")["native"].to_list() == [False] * 3
    assert table.filter(call="2").select("native", "ceo").null_count().row(0) == (3, 3)


@pytest.mark.parametrize("mangle", ["bom", "crlf", "both", "no-last-newline", "closing-row-without-sentence"])
def test_ways_to_write_the_same_file(tmp_path: Path, mangle: str) -> None:
    path = add_call(tmp_path, "1") / "transcript_timealigned.txt"
    text = path.read_text(encoding="utf-8")
    if mangle in {"crlf", "both"}:
        text = text.replace("\n", "\r\n")
    if mangle in {"bom", "both"}:
        text = "\ufeff" + text
    if mangle == "no-last-newline":
        text = text.rstrip("\n")
    if mangle == "closing-row-without-sentence":
        text = text.rstrip("\n\t") + "\n"
    path.write_bytes(text.encode("utf-8"))
    result = import_bizspeech(tmp_path)
    assert result.table["text"].to_list() == [line.split("\t")[4] for line in LINES[1:4]]
    assert result.counts == {}


def test_columns_are_found_by_name_and_unicode_lines_are_not_split(tmp_path: Path) -> None:
    lines = [
        "Sentence\tExtra\tSentenceTimeGen\tSession\tSpeakerID\tSentenceID",
        "Naïve\u2028café\tx\t00:00:01.000\tQ-and-A\t7\tS 1/é",
        "\tx\t00:00:03.000\t\t\t",
    ]
    add_call(tmp_path, "1", lines)
    row = import_bizspeech(tmp_path).table.row(0, named=True)
    assert (row["text"], row["session"], row["speaker"], row["id"]) == ("Naïve\u2028café", "q-and-a", "7", "1_S-1--")


def test_every_dropped_row_has_a_reason(tmp_path: Path) -> None:
    rows = [
        "a\t1\tpresentation\t00:00:00.000\tkept",
        "b\t1\tpresentation\t00:00:01.000\tits end is not known",
        "c\t1\tpresentation\t1.5 s\tbad time",
        "d\t1\tpresentation\t00:00:02.000\tkept",
        "e\t1\tpresentation\t00:00:03.000\t  ",
        "f\t1\tpresentation\t00:00:04.000\tone column\ttoo many",
        "g\t1\tpresentation\t00:00:05.000\ttoo short",
        "h\t1\tpresentation\t00:00:05.100\ttoo long",
        "i\t1\tpresentation\t00:00:09.500\tends too late",
        "j\t1\tpresentation\t00:00:12.000\tthe last row only closes",
    ]
    add_call(tmp_path, "1", [HEADER, *rows], seconds=10.0)
    result = import_bizspeech(tmp_path, limits=Limits(0.2, 4.0))
    assert result.table["text"].to_list() == ["kept", "kept"]
    assert result.drops.select("row", "reason").rows() == [
        (3, "unknown-end"),
        (4, "bad-time"),
        (6, "empty-text"),
        (7, "bad-row"),
        (8, "too-short"),
        (9, "too-long"),
        (10, "past-recording-end"),
        (11, "unknown-end"),
    ]
    assert len(result.table) + len(result.drops) == len(rows)
    assert sum(result.counts.values()) == len(result.drops)


def test_one_time_out_of_order_costs_two_rows_not_the_rest(tmp_path: Path) -> None:
    times = ["00:00:01", "00:00:02", "00:59:59", "00:00:04", "00:00:05", "00:00:00.5", "00:00:07", "00:00:08"]
    rows = [f"{n}\t1\tpresentation\t{time}\t{n}" for n, time in enumerate(times[:-1])]
    add_call(tmp_path, "1", [HEADER, *rows, f"END\t1\tpresentation\t{times[-1]}\t"])
    result = import_bizspeech(tmp_path)
    assert result.table["text"].to_list() == ["0", "3", "6"]
    assert result.counts == {"end-before-start": 4}


def test_times_can_be_ignored(tmp_path: Path) -> None:
    lines = [
        HEADER, "S0\t1\tpresentation\t00:00:06.000\tOne.", "S1\t1\tpresentation\tlater\tTwo.",
        "S2\t1\tpresentation\t00:00:01.000\t", "S3\t1\tpresentation", "END\t1\tq-and-a\t\tThree.",
    ]  # fmt: skip
    add_call(tmp_path / "corpus", "1001", lines, seconds=6.0)
    out = tmp_path / "a.parquet"
    import_corpus("bizspeech", tmp_path / "corpus", out, limits=Limits(ignore_times=True))
    assert read_manifest(out).select("start", "end", "text", "timed").rows() == [
        (0.0, 2.0, "One.", False), (2.0, 4.0, "Two.", False), (4.0, 6.0, "Three.", False)
    ]  # fmt: skip
    ignored = {"limits": Limits(ignore_times=True)}
    assert dropped(tmp_path / "corpus", **ignored) == [(4, "empty-text"), (5, "bad-row")]
    add_call(tmp_path / "odd", "1001", [*lines[:-1], lines[-1] + "\tone more"], seconds=6.0)
    assert dropped(tmp_path / "odd", **ignored) == [(4, "empty-text"), (5, "bad-row"), (6, "bad-row")]


def test_settings_that_are_as_they_were_find_what_was_imported_before(tmp_path: Path) -> None:
    add_call(tmp_path / "corpus", "1001")
    report = import_corpus("bizspeech", tmp_path / "corpus", tmp_path / "a.parquet").report
    assert report["settings"]["limits"] == {"min_seconds": 0.2, "max_seconds": 120.0}


def test_in_order_marks_the_longest_series() -> None:
    assert in_order([1, 2, 9, 3, 4]) == [True, True, False, True, True]
    assert in_order([5, 1, 2, 2, None, 3]) == [False, True, True, True, False, True]
    assert in_order([]) == []


def test_a_closing_time_a_little_past_the_recording_is_clipped(tmp_path: Path) -> None:
    add_call(tmp_path, "1", seconds=7.95)
    assert import_bizspeech(tmp_path).table["end"].to_list()[-1] == 7.95
    add_call(tmp_path, "2", seconds=7.5)
    assert dropped(tmp_path) == [(4, "past-recording-end")]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:00:01.500", 1.5),
        ("01:02:03", 3723.0),
        ("1:2:3.25", 3723.25),
        ("00:61:00", None),
        ("12.5", None),
        ("", None),
    ],
)
def test_parse_time(text: str, seconds: float | None) -> None:
    assert parse_time(text) == seconds


def test_calls_that_cannot_be_read_do_not_stop_the_others(tmp_path: Path) -> None:
    add_call(tmp_path, "good")
    (add_call(tmp_path, "no-recording") / "recording.wav").unlink()
    (add_call(tmp_path, "no-transcript") / "transcript_timealigned.txt").unlink()
    (add_call(tmp_path, "bad-audio") / "recording.wav").write_bytes(b"RIFF, or so it says")
    (add_call(tmp_path, "latin-1") / "transcript_timealigned.txt").write_bytes(
        "\n".join(LINES).replace("morning", "matinée").encode("latin-1")
    )
    (add_call(tmp_path, "less") / "transcript_timealigned.txt").write_text(
        "\n".join(line.rsplit("\t", 1)[0] for line in LINES)
    )
    (add_call(tmp_path, "empty") / "transcript_timealigned.txt").write_text("")
    (add_call(tmp_path, "header-only") / "transcript_timealigned.txt").write_text(HEADER + "\n")
    result = import_bizspeech(tmp_path)
    assert set(result.table["call"]) == {"good"}
    assert result.calls_read == 1
    lost = result.drops.group_by("call", maintain_order=True).agg(pl.col("reason").unique().first(), rows=pl.len())
    assert {call: count for call, _, count in lost.rows() if count > 1} == {"bad-audio": 3, "no-recording": 3}
    assert result.drops.filter(call="no-recording")["row"].to_list() == [2, 3, 4]
    assert dict(lost.select("call", "reason").rows()) == {
        "bad-audio": "unreadable-recording",
        "empty": "empty-transcript",
        "header-only": "empty-transcript",
        "latin-1": "not-utf8",
        "less": "missing-column",
        "no-recording": "missing-recording",
        "no-transcript": "missing-transcript",
    }
    failures = "\n".join(result.failures)
    assert "transcript_timealigned.txt, line 2: not UTF-8 (byte 0xe9)" in failures
    assert "line 1: no column 'Sentence'" in failures


def test_when_no_call_can_be_read_the_first_reason_is_given(tmp_path: Path) -> None:
    for call in ("1", "2"):
        (add_call(tmp_path, call) / "transcript_timealigned.txt").write_text("SentenceID\tSpeakerID\n")
    with pytest.raises(SpeechmillError, match=r"none of 2 calls can be read.*1: missing-column.*no column 'Session'"):
        import_bizspeech(tmp_path)


def test_sources_that_are_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match="no such folder"):
        import_bizspeech(tmp_path / "none")
    with pytest.raises(SpeechmillError, match="has no folder MEDIA"):
        import_bizspeech(tmp_path)
    (tmp_path / "MEDIA").mkdir()
    with pytest.raises(SpeechmillError, match="the corpus is empty"):
        import_bizspeech(tmp_path)
    add_call(tmp_path, "1", [HEADER, "a\t1\tpresentation\t00:00:00.000\t", "END\t1\tpresentation\t00:00:05.000\t"])
    with pytest.raises(SpeechmillError, match=r"no utterance is left; dropped: empty-text 1"):
        import_bizspeech(tmp_path)
    add_metadata(tmp_path, ["not", "an", "object"])
    with pytest.raises(SpeechmillError, match=r"BizSpeech_MetaData\.json: expected an object"):
        import_bizspeech(tmp_path)
    with pytest.raises(SpeechmillError, match="'bizspeach' is no corpus format"):
        import_corpus("bizspeach", tmp_path, tmp_path / "m.parquet")


def test_include_and_exclude_lists(tmp_path: Path) -> None:
    for call in ("1", "2", "3"):
        add_call(tmp_path, call)
    result = import_bizspeech(tmp_path, include={"1", "2", "9"}, exclude={"2"})
    assert set(result.table["call"]) == {"1"}
    assert result.calls_left_out == 2
    assert result.warnings == ["include: 1 of 3 calls are not in the corpus: 9"]
    with pytest.raises(SpeechmillError, match="none of its 3 calls is left"):
        import_bizspeech(tmp_path, include={"9"})


def test_ids_are_unique_though_sentence_ids_repeat(tmp_path: Path) -> None:
    rows = [f"S1\t1\tpresentation\t00:00:0{n}.000\tx" for n in range(3)] + ["\t1\tpresentation\t00:00:03.000\tx"]
    add_call(tmp_path, "1", [HEADER, *rows, "END\t1\tpresentation\t00:00:05.000\t"])
    add_call(tmp_path, "1_S1-2", [HEADER, rows[0].replace("S1", ""), rows[1]])
    ids = import_bizspeech(tmp_path).table["id"].to_list()
    assert ids[:4] == ["1_S1", "1_S1-2", "1_S1-3", "1_5"]
    assert len(set(ids)) == len(ids)


def test_a_session_of_another_name_is_left_empty_and_said(tmp_path: Path) -> None:
    add_call(tmp_path, "1", [line.replace("q-and-a", "panel") for line in LINES])
    result = import_bizspeech(tmp_path)
    assert result.table["session"].to_list() == ["presentation", "presentation", ""]
    assert result.warnings == ["session: 1 rows have neither presentation nor q-and-a (panel); it is left empty"]


def test_import_writes_its_files_once_and_the_same_bytes_again(tmp_path: Path) -> None:
    source, out = tmp_path / "corpus", tmp_path / "out" / "m.parquet"
    add_call(source, "1", [HEADER, "a\t1\tpresentation\tnoon\tx", *LINES[1:]])
    first = import_corpus("bizspeech", source, out)
    assert not first.done_before
    assert "3 utterances" in first.text()
    assert "bad-time 1" in first.text()
    files = {path.name: path.read_bytes() for path in out.parent.iterdir()}
    assert set(files) == {"m.parquet", "m.dropped.tsv", "m.ledger.parquet", "m.import.json"}
    listed = pl.read_csv(out.with_suffix(".dropped.tsv"), separator="\t", quote_char=None)
    assert listed.select("call", "row", "reason").rows() == [(1, 2, "bad-time")]
    assert import_corpus("bizspeech", source, out).done_before
    out.write_bytes(b"cut off")
    assert not import_corpus("bizspeech", source, out).done_before
    assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == files


def test_import_is_redone_when_source_or_settings_change(tmp_path: Path) -> None:
    source, out = tmp_path / "corpus", tmp_path / "m.parquet"
    add_call(source, "1")
    import_corpus("bizspeech", source, out)
    assert not import_corpus("bizspeech", source, out, limits=Limits(0.2, 3.0)).done_before
    assert len(read_manifest(out)) == 2
    add_call(source, "2")
    assert not import_corpus("bizspeech", source, out, limits=Limits(0.2, 3.0)).done_before
    assert len(read_manifest(out)) == 4


def test_a_failed_import_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "corpus" / "MEDIA").mkdir(parents=True)
    with pytest.raises(SpeechmillError, match="empty"):
        import_corpus("bizspeech", tmp_path / "corpus", tmp_path / "out" / "m.parquet")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not DIGITS.is_dir(), reason=f"{DIGITS} is not here")
def test_all_digit_calls_are_kept() -> None:
    result = import_bizspeech(DIGITS)
    assert (len(result.table), result.calls_read, result.counts) == (448, 58, {})
    assert result.table["speaker"].n_unique() == 5
    assert result.table.filter("native")["speaker"].n_unique() == 2


@pytest.mark.parametrize(
    ("forbidden", "reason", "lost"),
    [
        ("", "unreadable-transcript", 1),
        ("transcript_timealigned.txt", "unreadable-transcript", 1),
        ("recording.wav", "unreadable-recording", 3),
    ],
)
def test_a_call_without_permission_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forbidden: str, reason: str, lost: int
) -> None:
    source = tmp_path / "corpus"
    add_call(source, "1")
    folder, real = add_call(source, "2"), Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.parent == folder and forbidden in ("", path.name):  # as a folder of mode 0 does; it does not bind root
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", stat)
    imported = import_corpus("bizspeech", source, tmp_path / "m.parquet")
    assert imported.report["calls_read"] == 1
    assert imported.report["dropped"] == {reason: lost}
    assert "Permission denied" in imported.report["failures"][0]
    assert import_corpus("bizspeech", source, tmp_path / "m.parquet").done_before
