"""What `benchmarks.align` counts, and the corpora that it makes."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from benchmarks.align import other_outcomes
from benchmarks.align_curves import part
from benchmarks.align_tally import Tally, curve, from_json, merged, reliability
from benchmarks.align_text import compared, said_in, text_record, with_true_edges, with_what_was_said
from benchmarks.align_train import damaged_corpus, transcript
from benchmarks.damage import INSTRUCTIONS, Said, Written, damaged

from speechmill.align.recording import Outcome
from speechmill.artefact import write_json
from speechmill.corpora.base import Limits
from speechmill.corpora.demo.build import HEADER
from speechmill.manifest import read_manifest, write_manifest

A, B = Said("we saw strong demand", 1.0, 3.0), Said("margins were lower", 4.0, 6.0)
KEPT = Outcome(0, "kept", 0.9, 1.1, 3.0)


def tally() -> Tally:
    found = Tally()
    written = [Written(A.text, A), Written("nobody said this", None), Written("margins were higher", B, harmed=(2,))]
    found.add(written, [KEPT, Outcome(1, "not-spoken", 0.1), Outcome(2, "kept", 0.6, 4.0, 6.0)])
    return found


def test_what_is_counted() -> None:
    found = tally().record()
    assert (found["kept_true"], found["rejected_false"], found["true"], found["false"]) == (1.0, 1.0, 2, 1)
    assert found["boundary_max_seconds"] == pytest.approx(0.1)  # of the sentence whose words are whole
    assert found["reasons"] == {"kept": 2, "not-spoken": 1}
    far = Tally()
    far.add([Written(A.text, A), Written("no", None)], [Outcome(0, "kept", 0.9, 9.0, 11.0), KEPT])
    assert (far.record()["kept_true"], far.record()["rejected_false"]) == (0.0, 0.0)


def test_a_tally_as_json_and_the_sum_of_two() -> None:
    one = tally()
    assert from_json(one.as_json()) == one
    both = merged([one, tally()])
    assert both.true == 4
    assert len(both.judged) == 4
    assert both.reasons["kept"] == 4


def test_confidence_against_right_words_and_hours_against_errors(tmp_path: Path) -> None:
    judged = tally().judged
    assert [(row["from"], row["words"]) for row in reliability(judged)] == [(0.5, 3), (0.9, 4)]
    assert reliability(judged)[0]["right_words"] == pytest.approx(2 / 3)
    points = curve(judged)
    assert [round(point["hours"] * 3600, 3) for point in points] == [3.9, 1.9]
    assert points[0]["word_errors"] == pytest.approx(1 / 7)
    assert points[1]["word_errors"] == 0.0
    found = part({"clips": judged, "native": []}, tmp_path / "align.json")
    assert set(found) == {"clips", "all"}
    assert "<!-- hours kept -->" in (tmp_path / "align.svg").read_text()


def test_rough_times_never_run_backwards() -> None:
    moved = [Written(B.text, B, moved=True), Written("false", None), Written(A.text, A, moved=True)]
    rows = [row.split("\t") for row in transcript(moved).splitlines()]
    assert "\t".join(rows[0]) == HEADER
    starts = [row[3] for row in rows[1:]]
    assert starts == sorted(starts)
    assert [row[4] for row in rows[1:-1]] == [B.text, "false", A.text]


def test_damage_is_of_about_the_share_that_is_asked_for_and_a_function_of_the_seed() -> None:
    said = [Said(f"sentence number {n} of many words that are said here", n, n + 0.9) for n in range(400)]
    others = [f"never said {n}" for n in range(40)]
    assert [one.text for one in damaged(said, others, 0, 3)] == [one.text for one in said]
    for percent in (10, 20, 30):
        written = damaged(said, others, percent, 3)
        assert written == damaged(said, others, percent, 3)
        assert written != damaged(said, others, percent, 4)
        removed = len(said) - sum(one.said is not None for one in written) - sum(
            one.text == "Operator Instructions" for one in written
        )  # fmt: skip
        wrong = removed + sum(one.said is None for one in written) + sum(one.moved for one in written) / 2
        assert wrong / len(said) == pytest.approx(percent / 100, abs=0.05)


def test_a_damaged_corpus_is_imported_like_any_other(tmp_path: Path) -> None:
    from speechmill.corpora import import_corpus

    for call in ("1", "2"):
        folder = tmp_path / "demo" / "MEDIA" / call
        folder.mkdir(parents=True)
        soundfile.write(folder / "recording.wav", np.zeros(16000 * 60, np.int16), 16000, subtype="PCM_16")
        rows, words = [HEADER], ["SentenceID\tWord\tStart\tEnd"]
        for n in range(20):
            rows.append(f"S{n:04d}\t7\tpresentation\t00:00:{2 * n + 1:02d}.000\tsentence {n} of call {call} is said")
            words.append(f"S{n:04d}\tsentence\t{2 * n + 1}\t{2 * n + 2}")
        rows.append("END\t7\tpresentation\t00:00:45.000\t")
        (folder / "transcript_timealigned.txt").write_text("\n".join(rows) + "\n")
        (folder / "words.tsv").write_text("\n".join(words) + "\n")
    metadata = {call: {"partition": 5, "ceoID": "7", "company": f"c{call}", "country": "x"} for call in ("1", "2")}
    write_json(tmp_path / "demo" / "metadata" / "BizSpeech_MetaData.json", metadata)
    transcripts = damaged_corpus(tmp_path / "demo", tmp_path / "damaged", 1)
    limits = Limits(ignore_times=True)
    import_corpus("bizspeech", tmp_path / "damaged", tmp_path / "damaged.parquet", limits=limits)
    rows = read_manifest(tmp_path / "damaged.parquet")
    # None is lost, those out of order neither.
    assert any(one.moved for call in ("1", "2") for one in transcripts[call])
    assert rows["text"].to_list() == [one.text for call in ("1", "2") for one in transcripts[call]]
    table = rows.with_columns(start=0.0, end=2.5, known_text=pl.lit("x"))
    write_manifest(table, tmp_path / "aligned.parquet")
    said = with_what_was_said(tmp_path / "aligned.parquet", tmp_path / "demo", tmp_path / "said.parquet")
    assert set(read_manifest(said)["known_text"]) == {"sentence"}  # its middle is at 1.5 s, the next one's at 3.5 s
    assert text_record(said, tmp_path / "demo")["right"] == 1.0
    # In the true corpus an utterance ends with its words, not where the next one begins.
    import_corpus("bizspeech", tmp_path / "demo", tmp_path / "imported.parquet")
    true = with_true_edges(tmp_path / "imported.parquet", tmp_path / "demo", tmp_path / "true.parquet")
    edges = read_manifest(true).filter(pl.col("call") == "1").select("start", "end").rows()
    assert edges == [(2 * n + 1, 2 * n + 2) for n in range(20)]


def test_what_nobody_wrote_down_is_no_part_of_what_was_said(tmp_path: Path) -> None:
    folder = tmp_path / "MEDIA" / "1"
    folder.mkdir(parents=True)
    (folder / "recording.wav").touch()
    rows = [f"S{n:04d}\t7\tqa\t00:00:{10 * n:02d}.000\t{text}" for n, text in enumerate(("ah", INSTRUCTIONS, "oh", ""))]
    (folder / "transcript_timealigned.txt").write_text("\n".join([HEADER, *rows]) + "\n")
    (folder / "words.tsv").write_text("h\n" + "S0000\tah\t0\t9\n" + "S0002\toh\t20\t21\n")
    table = pl.DataFrame({"call": ["1"] * 4, "start": [0.0, 0.0, 12.0, 19.0], "end": [9.5, 15.0, 18.0, 22.0]})
    assert said_in(table, tmp_path) == ["ah", None, None, "oh"]


def test_outcomes_of_another_corpus_or_aligner_are_not_taken_for_these(tmp_path: Path) -> None:
    args = Namespace(work=tmp_path, corpus=Path("a"), demo=None, demo_calls=3, calls=1, seed=0, aligner="mms", run=None,
                     first_calls=1, first_updates=1, next_updates=1, seeds=1,
                         hear_rest=True, overrides=[])  # fmt: skip
    assert other_outcomes(args) == ""
    assert other_outcomes(args) == ""
    args.seed, args.corpus = 1, Path("b")
    assert other_outcomes(args) == f"{tmp_path} holds outcomes of corpus a, seed 0; give another --work"


def test_what_a_text_says_of_what_was_said() -> None:
    said = ["we", "saw", "strong", "demand", "in", "europe"]

    def found(written: str) -> dict[str, int]:
        return {name: count for name, count in compared(said, written.split()).items() if count}

    assert found("we saw strong demand in europe") == {"right": 6}
    assert found("we ★ demand for europe") == {"right": 3, "open": 2, "otherwise": 1}
    assert found("we saw ★ strong demand very europe too") == {
        "right": 5, "useless_wildcards": 1, "otherwise": 1, "not_said": 1,
    }  # fmt: skip
    assert found("saw strong ★") == {"right": 2, "open": 3, "nothing": 1}
    assert found("★") == {"open": 6}
    assert found("we ★ very strong demand in europe") == {"right": 5, "open": 1, "not_said": 1}
    assert compared([], ["★", "we"]) == {"useless_wildcards": 1, "not_said": 1}
