"""`speechmill score` as people and programs call it."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from speechmill.cli import main

REFERENCE = "c1-1 Good day, all.\nc1-2 In {2020 / twenty twenty} we grew.\nc2-1 Thank you.\n"
HYPOTHESIS = "c2-1 thank you\nc1-1 good day\nc1-2 in twenty twenty we grow up\nc3-1 hello\n"
OTHER = "c2-1 thanks\nc1-1 good day all\nc1-2 in 2020 we grew\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    for name, content in (("ref.txt", REFERENCE), ("hyp.txt", HYPOTHESIS), ("other.txt", OTHER)):
        (tmp_path / name).write_text(content)
    table = "id,native,speaker,call\nc1-1,true,a,c1\nc1-2,false,b,c1\nc2-1,true,c,c2\n"
    (tmp_path / "groups.csv").write_text(table)
    return str(tmp_path / "ref.txt"), str(tmp_path / "hyp.txt")


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["score", *arguments, "--json", "-"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_read_by_machine(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, *files)
    counts = {"errors": 3, "words": 10, "insertions": 1, "deletions": 1, "substitutions": 1}
    assert {key: found[key] for key in counts} == counts
    assert found["wer"] == pytest.approx(0.3)
    assert found["ser"] == pytest.approx(2 / 3)
    assert found["interval"] is None or len(found["interval"]) == 2
    assert list(found["by_recording"]) == ["c1-1", "c1-2", "c2-1"]
    assert found["by_recording"]["c1-2"]["errors"] == 2
    assert found["without_reference"] == ["c3-1"]
    assert found["formats"] == {"reference": "id", "hypothesis": "id"}
    assert found["normalization"].startswith("thesis (upper case, punctuation stripped")
    assert "the reference's words or any of its alternatives" in found["normalization"]
    assert sum(part["rate"] for part in found["kinds"].values()) == pytest.approx(found["wer_p"])


def test_groups_and_gap(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, *files, "--groups", str(tmp_path / "groups.csv"), "--by", "native", "--by", "speaker")
    assert found["by"]["native"]["true"]["words"] == 5
    assert found["by"]["native"]["false"]["errors"] == 2
    assert set(found["by"]["speaker"]) == {"a", "b", "c"}
    assert found["gaps"]["native"]["of"] == ["false", "true"]
    assert found["uncertainty"]["blocked_by"] == "speaker"
    found = as_json(capsys, *files, "--groups", str(tmp_path / "groups.csv"), "--block", "call")
    assert (found["uncertainty"]["blocked_by"], found["uncertainty"]["blocks"]) == ("call", 2)
    assert found["by"] == {}


def test_the_page_tells_what_was_odd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ref.txt").write_text("u-1 good {day\nu-2 so\n")
    (tmp_path / "hyp.ctm").write_text("u-1 A 1 1 day\nu-1 A 0 1 good\nu-2 A 0 0 <eps>\nu-3 A 0 1 more\n")
    page = tmp_path / "page.html"
    assert main(["score", str(tmp_path / "ref.txt"), str(tmp_path / "hyp.ctm"), "--html", str(page)]) == 0
    capsys.readouterr()
    text = page.read_text()
    for told in (
        "1 words were out of order",
        "Without a reference, not scored: u-3, 1 in all",
        "read as id, hypotheses as ctm",
    ):
        assert told in text


def test_utterances_can_be_drawn(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, *files, "--block", "utterance")["uncertainty"]
    assert (found["blocked_by"], found["blocks"]) == ("utterance", 3)


def test_two_systems(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, *files, "--compare", str(tmp_path / "other.txt"), "--normalize", "lower,punctuation")
    compared = found["comparison"]
    assert compared["difference"] == pytest.approx(found["wer"] - compared["wer"])
    assert compared["errors"] == 2
    assert 0 <= compared["p"] <= 1
    assert found["normalization"].startswith("lower,punctuation (lower case; punctuation stripped")
    assert (
        as_json(capsys, *files, "--compare", str(tmp_path / "other.txt"), "--normalize", "lower,punctuation") == found
    )


def test_terminal_files_and_page(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "html")}
    arguments = [text for name, path in outputs.items() for text in (f"--{name}", str(path))]
    assert main(["score", *files, "--compare", str(tmp_path / "other.txt"), *arguments]) == 0
    shown = capsys.readouterr().out
    for text in ("30.00", "hyp.txt (id)", "upper case, punctuation stripped", "WER-P in parts", "other.txt"):
        assert text in shown
    assert "Without a reference, so not scored: c3-1." in shown
    assert json.loads(outputs["json"].read_text())["errors"] == 3
    with outputs["csv"].open(newline="") as stream:
        rows = {(row["level"], row["name"]): row for row in csv.DictReader(stream)}
    assert rows["utterance", "c1-2"]["errors"] == "2"
    page = outputs["html"].read_text()
    assert page.startswith("<!doctype html>")
    assert "upper case, punctuation stripped" in page


def test_every_output_tells_the_normalisation(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "whisper (Whisper's English normalisation"
    outputs = {kind: tmp_path / f"scores.{kind}" for kind in ("json", "csv", "html")}
    asked = [word for kind, path in outputs.items() for word in (f"--{kind}", str(path))]
    assert main(["score", *files, "--normalize", "whisper", *asked]) == 0
    assert f"WER and CER: {told}" in capsys.readouterr().out
    assert json.loads(outputs["json"].read_text())["normalization"].startswith(told)
    with outputs["csv"].open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["normalization"].startswith(told) for row in rows] == [row["level"] == "set" for row in rows]
    assert told.replace("'", "&#x27;") in outputs["html"].read_text()


def test_the_second_systems_reading_is_told_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, files in {"ref": ["a"], "one": ["a"], "two": ["a", "b"]}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / f"{file}.txt").write_text("good day to all of you\n")
    places = [str(tmp_path / name) for name in ("ref", "one")]
    found = as_json(capsys, *places, "--compare", str(tmp_path / "two"))
    assert found["comparison"]["without_reference"] == ["b"]
    assert main(["score", *places, "--compare", str(tmp_path / "two")]) == 0
    shown = capsys.readouterr().out
    assert f"{tmp_path / 'two'}: Without a reference, so not scored: b." in shown
    assert "(exchanges within 1 recording)" in shown


def test_figures_that_are_read_out_are_no_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ref.txt").write_text("1 2 3\n4 5 6\n7 8 9\n")
    (tmp_path / "hyp.txt").write_text("1 2 3\n4 5 6\n7 9 9\n")
    found = as_json(capsys, str(tmp_path / "ref.txt"), str(tmp_path / "hyp.txt"))
    assert (found["errors"], found["words"]) == (1, 9)
    for side, text in (("ref", "0001 2 3\n0002 5 6\n"), ("hyp", "0002 5 6\n0001 2 4\n")):
        (tmp_path / f"{side}.txt").write_text(text)
    found = as_json(capsys, str(tmp_path / "ref.txt"), str(tmp_path / "hyp.txt"))
    assert (found["errors"], found["words"]) == (1, 4)


def test_names_in_another_order_are_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ref.txt").write_text("alice good day\nbob we grew\n")
    (tmp_path / "hyp.txt").write_text("bob we grow\nalice good day\n")
    found = as_json(capsys, str(tmp_path / "ref.txt"), str(tmp_path / "hyp.txt"))
    assert (found["errors"], found["words"]) == (1, 4)


def test_intervals_are_drawn_over_speakers_where_calls_are_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": f"u{n}", "text": "good day", "speaker": f"s{n % 5}"} for n in range(20)]
    for side in ("ref", "hyp"):
        (tmp_path / f"{side}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = as_json(capsys, str(tmp_path / "ref.jsonl"), str(tmp_path / "hyp.jsonl"))
    assert (found["uncertainty"]["blocked_by"], found["uncertainty"]["blocks"]) == ("speaker", 5)


def test_a_normalisation_without_a_name_is_refused(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", *files, "--normalize", ""]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["REF", "nowhere"], "nowhere: no such file or folder"),
        (["REF", "SHORT"], "2 of 3 references of"),
        (["REF", "HYP", "--normalize", "nice"], "there is no step 'nice'"),
        (["REF", "HYP", "--by", "sector"], "'sector': neither the references nor --groups have a value of it"),
        (["REF", "HYP", "--block", "speaker"], "'speaker': neither the references"),
        (["REF", "HYP", "--alternatives", "FOLDER"], "no NAME.norm.json for any reference"),
        (["REF", "HYP", "--seed", "-1"], "--seed -1: expected a number from 0"),
        (["nowhere", "HYP", "--html", "."], "--html .: is a folder, expected a file"),
        (["nowhere", "HYP", "--csv", "/dev/null/x/y.csv"], "--csv /dev/null/x/y.csv: cannot be written"),
        (["REF", "HYP", "--csv", "-"], "--csv -: takes a file"),
        (["REF", "HYP", "--html", "HYP"], "is read by this command; choose another file"),
        (["FOLDER", "FOLDER", "--json", "SHORT"], "is read by this command; choose another file"),
        (["REF", "LATIN"], "latin.txt, line 2: not UTF-8"),
        (["EMPTY", "HYP"], "empty.txt: has no words"),
        (["REF", "HYP", "--groups", "GROUPS"], "give --by COLUMN, too; groups.csv has id, native, speaker, call"),
    ],
)
def test_bad_input_is_one_line(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "short.txt").write_text("c1-1 good\n")
    (tmp_path / "latin.txt").write_bytes(b"c1-1 good\nc1-2 caf\xe9\n")
    names = {"REF": files[0], "HYP": files[1], "SHORT": str(tmp_path / "short.txt"), "FOLDER": str(tmp_path),
             "LATIN": str(tmp_path / "latin.txt"), "GROUPS": str(tmp_path / "groups.csv"),
             "EMPTY": str(tmp_path / "empty.txt")}  # fmt: skip
    assert main(["score", *(names.get(argument, argument) for argument in arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_empty_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, full = tmp_path / "empty.txt", tmp_path / "full.txt"
    empty.write_text("")
    full.write_text("good day\n")
    found = as_json(capsys, str(full), str(empty))
    assert (found["wer"], found["deletions"]) == (1.0, 2)


PROGRAM = """
import sys
from speechmill.cli import main
status = main(sys.argv[1:])
print(sorted({"torch", "polars", "pyarrow", "pandas", "numba", "speechbrain", "matplotlib"} & set(sys.modules)))
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
sys.exit(status)
"""


def test_scoring_starts_without_what_is_heavy(files: tuple[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, "score", *files], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2] == "[]"


def test_a_very_long_recording_in_little_memory(tmp_path: Path) -> None:
    dice = random.Random(0)
    words = [f"w{int(dice.paretovariate(0.7)) % 5000}" for _ in range(150_000)]
    heard = [word for word in words if dice.random() > 0.01]
    (tmp_path / "r.txt").write_text(" ".join(words))
    (tmp_path / "h.txt").write_text(" ".join(heard))
    arguments = ["score", str(tmp_path / "r.txt"), str(tmp_path / "h.txt"), "--json", str(tmp_path / "s.json")]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    assert json.loads((tmp_path / "s.json").read_text())["deletions"] == len(words) - len(heard)
    assert int(done.stdout.splitlines()[-1]) < 300 * 1024
