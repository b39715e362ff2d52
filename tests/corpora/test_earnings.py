from __future__ import annotations

import csv
from pathlib import Path

import corpus_fixtures
import numpy as np
import polars as pl
import pytest
import soundfile
from corpus_fixtures import tokens, untimed, write_audio, write_lines

from speechmill.corpora import import_corpus
from speechmill.corpora.base import Limits
from speechmill.errors import SpeechmillError
from speechmill.manifest import read_manifest
from speechmill.nlp import read_nlp

DATA = Path(__file__).parents[3] / "shared" / "data"


def test_sentences_have_times_and_the_text_as_written(tmp_path: Path) -> None:
    root = corpus_fixtures.earnings22(tmp_path / "e22")
    done = import_corpus("earnings22", root, tmp_path / "a.parquet")
    table = read_manifest(tmp_path / "a.parquet")
    said = table.filter(call="1").select("id", "start", "end", "text", "speaker").rows()
    assert said == [
        ("1_000002", 0.9, 3.0, "Welcome to the call.", "1_0"),
        ("1_000006", 3.9, 7.0, "In 2021 we grew.", "1_1"),
    ]
    assert done.report["dropped"] == {
        "missing-recording": 1, "not-understood": 1, "past-recording-end": 1, "untimed-words": 1,
    }  # fmt: skip
    assert done.report["failures"] == [f"5: missing-recording: {root}/media/5.mp3: no such recording."]


def test_words_without_times_cost_nothing_where_times_are_ignored(tmp_path: Path) -> None:
    root = corpus_fixtures.earnings22(tmp_path / "e22")
    done = import_corpus("earnings22", root, tmp_path / "a.parquet", limits=Limits(ignore_times=True))
    assert done.report["dropped"] == {"missing-recording": 1, "not-understood": 1}
    assert not read_manifest(tmp_path / "a.parquet")["timed"].any()


def test_calls_without_times_are_whole_recordings(tmp_path: Path) -> None:
    root = corpus_fixtures.earnings22(tmp_path / "e22")
    done = import_corpus("earnings22", root, tmp_path / "a.parquet")
    whole = read_manifest(tmp_path / "a.parquet").filter(~pl.col("timed"))
    assert whole.select("id", "call", "start", "text", "speaker").rows() == [
        ("3", "3", 0.0, "Welcome nothing else of this has a time, alas.", ""),
        ("4", "4", 0.0, "No word of this has a time.", ""),
    ]
    assert whole["end"].to_list() == pytest.approx([12.0, 150.0], abs=0.2)
    assert [len(read_nlp(Path(path)).tokens) for path in whole["transcript"]] == [9, 7]
    assert any("2 recordings of 2 calls have no times" in note and "3, 4" in note for note in done.report["warnings"])


def test_native_is_the_family_of_the_companys_country(tmp_path: Path) -> None:
    root = corpus_fixtures.earnings22(tmp_path / "e22")
    done = import_corpus("earnings22", root, tmp_path / "a.parquet")
    table = read_manifest(tmp_path / "a.parquet").unique("call").sort("call")
    assert dict(table.select("call", "native").iter_rows()) == {
        "1": True, "2": False, "3": True, "4": False, "MP3-A": None,
    }  # fmt: skip
    assert table.select("company", "country", "region", "dialect_family", "language_family").row(1) == (
        "BBB", "Greece", "Europe and Northern America", "Other", "Other Romance",
    )  # fmt: skip
    notes = "\n".join(done.report["warnings"])
    for note in ("1 of 6 calls are not in it: MP3-A", "have no reference here: 77", "not the speaker's",
                 "2: the recording has 20.0 s, the metadata say 60.0 s"):  # fmt: skip
        assert note in notes


def test_metadata_without_a_column_or_without_the_table(tmp_path: Path) -> None:
    root = corpus_fixtures.earnings22(tmp_path / "e22")
    text = (root / "metadata.csv").read_text()
    (root / "metadata.csv").write_text(text.replace("Language Family + Area Based", "Family"))
    done = import_corpus("earnings22", root, tmp_path / "a.parquet")
    table = read_manifest(tmp_path / "a.parquet")
    assert table["native"].null_count() == table.height
    assert set(table["country"].drop_nulls()) == {"Canada", "Greece", "Australia", "France"}
    assert any("no column 'Language Family + Area Based'" in note for note in done.report["warnings"])
    (root / "metadata.csv").unlink()
    done = import_corpus("earnings22", root, tmp_path / "a.parquet")
    assert "no metadata.csv" in done.report["warnings"][0]
    assert read_manifest(tmp_path / "a.parquet")["country"].null_count() == table.height


def test_transcripts_that_cannot_be_read_cost_their_call_alone(tmp_path: Path) -> None:
    root = corpus_fixtures.earnings22(tmp_path / "e22")
    references = root / "transcripts" / "nlp_references"
    write_lines(references / "2.nlp", "word|speaker", "a|0")
    (references / "3.nlp").write_bytes(b"token|speaker\ncaf\xe9|0\n")
    write_lines(references / "4.nlp", corpus_fixtures.REFERENCE)
    done = import_corpus("earnings22", root, tmp_path / "a.parquet")
    assert set(read_manifest(tmp_path / "a.parquet")["call"]) == {"1", "MP3-A"}
    reasons = {failure.split(": ")[0]: failure.split(": ")[1] for failure in done.report["failures"]}
    assert reasons == {
        "2": "missing-column", "3": "not-utf8", "4": "empty-transcript", "5": "missing-recording",
    }  # fmt: skip


def test_earnings21_has_no_times_and_says_nothing_of_native(tmp_path: Path) -> None:
    root = tmp_path / "e21"
    header = "token|speaker|ts|endTs|punctuation|case|tags|wer_tags"
    rows = [row.split("|") for row in untimed(tokens("Good morning, everyone. It was 2021."))]
    cells = ["|".join([*row[:5], *row[6:8], "['1']"]) for row in rows]
    for call in ("4320211", "4341191"):
        write_lines(root / "transcripts" / "nlp_references" / f"{call}.nlp", header, *cells)
    write_lines(root / "output" / "google" / "4346818.nlp", header, *cells)  # no reference: a recognizer's
    write_lines(
        root / "earnings21-file-metadata.csv",
        "file_id,audio_length,sample_rate,company_name,financial_quarter,sector,speaker_switches,unique_speakers,curator_id",
        "4320211,12.0,24000,Monro Inc,3,Consumer Goods,82,10,1",
        "4341191,12.0,24000,General Electric,1,Conglomerate,147,14,1",
    )
    write_audio(root / "media" / "4320211.mp3", 12.0, 24000)
    done = import_corpus("earnings21", root, tmp_path / "a.parquet")
    table = read_manifest(tmp_path / "a.parquet")
    assert table.select("id", "text", "native", "company", "sector", "quarter", "timed").rows() == [
        ("4320211", "Good morning, everyone. It was 2021.", None, "Monro Inc", "Consumer Goods", "3", False)
    ]
    assert done.report["failures"] == [f"4341191: missing-recording: {root}/media/4341191.mp3: no such recording."]


def test_references_that_lie_beside_their_audio(tmp_path: Path) -> None:
    rows = (row.rsplit("|", 3)[0] for row in tokens("All is well.", 0, 1.0))
    write_lines(tmp_path / "7.nlp", corpus_fixtures.REFERENCE, *rows)
    write_audio(tmp_path / "7.wav", 5.0)
    import_corpus("earnings22", tmp_path, tmp_path / "out" / "a.parquet")
    kept = read_manifest(tmp_path / "out" / "a.parquet")
    assert kept.select("id", "start", "end", "text").rows() == [("7_000002", 0.9, 2.4, "All is well.")]


def test_the_published_references_without_audio_name_every_call(tmp_path: Path) -> None:
    if not DATA.is_dir():
        pytest.skip("../shared/data is not there")
    with pytest.raises(SpeechmillError, match="none of 10 calls can be read; 4469528: missing-recording") as caught:
        import_corpus("earnings22", DATA / "earnings22_import", tmp_path / "a.parquet")
    assert all(path.stem in str(caught.value) for path in (DATA / "earnings22_import/references").glob("*.nlp"))
    with pytest.raises(SpeechmillError, match="none of 11 calls can be read; 4320211: missing-recording"):
        import_corpus("earnings21", DATA / "earnings21_eval10", tmp_path / "b.parquet")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The odd calls and two plain ones of Earnings-22, with silence of the length that their metadata state."""
    if not DATA.is_dir():
        pytest.skip("../shared/data is not there")
    source, given = tmp_path_factory.mktemp("e22"), DATA / "earnings22_import"
    with (given / "metadata.csv").open() as stream:
        seconds = {row["File ID"]: int(row["File Length (seconds)"]) for row in csv.DictReader(stream)}
    (source / "metadata.csv").symlink_to(given / "metadata.csv")
    for call in ("4474955", "4482110", "4482968", "4483623", "4484563"):
        for folder, name in (("references", f"{call}.nlp"), ("force_aligned", f"{call}.aligned.nlp")):
            (source / folder).mkdir(exist_ok=True)
            (source / folder / name).symlink_to(given / folder / name)
        soundfile.write(source / f"{call}.flac", np.zeros(seconds[call] * 4000, np.int16), 4000)
    import_corpus("earnings22", source, source / "a.parquet")
    drops = pl.read_csv(source / "a.dropped.tsv", separator="\t", quote_char=None, schema_overrides={"call": pl.String})
    table = read_manifest(source / "a.parquet")
    return pl.concat([table.with_columns(reason=pl.lit("kept")), drops], how="diagonal")


def test_real_calls_every_sentence_is_kept_or_counted(real: pl.DataFrame) -> None:
    counts = real.filter(call="4474955").group_by("reason").len()
    assert dict(counts.iter_rows()) == {"kept": 111, "untimed-words": 4, "not-understood": 1}
    past = real.filter(call="4482110").group_by("reason").len()
    assert dict(past.iter_rows()) == {
        "kept": 168, "past-recording-end": 98, "untimed-words": 21, "not-understood": 5,
    }  # fmt: skip
    assert real.filter(call="4482110", reason="kept")["end"].max() <= 1398


def test_real_calls_hardly_timed_or_not_at_all_are_whole(real: pl.DataFrame) -> None:
    whole = real.filter(pl.col("call").is_in(["4482968", "4484563"])).sort("call")
    assert whole.select("call", "reason", "timed", "end", "native").rows() == [
        ("4482968", "kept", False, 1344.0, True), ("4484563", "kept", False, 5325.0, False),
    ]  # fmt: skip
    assert whole["text"].str.split(" ").list.len().to_list() == [3415, 13840]  # the tokens of their references


def test_real_sentences_are_written_as_in_the_reference(real: pl.DataFrame) -> None:
    kept = real.filter(call="4483623", reason="kept").sort("start")
    assert kept["text"][0] == (
        "Ladies and gentlemen, thank you for standing by and welcome to Exco Technologies Limited First Quarter "
        "Results 2022."
    )
    assert kept["start"][0] == pytest.approx(2.95)
    starts, ends = kept["start"].to_list(), kept["end"].to_list()
    assert all(end <= start + 1e-3 for end, start in zip(ends, starts[1:], strict=False))
