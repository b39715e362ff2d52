"""Importers of corpora with a file for each utterance: LibriSpeech, SPGISpeech, Common Voice."""

from __future__ import annotations

import os
from pathlib import Path

import corpus_fixtures
import polars as pl
import pytest
import soundfile

from speechmill.cli.verb import KINDS as NAMED
from speechmill.corpora import KINDS, drops_path, import_corpus, named_corpus
from speechmill.corpora.base import Limits
from speechmill.errors import SpeechmillError
from speechmill.manifest import read_manifest


def imported(kind: str, source: Path, out: Path, **wishes: object) -> tuple[pl.DataFrame, dict[str, object]]:
    done = import_corpus(kind, source, out, **wishes)  # type: ignore[arg-type]
    return read_manifest(out), done.report


def test_the_command_line_knows_every_format() -> None:
    assert NAMED == KINDS


def test_librispeech(tmp_path: Path) -> None:
    table, report = imported(
        "librispeech", corpus_fixtures.librispeech(tmp_path / "LibriSpeech"), tmp_path / "a.parquet"
    )
    assert table["id"].to_list() == ["1089-134686-0000", "1089-134686-0001", "61-70968-0000"]
    assert table["text"][0] == "HE HOPED THERE WOULD BE STEW FOR DINNER"
    assert table.select("speaker", "call", "subset", "sex", "samplerate").row(2) == (
        "61", "61-70968", "test-other", "M", 16000,
    )  # fmt: skip
    assert table["native"].null_count() == 3
    assert table["end"].to_list() == [2.0, 1.5, 3.0]
    assert table["timed"].all()
    assert report["dropped"] == {"missing-recording": 1, "empty-text": 1}
    drops = pl.read_csv(drops_path(tmp_path / "a.parquet"), separator="\t", quote_char=None)
    assert drops.select("call", "row", "reason").rows() == [
        ("1089-134686", 3, "missing-recording"), ("1089-134686", 4, "empty-text"),
    ]  # fmt: skip


def test_librispeech_a_subset_finds_the_speakers_above_it(tmp_path: Path) -> None:
    root = corpus_fixtures.librispeech(tmp_path / "LibriSpeech")
    table, _ = imported("librispeech", root / "test-clean", tmp_path / "a.parquet")
    assert (table["subset"].unique().to_list(), table["sex"].unique().to_list()) == (["test-clean"], ["M"])


def test_librispeech_through_links_and_without_speakers(tmp_path: Path) -> None:
    root = corpus_fixtures.librispeech(tmp_path / "real")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "test-clean").symlink_to(root / "test-clean")
    (root / "test-clean" / "loop").symlink_to(root)
    table, _ = imported("librispeech", tmp_path / "mine", tmp_path / "a.parquet")
    assert table.height == 3  # the link back to the root brings the other subset in, once
    assert "sex" not in table.columns


def test_librispeech_a_chapter_that_is_not_utf8(tmp_path: Path) -> None:
    root = corpus_fixtures.librispeech(tmp_path)
    (root / "test-other/61/70968/61-70968.trans.txt").write_bytes(b"61-70968-0000 CAF\xc9\n")
    _, report = imported("librispeech", root, tmp_path / "a.parquet")
    assert report["dropped"] == {"empty-text": 1, "missing-recording": 1, "unreadable-transcript": 1}
    assert "61-70968: unreadable-transcript" in report["failures"][0]
    assert "not UTF-8" in report["failures"][0]


def test_librispeech_a_tab_behind_an_id(tmp_path: Path) -> None:
    root = corpus_fixtures.librispeech(tmp_path)
    corpus_fixtures.write_lines(
        root / "test-other/61/70968/61-70968.trans.txt", "61-70968-0000\tHE BEGAN  A CONFUSED COMPLAINT "
    )
    table, report = imported("librispeech", root, tmp_path / "a.parquet")
    assert table.select("id", "text").row(2) == ("61-70968-0000", "HE BEGAN  A CONFUSED COMPLAINT")
    assert report["failures"] == []


def test_spgispeech_from_its_folder_its_table_and_its_root(tmp_path: Path) -> None:
    root = corpus_fixtures.spgispeech(tmp_path / "spgi")
    tables = [
        imported("spgispeech", source, tmp_path / f"{number}.parquet")
        for number, source in enumerate((root, root / "val", root / "val.csv"))
    ]
    for table, report in tables:
        assert table.equals(tables[0][0])
        assert report["dropped"] == {"bad-row": 1, "unreadable-recording": 1}
        assert "wav_filesize: 1 files" in report["warnings"][0]
    table = tables[0][0]
    assert table["text"][0] == 'So revenue grew by 12%, in line with "guidance".'
    assert table.select("id", "call", "speaker", "subset").row(2) == ("91ffe0aa_1", "91ffe0aa", "", "val")


def test_common_voice(tmp_path: Path) -> None:
    root = corpus_fixtures.commonvoice(tmp_path / "en")
    table, report = imported("commonvoice", root, tmp_path / "a.parquet")
    assert table.select("id", "subset", "samplerate").rows() == [
        ("common_voice_en_1", "test", 48000), ("common_voice_en_3", "train", 44100),
        ("common_voice_en_2", "test", 32000),
    ]  # fmt: skip
    assert table["text"][0] == '"The sun," she said.'
    assert table.select("speaker", "accents", "gender", "age", "native").row(0) == (
        "a" * 32, "Scottish English", "female", "twenties", None,
    )  # fmt: skip
    assert report["dropped"] == {"bad-row": 1, "missing-recording": 1}
    one, _ = imported("commonvoice", root / "test.tsv", tmp_path / "b.parquet")
    assert one.height == 2


def test_common_voice_of_old_names_a_single_column_and_takes_validated_at_last(tmp_path: Path) -> None:
    root = corpus_fixtures.commonvoice(tmp_path / "en")
    text = (root / "test.tsv").read_text().replace("accents", "accent")
    for name in ("test.tsv", "train.tsv"):
        (root / name).unlink()
    (root / "validated.tsv").write_text(text)
    table, _ = imported("commonvoice", root, tmp_path / "a.parquet")
    assert table["subset"].unique().to_list() == ["validated"]
    assert table["accents"].to_list() == ["Scottish English", None]


def test_an_unchanged_source_is_left_alone_and_a_changed_one_is_read_again(tmp_path: Path) -> None:
    root = corpus_fixtures.librispeech(tmp_path / "LibriSpeech")
    first = import_corpus("librispeech", root, tmp_path / "a.parquet")
    again = import_corpus("librispeech", root, tmp_path / "a.parquet")
    assert (first.done_before, again.done_before) == (False, True)
    corpus_fixtures.write_audio(root / "test-clean/1089/134686/1089-134686-0002.flac", 1.0, 16000)
    third = import_corpus("librispeech", root, tmp_path / "a.parquet")
    assert not third.done_before
    assert third.report["utterances"] == 4


def test_include_exclude_and_limits(tmp_path: Path) -> None:
    root = corpus_fixtures.librispeech(tmp_path / "LibriSpeech")
    table, report = imported(
        "librispeech", root, tmp_path / "a.parquet", include={"1089-134686", "nobody"}, limits=Limits(1.8, 60.0)
    )
    assert table["id"].to_list() == ["1089-134686-0000"]
    assert (report["calls_left_out"], report["dropped"]["too-short"]) == (1, 1)
    assert "nobody" in report["warnings"][0]
    with pytest.raises(SpeechmillError, match="none of its 2 calls is left"):
        import_corpus("librispeech", root, tmp_path / "b.parquet", include={"nobody"})


def test_audio_that_is_gone_altogether_is_one_line_that_names_the_calls(tmp_path: Path) -> None:
    root = corpus_fixtures.librispeech(tmp_path / "LibriSpeech")
    for path in root.rglob("*.flac"):
        path.unlink()
    with pytest.raises(
        SpeechmillError, match=r"none of 2 calls .*1089-134686-0000\.flac: no such.*Likewise 61-70968\."
    ):
        import_corpus("librispeech", root, tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [("librispeech", "trans.txt"), ("spgispeech", "wav_filename"), ("commonvoice", "test.tsv"), ("lhotse", "cuts"),
     ("earnings21", "no reference"), ("earnings22", "no reference"), ("bizspeech", "MEDIA"), ("csv", "is a folder"),
     ("jsonl", "is a folder"), ("nemo", "is a folder")],
)  # fmt: skip
def test_a_folder_that_is_no_such_corpus(tmp_path: Path, kind: str, wrong: str) -> None:
    with pytest.raises(SpeechmillError, match=wrong):
        import_corpus(kind, tmp_path, tmp_path / "a.parquet")
    with pytest.raises(SpeechmillError, match="no such file or folder"):
        import_corpus(kind, tmp_path / "nowhere", tmp_path / "a.parquet")


def test_tables_that_lack_a_column_name_it(tmp_path: Path) -> None:
    corpus_fixtures.write_lines(tmp_path / "val.csv", "wav_filename|transcript", "a.wav|x")
    with pytest.raises(SpeechmillError, match=r"val\.csv, line 1: no column 'wav_filesize'"):
        import_corpus("spgispeech", tmp_path, tmp_path / "a.parquet")
    corpus_fixtures.write_lines(tmp_path / "test.tsv", "client_id\tpath", "a\tb")
    with pytest.raises(SpeechmillError, match="no column 'sentence'"):
        import_corpus("commonvoice", tmp_path, tmp_path / "a.parquet")
    (tmp_path / "val.csv").write_bytes(b"wav_filename|wav_filesize|transcript\na.wav|1|caf\xe9\n")
    with pytest.raises(SpeechmillError, match="line 2: not UTF-8"):
        import_corpus("spgispeech", tmp_path, tmp_path / "a.parquet")
    (tmp_path / "val.csv").write_bytes(b"")
    with pytest.raises(SpeechmillError, match="empty"):
        import_corpus("spgispeech", tmp_path, tmp_path / "a.parquet")


def test_rates_and_channels_come_as_they_are(tmp_path: Path) -> None:
    root = tmp_path / "LibriSpeech"
    corpus_fixtures.librispeech(root)
    corpus_fixtures.write_audio(root / "test-clean/1089/134686/1089-134686-0000.flac", 2.0, 44100, channels=2)
    table, _ = imported("librispeech", root, tmp_path / "a.parquet")
    assert table["samplerate"].to_list() == [44100, 16000, 16000]
    assert soundfile.info(table["recording"][0]).channels == 2


def test_kind_and_place_in_one_word() -> None:
    assert named_corpus("librispeech:DIR/test-clean") == ("librispeech", Path("DIR/test-clean"))
    assert named_corpus("mine/shards") is None
    assert named_corpus("C:/shards") is None


def test_no_permission_is_told(tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("the superuser may read everything")
    root = corpus_fixtures.librispeech(tmp_path / "LibriSpeech")
    (root / "SPEAKERS.TXT").chmod(0)
    with pytest.raises(SpeechmillError, match="permission"):
        import_corpus("librispeech", root, tmp_path / "a.parquet")
