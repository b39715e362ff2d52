"""References and hypotheses brought together: guesses, folders, and whatever has no partner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from speechmill.errors import SpeechmillError
from speechmill.score.normalize import STEPS
from speechmill.score.result import Scoring
from speechmill.score.scoring import score


def lay(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def scored(tmp_path: Path, reference: str, hypothesis: str, names: str = "r.txt h.txt", **settings: Any) -> Scoring:
    one, other = names.split()
    (tmp_path / one).write_text(reference)
    (tmp_path / other).write_text(hypothesis)
    return score(tmp_path / one, tmp_path / other, **settings)


def counted(scoring: Scoring) -> dict[str, tuple[int, int]]:
    return {item.id: (item.rates.word.errors, item.rates.word.words) for item in scoring.items}


@pytest.mark.parametrize(
    ("reference", "hypothesis", "names", "formats", "expected"),
    [
        ("good day\nand so\n", "good day\nand no\n", "r.txt h.txt", ("lines",) * 2, {"1": (0, 2), "2": (1, 2)}),
        ("good\n\nso\n", "good\nuh\n\n", "r.txt h.txt", ("lines",) * 2, {"1": (0, 1), "2": (1, 0), "3": (1, 1)}),
        ("good day\nand so on\n", "good day and\n", "r.txt h.txt", ("recording",) * 2, {"r": (2, 5)}),
        ("good day\n", "good\n", "r.txt h.txt", ("recording",) * 2, {"r": (1, 2)}),
        ("u-1 a b\nu-2 c\n", "u-2 c\nu-1 a\n", "r.txt h.txt", ("id",) * 2, {"u-1": (1, 2), "u-2": (0, 1)}),
        ("s1_u1 a b\n", "s1_u1 a\n", "r.txt h.txt", ("id",) * 2, {"s1_u1": (1, 2)}),
        ("COVID-19 fell\n", "COVID-19 fell\n", "r.txt h.txt", ("recording",) * 2, {"r": (0, 3)}),
        ("101 a b\n102 c\n", "101 a b\n102\n", "r.txt h.txt", ("id",) * 2, {"101": (0, 2), "102": (1, 1)}),
        ("2020 was good\n", "2020 is good\n", "r.txt h.txt", ("recording",) * 2, {"r": (1, 3)}),
        ("a b (u1)\nc (u2)\n", "u1 a\nu2 c\n", "r.trn h.txt", ("trn", "id"), {"u1": (1, 2), "u2": (0, 1)}),
        ("one a b\ntwo c\n", "a b (one)\nd (two)\n", "r.txt h.trn", ("id", "trn"), {"one": (0, 2), "two": (1, 1)}),
        ("good day\nall\n", "c1 A 0 1 good\nc1 A 1 1 day\n", "r.txt h.ctm", ("recording", "ctm"), {"r": (1, 3)}),
        ("token|case\nGood|UC\nday|LC\n", "good\nday\n", "r.nlp h.txt", ("nlp", "recording"), {"r": (0, 2)}),
        ('{"text": "a"}\n{"text": "b"}\n', "a\nc\n", "r.jsonl h.txt", ("jsonl", "lines"), {"1": (0, 1), "2": (1, 1)}),
    ],
)
def test_what_two_files_are(
    tmp_path: Path, reference: str, hypothesis: str, names: str, formats: tuple[str, str], expected: dict[str, Any]
) -> None:
    found = scored(tmp_path, reference, hypothesis, names)
    assert found.formats == formats
    assert counted(found) == expected


def kaldi(*lines: str) -> str:
    """Four good lines and some that are odd."""
    return "".join(f"spk-{number} good day\n" for number in range(4)) + "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "names", "message"),
    [
        (kaldi("spk-3 again"), kaldi("spk-3 again"), "r.txt h.txt", "the id 'spk-3' is there twice"),
        (kaldi(), kaldi("spk-3 again"), "r.txt h.txt", "the id 'spk-3' is there twice"),
        (kaldi("spk-4 so"), kaldi("LOG done"), "r.txt h.txt", "no hypothesis: spk-4; .* Without a reference: LOG"),
        ("good day\n" * 4, kaldi(), "r.txt h.txt", "h.txt: its lines start with ids, it seems .spk-0, ....*give both"),
        (kaldi(), "good day\n" * 4, "r.txt h.txt", "r.txt: its lines start with ids"),
        ("u1 good\nu2 day\n", "good\nday\n", "r.txt h.txt", "r.txt: its lines start with ids"),
        ("good\nday\nall\n", "u1 good\nu2 2nd day\nu3 all\n", "r.txt h.txt", "h.txt: its lines start with ids"),
        (kaldi(), "good day\n5-day\n" * 2, "r.txt h.txt", "r.txt: its lines start with ids"),
        ("good day\nso\n", "good day (u1)\nso (u2)\n", "r.txt h.trn", "r.txt: .* the ids of .*h.trn .u1, u2"),
    ],
)
def test_odd_ids_are_told_and_not_scored_as_words(
    tmp_path: Path, reference: str, hypothesis: str, names: str, message: str
) -> None:
    with pytest.raises(SpeechmillError, match=message):
        scored(tmp_path, reference, hypothesis, names)


def test_records_are_matched_by_the_audio_that_others_name_otherwise(tmp_path: Path) -> None:
    for record in ('{"audio": {"path": "x/%s.wav"}, "text": "%s"}\n', '{"file_name": "%s.wav", "text": "%s"}\n'):
        one, other = (record % pair for pair in (("a", "good"), ("b", "day")))
        found = scored(tmp_path, one + other, other + one, "r.jsonl h.jsonl")
        assert counted(found) == {"a": (0, 1), "b": (0, 1)}
        assert not any("matched by their number" in note for note in found.notes)


def test_a_record_over_several_lines(tmp_path: Path) -> None:
    """Whisper's output, written to be read; a recording."""
    found = scored(tmp_path, "good day\n", json.dumps({"text": " good day", "segments": []}, indent=1), "r.txt h.json")
    assert counted(found) == {"r": (0, 2)}


def test_records_that_are_matched_by_their_number_are_told(tmp_path: Path) -> None:
    found = scored(tmp_path, '{"text": "a"}\n', '{"text": "a"}\n', "r.jsonl h.jsonl")
    assert any("are matched by their number" in note for note in found.notes)


def test_a_hypothesis_of_another_name_is_found_or_asked_for(tmp_path: Path) -> None:
    record = '{"id": "a", "text": "good day", "pred_text_conformer": "yellow"}\n'
    assert counted(scored(tmp_path, record, record, "r.jsonl h.jsonl")) == {"a": (2, 2)}
    several = record.replace('"id"', '"pred_text_crdnn": "good", "id"')
    with pytest.raises(SpeechmillError, match="pred_text_crdnn, pred_text_conformer may each be the hypothesis"):
        scored(tmp_path, several, several, "r.jsonl h.jsonl")


def test_nested_folders_against_a_file_by_ids(tmp_path: Path) -> None:
    """LibriSpeech: a chapter may have one utterance."""
    lay(tmp_path / "ls", {"10/21/10-21.trans.txt": "10-21-0000 GOOD\n", "10/22/10-22.trans.txt": "10-22-0000 DAY\n"})
    (tmp_path / "h.txt").write_text("10-22-0000 day\n10-21-0000 food\n")
    found = score(tmp_path / "ls", tmp_path / "h.txt")
    assert sorted(counted(found).values()) == [(0, 1), (1, 1)]


def test_a_ctm_can_say_that_nothing_was_recognised(tmp_path: Path) -> None:
    hypothesis = "u1 A 0 1 good\nu2 A 0 0 <eps>\n"
    found = scored(tmp_path, "u1 good\nu2 day\n", hypothesis, "r.txt h.ctm")
    assert counted(found) == {"u1": (0, 1), "u2": (1, 1)}


def test_what_is_no_word_of_an_nlp_stops_no_scoring(tmp_path: Path) -> None:
    reference = "token|ts|endTs|punctuation|wer_tags\nGood|0.1|N/A||{}\nday|||.|[]\n"
    found = scored(tmp_path, reference, reference + "|0||%|[]\n", "r.nlp h.nlp")
    assert counted(found) == {"r": (0, 2)}
    assert any("1 rows without a token are no words, the first in line 4" in note for note in found.notes)


def test_a_guess_can_be_overruled(tmp_path: Path) -> None:
    settings = {"reference_format": "lines", "hypothesis_format": "lines"}
    found = scored(tmp_path, "Q1 a\nQ2 b\n", "Q1 a\nQ3 b\n", **settings)
    assert counted(found) == {"1": (0, 2), "2": (1, 2)}


def test_one_file_with_both_sides(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps({"audio_filepath": "a.wav", "text": "a b", "pred_text": "a"}))
    assert counted(score(tmp_path / "m.json", tmp_path / "m.json")) == {"a": (1, 2)}


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (
            [{"text": "a b", "pred_text": "a"}, {"text": "c"}],
            "m.json, line 2: has no text of a hypothesis; expected pred_",
        ),
        ([{"text": "a b"}], "m.json, line 1: has no text of a hypothesis; expected one of hypothesis, hyp, pred_text"),
    ],
)
def test_a_reference_is_no_hypothesis(tmp_path: Path, records: list[dict[str, str]], message: str) -> None:
    (tmp_path / "m.json").write_text("\n".join(map(json.dumps, records)))
    with pytest.raises(SpeechmillError, match=message):
        score(tmp_path / "m.json", tmp_path / "m.json")


def test_a_hypothesis_has_one_name_in_a_file(tmp_path: Path) -> None:
    one = '{"text": "a"}\n{"text": "b"}\n'
    with pytest.raises(SpeechmillError, match=r"h\.jsonl, line 1: has no text of a hypothesis; expected pred_text"):
        scored(tmp_path, one, '{"text": "a"}\n{"text": "b", "pred_text": "c"}\n', "r.jsonl h.jsonl")
    assert counted(scored(tmp_path, one, one, "r.jsonl h.jsonl")) == {"1": (0, 1), "2": (0, 1)}


@pytest.mark.parametrize("normalize", [None, "none"])
@pytest.mark.parametrize(
    ("hypothesis", "name"),
    [
        ('"Good Day," he said - WELL... (I\'m $3.5 <inaudible>).', "h.txt"),
        ("r 1 0 1 GOOD\nr 1 1 1 DAY\nr 1 2 1 HE\nr 1 3 1 SAID\nr 1 4 1 WELL\nr 1 5 1 I'M\nr 1 6 1 $3.5\n"
         "r 1 7 1 <inaudible>\n", "h.ctm"),
        ("token\nGood\nDay\nhe\nsaid\nwell\nI'm\n$3.5\n<inaudible>\n", "h.nlp"),
    ],
)  # fmt: skip
def test_beside_nlp_the_formats_rule_holds_for_both(
    tmp_path: Path, hypothesis: str, name: str, normalize: str | None
) -> None:
    reference = "token|punctuation\nGood|\nday|,\nhe|\nsaid|.\nWell|,\nI'm|\n$3.5|\n<inaudible>|.\n"
    found = scored(tmp_path, reference, hypothesis, f"r.nlp {name}", normalize=normalize)
    assert counted(found) == {"r": (0, 8)}
    lay(tmp_path / "heard", {"r.nlp" if name == "h.nlp" else name.replace("h", "r", 1): hypothesis})
    assert counted(score(tmp_path / "r.nlp", tmp_path / "heard", normalize=normalize)) == {"r": (0, 8)}


@pytest.mark.parametrize("names", [("a.nlp", "b.txt"), ("b.nlp", "a.txt")])
def test_the_default_of_a_mixed_folder_is_one(tmp_path: Path, names: tuple[str, str]) -> None:
    reference = lay(tmp_path / "ref", {names[0]: "token\nGood\n", names[1]: "Good day."})
    hypothesis = lay(tmp_path / "hyp", {names[0].replace("nlp", "txt"): "good", names[1]: "good day"})
    found = score(reference, hypothesis)
    assert found.normalization.startswith("thesis")
    assert found.rates.word.errors == 0


@pytest.mark.parametrize("hypothesis", ["h.ctm", "h.jsonl", "h.txt"])
@pytest.mark.parametrize(
    ("reference", "name"),
    [("good day\nall\n", "r.txt"), ("c1 A 0 1 good\nc1 A 1 1 day\nc1 A 2 1 all\n", "r.ctm"),
     ("token\ngood\nday\nall\n", "r.nlp"), ('{"id": "c1", "text": "good day all"}', "r.jsonl")],
)  # fmt: skip
def test_nothing_recognised(tmp_path: Path, reference: str, name: str, hypothesis: str) -> None:
    content = ";; nothing\n" if hypothesis == "h.ctm" else ""
    found = scored(tmp_path, reference, content, f"{name} {hypothesis}")
    assert [(item.rates.word.errors, item.rates.word.words) for item in found.items] == [(3, 3)]
    heard = lay(tmp_path / "heard", {hypothesis.replace("h", "r"): content})
    known = lay(tmp_path / "known", {name: reference})
    assert [item.rates.word.errors for item in score(known, heard).items] == [3]
    if name in ("r.txt", "r.nlp"):
        assert [item.rates.word.errors for item in score(tmp_path / name, heard).items] == [3]


def test_folders_by_name(tmp_path: Path) -> None:
    reference = lay(tmp_path / "ref", {"c2.txt": "good day\nand so\n", "x/c1.aligned.nlp": "token\nGood\n"})
    hypothesis = lay(tmp_path / "hyp", {"x/c1.ctm": "rec 1 0 1 good\n", "c2.txt": "good\nand so on\n", "c3.txt": "x"})
    found = score(reference, hypothesis)
    assert counted(found) == {"c2": (2, 4), "x/c1": (0, 1)}
    assert found.without_reference == ("c3",)
    assert found.formats == ("nlp and recording", "ctm and recording")


def test_folders_of_utterances(tmp_path: Path) -> None:
    reference = lay(tmp_path / "ref", {"84-12.trans.txt": "84-12-0 A B\n84-12-1 C\n", "85-1.trans.txt": "85-1-0 D\n"})
    hypothesis = lay(tmp_path / "hyp", {"84-12.txt": "84-12-1 C\n84-12-0 A\n", "85-1.txt": "85-1-0 D\n"})
    found = score(reference, hypothesis)
    assert counted(found) == {"84-12-0": (1, 2), "84-12-1": (0, 1), "85-1-0": (0, 1)}
    assert [item.recording for item in found.items] == ["84-12", "84-12", "85-1"]


def test_the_same_ids_in_several_files(tmp_path: Path) -> None:
    reference = lay(tmp_path / "ref", {"a.trn": "x (1)\ny (2)\n", "b.trn": "z (1)\n"})
    hypothesis = lay(tmp_path / "hyp", {"a.trn": "x (1)\ny (2)\n", "b.trn": "x (1)\n"})
    assert counted(score(reference, hypothesis)) == {"a/1": (0, 1), "a/2": (0, 1), "b/1": (1, 1)}


def test_a_file_of_a_folder_may_start_with_a_figure(tmp_path: Path) -> None:
    reference = lay(tmp_path / "ref", {"a.txt": "Q1 was good\nQ2 was not\n", "b.txt": "c1_2 so\n"})
    hypothesis = lay(tmp_path / "hyp", {"a.txt": "Q1 was good Q3 was not\n", "b.txt": "so\n"})
    assert counted(score(reference, hypothesis)) == {"a": (1, 6), "b": (2, 3)}  # c1_2 is two words


def test_folder_against_file(tmp_path: Path) -> None:
    reference = lay(tmp_path / "ref", {"c1.nlp": "token\nGood\nday\n", "c2.txt": "and\nso\n"})
    (tmp_path / "h.ctm").write_text("c2 1 0 1 and\nc1 1 0 1 good\nc9 1 0 1 good\n")
    found = score(reference, tmp_path / "h.ctm")
    assert counted(found) == {"c1": (1, 2), "c2": (1, 2)}
    assert found.without_reference == ("c9",)
    (tmp_path / "r.jsonl").write_text('{"id": "c1", "text": "good day"}\n')
    assert counted(score(tmp_path / "r.jsonl", reference)) == {"c1": (0, 2)}


def test_of_two_files_with_one_name_the_usual_ending_stands(tmp_path: Path) -> None:
    reference = lay(tmp_path / "ref", {"c1.nlp": "token\nGood\n", "c2.nlp": "token\nday\n", "notes.pdf": "",
                                      "LICENSE": "You may.", "metadata.json": "{}"})  # fmt: skip
    hypothesis = lay(
        tmp_path / "hyp", {"c1.nlp": "token\nGood\n", "c1.ctm": "c1 1 0 1 bad\n", "c2.nlp": "token\nday\n"}
    )
    found = score(reference, hypothesis)
    assert found.rates.word.errors == 0
    assert any("c1.ctm: left out, c1.nlp has the same name" in note for note in found.notes)
    assert any("3 files are no transcripts (.json, .pdf, LICENSE)" in note for note in found.notes)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "names", "message"),
    [
        ("u1 a\nu2 b\nu3 c\n", "u1 a\n\n", "r.txt h.txt", "2 of 3 references of .*r.txt have no hypothesis: u2, u3"),
        ("u1 a\nu2 b\n", "", "r.txt h.txt", "2 of 2 references"),
        ("Q1 a\nQ2 b\n", "Q1 a\nQ3 b\n", "r.txt h.txt", "no hypothesis: Q2;.* If lines do not start with ids, give"),
        ("a (u1)\nb (u2)\n", "a (u1)\nb (u3)\n", "r.trn h.trn", "no hypothesis: u2;.* Without a reference: u3"),
        ("a b\nb c\nc d\n", "a b\nc d\n", "r.txt h.txt", "2 lines against 3 of .*--ref-format recording"),
        ("a (u1)\nb (u2)\n", "token\na\n", "r.trn h.nlp", "2 of 2 references"),
    ],
)
def test_a_reference_without_a_hypothesis_is_an_error(
    tmp_path: Path, reference: str, hypothesis: str, names: str, message: str
) -> None:
    with pytest.raises(SpeechmillError, match=message):
        scored(tmp_path, reference, hypothesis, names)


def test_a_file_without_a_hypothesis_is_an_error(tmp_path: Path) -> None:
    reference = lay(tmp_path / "ref", {f"c{number:02}.txt": "a" for number in range(14)})
    hypothesis = lay(tmp_path / "hyp", {"c00.txt": "a", "c99.txt": "a"})
    with pytest.raises(SpeechmillError, match=r"13 of 14 references .* c01, .*c10 and 3 more; .* reference: c99\."):
        score(reference, hypothesis)


def test_nothing_to_score(tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match="no such file or folder"):
        score(tmp_path / "nowhere", tmp_path)
    with pytest.raises(SpeechmillError, match=r"has no transcripts; \.nlp"):
        score(lay(tmp_path / "ref", {"a.pdf": ""}), lay(tmp_path / "hyp", {"a.txt": "a"}))


def test_first_words_that_both_sides_have_are_no_ids(tmp_path: Path) -> None:
    found = scored(tmp_path, "Q1 was good\nH2 was not\n", "in Q1 was good\nwell H2 was\n")
    assert (found.formats, found.rates.word.errors) == (("lines",) * 2, 3)


def test_a_recording_without_words_has_no_rate(tmp_path: Path) -> None:
    reference = lay(tmp_path / "ref", {"r.txt": "", "q.txt": "and so\n"})
    found = score(reference, lay(tmp_path / "hyp", {"r.txt": "good day\n", "q.txt": "and so\n"}))
    assert (found.rates.wer, found.rates.word.insertions) == (1.0, 2)
    assert "without a rate: r; their insertions count" in found.notes[0]


@pytest.mark.parametrize("hypothesis", ["good day\n", ""])
@pytest.mark.parametrize("reference", ["", "\n \n"])
def test_a_reference_without_a_word_is_an_error(tmp_path: Path, reference: str, hypothesis: str) -> None:
    with pytest.raises(SpeechmillError, match=r"r\.txt: has no words"):
        scored(tmp_path, reference, hypothesis)


def test_empty_hypothesis_is_all_deletions(tmp_path: Path) -> None:
    found = scored(tmp_path, "good day\nand so\n", "")
    assert (found.rates.wer, found.rates.word.deletions, found.rates.ser) == (1.0, 4, 1.0)


def test_alternatives_in_plain_text(tmp_path: Path) -> None:
    found = scored(tmp_path, "in {2020 / twenty twenty} {uh / @} we\nand {a / b}\n", "in twenty twenty we\nand c\n")
    assert counted(found) == {"1": (0, 4), "2": (1, 2)}
    assert found.items[0].reference == "in 2020 uh we"


def test_candidates(tmp_path: Path) -> None:
    reference = lay(tmp_path / "ref", {
        "c1.nlp": "token|tags\nIn|[]\n2020|['0:YEAR']\n", "c2.nlp": "token|tags\nSo|[]\n5|['3:CARDINAL']\n",
    })  # fmt: skip
    hypothesis = lay(tmp_path / "hyp", {"c1.txt": "In twenty Twenty", "c2.txt": "so five"})
    norm = {"0": {"candidates": [{"verbalization": ["twenty", "twenty"]}], "class": "YEAR"}}
    alternatives = lay(tmp_path / "norm", {"c1.norm.json": json.dumps(norm)})
    found = score(reference, hypothesis, alternatives=alternatives, normalize="lower")
    assert counted(found) == {"c1": (0, 3), "c2": (1, 2)}
    assert [(entity.label, entity.counts.words, entity.counts.errors) for item in found.items
            for entity in item.entities] == [("YEAR", 2, 0), ("CARDINAL", 1, 1)]  # fmt: skip
    assert any("c2.norm.json: not there; c2 is scored by its words as written" in note for note in found.notes)
    assert "any of its alternatives" in found.normalization
    with pytest.raises(SpeechmillError, match=r"no NAME\.norm\.json for any reference"):
        score(reference, hypothesis, alternatives=lay(tmp_path / "none", {"x": ""}))
    with pytest.raises(SpeechmillError, match="no such folder of alternatives"):
        score(reference, hypothesis, alternatives=tmp_path / "nowhere")
    with pytest.raises(SpeechmillError, match="for references in Rev's"):
        scored(tmp_path, "a b", "a b", alternatives=alternatives)


def test_an_empty_list_of_candidates_is_the_words_as_written(tmp_path: Path) -> None:
    (tmp_path / "n.json").write_text('{"0": {"candidates": [], "class": "YEAR"}}')
    found = scored(
        tmp_path, "token|tags\n2020|['0:YEAR']\n", "token\n2020\n", "r.nlp h.nlp", alternatives=tmp_path / "n.json"
    )
    assert counted(found) == {"r": (0, 1)}
    assert any("1 tags have no candidates" in note for note in found.notes)


def test_default_normalisation_is_the_formats(tmp_path: Path) -> None:
    nlp = "token|punctuation\nLong-term|,\n", "token|punctuation\nlong-term|.\n"
    for name in (None, "none"):
        assert scored(tmp_path, *nlp, names="r.nlp h.nlp", normalize=name).rates.word.words == 1
        assert scored(tmp_path, *nlp, names="r.nlp h.nlp", normalize=name).rates.word.errors == 0
    assert scored(tmp_path, *nlp, names="r.nlp h.nlp", normalize="thesis").rates.word.words == 2
    assert scored(tmp_path, "Long-term,\n", "long term\n").rates.word.errors == 0
    assert scored(tmp_path, "Long-term,\n", "long term\n", normalize="none").rates.word.errors == 2


def test_audio_that_is_gone_is_told_and_scores_stand(tmp_path: Path) -> None:
    line = {"audio_filepath": "gone.wav", "duration": 1.0, "text": "a b"}
    (tmp_path / "r.json").write_text(json.dumps(line))
    (tmp_path / "h.json").write_text(json.dumps({**line, "pred_text": "a"}))
    found = score(tmp_path / "r.json", tmp_path / "h.json")
    assert found.rates.wer == 0.5
    assert found.notes == (f"Audio that is not there (scores do not need it): {tmp_path / 'gone.wav'}.",)


def test_ten_thousand_files(tmp_path: Path) -> None:
    words = {f"{number:05}.txt": f"word {number}" for number in range(10_000)}
    found = score(lay(tmp_path / "ref", words), lay(tmp_path / "hyp", words | {"00007.txt": "word"}))
    assert (len(found.items), found.rates.word.errors, found.rates.word.words) == (10_000, 1, 20_000)


GROUPS = "File ID,sector,native\nc1.wav,Energy,true\nc2.wav,Health,false\nc9.wav,Energy,\n"


def test_groups_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(GROUPS)
    reference = lay(tmp_path / "ref", {"c1.txt": "a b", "c2.txt": "c d", "c3.txt": "e"})
    found = score(reference, reference, groups=tmp_path / "g.csv", by=["sector", "native"])
    assert [dict(item.attributes) for item in found.items] == [
        {"sector": "Energy", "native": "true"}, {"sector": "Health", "native": "false"}, {},
    ]  # fmt: skip
    assert f"{tmp_path / 'g.csv'}: nothing of c3; in no group." in found.notes
    with pytest.raises(
        SpeechmillError, match="'region': neither the references nor --groups have a value of it; there is"
    ):
        score(reference, reference, groups=tmp_path / "g.csv", by=["region"])
    (tmp_path / "g.csv").write_text("name,sector\nx,y\n")
    with pytest.raises(SpeechmillError, match=r"no column has the ids that were scored \(c1, c2, c3"):
        score(reference, reference, groups=tmp_path / "g.csv", by=["sector"])


@pytest.mark.parametrize("form", ["tsv", "jsonl", "parquet"])
def test_groups_of_other_tables(tmp_path: Path, form: str) -> None:
    import polars as pl

    table = pl.DataFrame({"id": ["u1", "u2", "u9"], "native": [True, None, False]})
    path = tmp_path / f"g.{form}"
    if form == "parquet":
        table.write_parquet(path)
    else:
        path.write_text("id\tnative\nu1\ttrue\nu2\t\nu9\tfalse\n" if form == "tsv" else table.write_ndjson())
    (tmp_path / "r.trn").write_text("a (u1)\nb (u2)\n")
    found = score(tmp_path / "r.trn", tmp_path / "r.trn", groups=path, by=["native"])
    assert [dict(item.attributes) for item in found.items] == [{"native": "true"}, {}]


def test_groups_of_a_manifest_by_recording(tmp_path: Path) -> None:
    import polars as pl

    table = {"id": ["x", "y", "z"], "recording": ["/a/c1.wav", "/a/c2.wav", "/a/c3.wav"], "sector": ["E", "H", "E"]}
    pl.DataFrame(table).write_parquet(tmp_path / "m.parquet")
    reference = lay(tmp_path / "ref", {"c1.txt": "a b", "c2.txt": "c d"})
    found = score(reference, reference, groups=tmp_path / "m.parquet", by=["sector"])
    assert [dict(item.attributes) for item in found.items] == [{"sector": "E"}, {"sector": "H"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.jsonl", '{"id": "c1"}\n[1]\n', "line 2: expected a JSON object"),
        ("g.parquet", "no table", "not a Parquet file"),
        ("g.csv", 'id,x\nc1,"' + "y" * 200_000 + '"\n', "line 1: not a table"),
        ("", "", "no such file of groups"),
    ],
)
def test_broken_tables_of_groups(tmp_path: Path, name: str, content: str, message: str) -> None:
    reference = lay(tmp_path / "ref", {"c1.txt": "a b"})
    if name:
        (tmp_path / name).write_text(content)
    with pytest.raises(SpeechmillError, match=message):
        score(reference, reference, groups=tmp_path / name, by=["x"])


def test_groups_of_the_references_themselves(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(
        '{"id": "u1", "text": "a", "call": "c1", "native": false}\n{"id": "u2", "text": "b"}\n'
    )
    (tmp_path / "h.txt").write_text("u1 a\nu2 b\n")
    found = score(tmp_path / "r.jsonl", tmp_path / "h.txt", by=["native", "recording"])
    assert dict(found.items[0].attributes) == {"native": "false", "recording": "c1", "call": "c1"}
    assert dict(found.items[1].attributes) == {"recording": "u2"}


@pytest.mark.parametrize("step", STEPS)
def test_a_text_against_itself_is_right_under_every_normalisation(tmp_path: Path, step: str) -> None:
    rows = ["It|[]", "cost|[]", "20|['0:MONEY']", "dollars|[]", "Mr.|[]", "um|[]", "twenty|['1:CARDINAL']", "five|[]",
            "I'm|['2:CONTRACTION']", "colour|['3:X']", "<noise>|[]"]  # fmt: skip
    text = "\n".join(["token|tags", *rows, ""])
    norm = {"0": {"candidates": [{"verbalization": ["twenty"]}]}, "2": {"candidates": [{"verbalization": ["I", "am"]}]}}
    (tmp_path / "n.json").write_text(json.dumps(norm))
    for alternatives in (None, tmp_path / "n.json"):
        found = scored(tmp_path, text, text, "r.nlp h.nlp", normalize=step, alternatives=alternatives)
        assert (found.rates.word.errors, found.rates.word.words > 0) == (0, True)
    braces = "it cost {20 / twenty} dollars {uh / @} and {twenty / 20} five\n"
    heard = "it cost 20 dollars uh and twenty five\n"
    assert scored(tmp_path, braces, heard, normalize=step).rates.word.errors == 0


def test_entities_that_are_left_out_are_told(tmp_path: Path) -> None:
    text = "token|tags\n20|['0:MONEY']\ndollars|[]\nin|[]\n2020|['1:YEAR']\n"
    whole = scored(tmp_path, text, text, "r.nlp h.nlp", normalize="whisper")
    assert not whole.items[0].entities
    assert any("Normalised as a whole" in note and note.endswith("r.") for note in whole.notes)
    pieces = scored(tmp_path, text, text, "r.nlp h.nlp", normalize="lower")
    assert (len(pieces.items[0].entities), pieces.notes) == (2, ())
