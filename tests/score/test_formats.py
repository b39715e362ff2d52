"""Every format in its true form: fixtures of a few invented lines; what is wrong with a file is told by its line."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from speechmill.errors import SpeechmillError
from speechmill.score.formats.braces import with_alternatives
from speechmill.score.formats.item import Alternatives, Transcript, plain_item
from speechmill.score.formats.nlp import as_tokens, parse_transcript, read_candidates
from speechmill.score.formats.reading import FORMATS, open_source, parse, told_by_lines
from speechmill.score.result import Sound

NLP = (
    "token|speaker|ts|endTs|punctuation|prepunctuation|case|tags|wer_tags\r\n"
    "In|1|||||CA|[]|[]\r\n"
    "first|1|||||LC|[]|['3']\r\n"
    "quarter|1|||,||LC|[]|['3']\r\n"
    "Q1|1|||||UC|['1:ALPHANUMERIC']|[]\r\n"
    "2020|1|||.||CA|['0:YEAR']|['0', '1']\r\n"
    "twenty-five|2||||(|LC|['7:CARDINAL']|[]\r\n"
    "thousand|2|||)||LC|['7:CARDINAL']|[]\r\n"
    "<inaudible>|2|||||LC|[]|[]\r\n"
    "*|2|||||LC|['9:FALLBACK']|[]\r\n"
)
NORM = {
    "0": {"candidates": [
        {"probability": 0.9, "verbalization": ["twenty", "twenty"]},
        {"probability": 0.1, "verbalization": ["Two", "thousand", "twenty"]},
    ], "class": "YEAR"},
    "7": {"candidates": [], "class": "CARDINAL"},
    "9": {"candidates": [{"probability": 1.0, "verbalization": []}], "class": "FALLBACK"},
}  # fmt: skip


def read(path: Path, content: str | bytes, hypothesis: bool = False, form: str | None = None) -> Transcript:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return parse(open_source(path, form), hypothesis=hypothesis)


def texts(transcript: Transcript) -> dict[str, str]:
    return {item.id: item.written for item in transcript.items}


def test_nlp_compares_tokens_and_keeps_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "call.norm.json").write_text(json.dumps(NORM))
    candidates, notes = read_candidates(tmp_path / "call.norm.json")
    item = parse_transcript(NLP.replace("\r", "").rstrip().split("\n"), tmp_path / "call.nlp", candidates).items[0]
    assert item.id == "call"
    assert item.written == "In first quarter, Q1 2020. (twenty-five thousand) <inaudible> *"
    assert item.pieces == (
        "in first quarter",
        Alternatives(("q1",), "ALPHANUMERIC"),
        Alternatives(("2020", "twenty twenty", "two thousand twenty"), "YEAR"),
        Alternatives(("twenty-five thousand",), "CARDINAL"),
        "<inaudible>",
        Alternatives(("*", ""), "FALLBACK"),
    )
    assert notes == (f"{tmp_path / 'call.norm.json'}: 1 tags have no candidates; their words as written stand.",)


def test_nlp_as_a_file_with_columns_missing(tmp_path: Path) -> None:
    transcript = read(tmp_path / "4469528.aligned.nlp", "token|ts|endTs\nGood|1.0|1.2\nday|1.2|1.5\n")
    assert texts(transcript) == {"4469528": "Good day"}
    assert transcript.items[0].pieces == ("good day",)


def test_two_entities_of_one_class_beside_each_other() -> None:
    lines = ["token|tags", "2019|['0:YEAR']", "2020|['1:YEAR']"]
    assert parse_transcript(lines, Path("x.nlp")).items[0].pieces == (
        Alternatives(("2019",), "YEAR"),
        Alternatives(("2020",), "YEAR"),
    )


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "a.trn",
            "good day (u1)\n;; a comment\n\n (u2)\r\n{a / b} c (u3)\n",
            {"u1": "good day", "u2": "", "u3": "a c"},
        ),
        ("a.txt", "good day (u1)\nand so (u2)\n", {"u1": "good day", "u2": "and so"}),
        ("a.ctm", ";; x\nc1 A 0.5 0.1 good 0.9\nc1 A 0.7 0.1 day\nc2 1 1 1 so\n", {"c1": "good day", "c2": "so"}),
        ("a.txt", "c1 A 0.5 0.1 good 0.9\nc1 B 0.7 0.1 day\n", {"c1-A": "good", "c1-B": "day"}),
        ("a.jsonl", '{"id": "u1", "text": "good"}\n\n{"id": 2, "text": null}\n', {"u1": "good", "2": ""}),
        ("a.txt", '{"utt_id": "u1", "ref": "good", "hyp": "bad"}\n', {"u1": "good"}),
        ("a.json", '[\n {"id": "u1", "text": "good"},\n {"id": "u2", "text": "day"}\n]\n', {"u1": "good", "u2": "day"}),
        ("a.jsonl", '{"text": "good"}\n{"text": "day"}\n', {"1": "good", "2": "day"}),
    ],
)
def test_formats_by_name_and_by_lines(tmp_path: Path, name: str, content: str, expected: dict[str, str]) -> None:
    assert texts(read(tmp_path / name, content)) == expected


def test_nemo_manifest(tmp_path: Path) -> None:
    lines = [
        {"audio_filepath": "wavs/a.wav", "offset": 1.5, "duration": 2, "text": "good", "pred_text": "goo", "snr": 3},
        {
            "audio_filepath": "wavs/a.wav",
            "offset": 4.0,
            "duration": 1.0,
            "text": "day",
            "pred_text": "",
            "native": True,
        },
        {"audio_filepath": "wavs/b.wav", "duration": 1.0, "text": "so", "pred_text": "so"},
    ]
    content = "\n".join(map(json.dumps, lines))
    references = read(tmp_path / "m.json", content)
    assert texts(references) == {"a@1.500": "good", "a@4.000": "day", "b": "so"}
    assert texts(read(tmp_path / "m.json", content, hypothesis=True)) == {"a@1.500": "goo", "a@4.000": "", "b": "so"}
    first, second, third = references.items
    assert first.sound == Sound(str(tmp_path / "wavs/a.wav"), 1.5, 3.5)
    assert (first.recording, third.recording) == ("a", "b")
    assert first.attributes["snr"] == "3"
    assert second.attributes["native"] == "true"


def test_audio_of_one_name_in_two_folders(tmp_path: Path) -> None:
    lines = [{"audio_filepath": name, "text": "a"} for name in ("a/1.wav", "b/1.wav", "b/2.wav")]
    lines.append({"audio_filepath": "b/1.wav", "text": "b", "offset": 2.0})  # type: ignore[dict-item]
    found = read(tmp_path / "m.json", "\n".join(map(json.dumps, lines))).items
    assert [item.id for item in found] == ["a/1", "b/1@0.000", "2", "b/1@2.000"]
    assert [item.recording for item in found] == ["a/1", "b/1", "2", "b/1"]


def test_parquet_manifest(tmp_path: Path) -> None:
    table = {"id": ["u1", "u2"], "text": ["Good day.", "{a / b}"], "recording": ["/x/c1.wav"] * 2, "start": [0.0, 2.0],
             "end": [1.0, 3.0], "speaker": ["ann", None], "native": [True, None], "other": [1, 2]}  # fmt: skip
    pl.DataFrame(table).write_parquet(tmp_path / "m.parquet")
    first, second = parse(open_source(tmp_path / "m.parquet"), hypothesis=False, columns=["native"]).items
    assert (first.written, second.written, first.recording) == ("Good day.", "a", "c1")
    assert (first.attributes, second.attributes) == ({"native": "true", "speaker": "ann"}, {})
    assert first.sound == Sound("/x/c1.wav", 0.0, 1.0)


def test_ctm_out_of_order_is_sorted_and_told(tmp_path: Path) -> None:
    transcript = read(tmp_path / "a.ctm", "c1 A 2.0 0.1 day\nc1 A 1.0 0.1 good\nc1 A 3.0 .1 all\n")
    assert texts(transcript) == {"c1": "good day all"}
    assert transcript.notes == (f"{tmp_path / 'a.ctm'}: 1 words were out of order; sorted by their start.",)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_can_be_mixed(tmp_path: Path, end: str) -> None:
    assert texts(read(tmp_path / "a.txt", f"u1 good{end}u2 day\r\nu3 so\n", form="id")) == {
        "u1": "good", "u2": "day", "u3": "so",
    }  # fmt: skip


def test_only_line_ends_end_lines(tmp_path: Path) -> None:
    content = "\ufeffu1 a\u2028b\x0bc\x85d\r\r\nu2 e"
    assert texts(read(tmp_path / "a.txt", content, form="id")) == {"u1": "a\u2028b\x0bc\x85d", "u2": "e"}


@pytest.mark.parametrize(
    ("written", "pieces"),
    [
        ("so {a / b c} d", ("so ", Alternatives(("a", "b c")), " d")),
        ("{uh / @} yes", (Alternatives(("uh", "")), " yes")),
        ("{a/b}", (Alternatives(("a", "b")),)),
        ("{and/or / or}", (Alternatives(("and/or", "or")),)),
        ("{ / }", (Alternatives(("", "")),)),
        ("{a} {b", ("{a} {b",)),
        ("a / b", ("a / b",)),
    ],
)
def test_braces(written: str, pieces: tuple[str | Alternatives, ...]) -> None:
    assert with_alternatives(plain_item("u", written)).pieces == pieces


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("so {a / b c} d {e}", ""),
        ("a / b } c", ""),
        ("so {a / {b / c}} d", "{a / {b / c}} d"),
        ("so {a {b / c}} d", "{a {b / c}} d"),
        ("{x / y} so {a / b c", "{a / b c"),
        ("so {a / b {c / d} e", "{a / b {c / d} e"),
    ],
)
def test_odd_braces_are_told(written: str, told: str, tmp_path: Path) -> None:
    notes = read(tmp_path / "a.trn", f"{written} (u1)").notes
    assert notes == ((f"u1: braces not closed, or within others, are text: {told!r}",) if told else ())


def test_braces_are_text_in_a_hypothesis(tmp_path: Path) -> None:
    assert texts(read(tmp_path / "a.trn", "{a / b} (u1)", hypothesis=True)) == {"u1": "{a / b}"}


@pytest.mark.parametrize(
    ("lines", "form"),
    [
        (["token|speaker|ts", "a|1|"], "nlp"),
        (['{"text": "a"}'], "jsonl"),
        (["a b (u1)", "c (u2)"], "trn"),
        (["a b (u1)", "c (laughs) d"], "text"),
        (["c1 A 1.0 0.5 word", "c1 A 2.0 0.5 word 0.8"], "ctm"),
        (["c1 A 1.0 0.5 word", "good day to all of you"], "text"),
        (["{a / b} c"], "text"),
        ([], "text"),
    ],
)
def test_what_lines_tell(lines: list[str], form: str) -> None:
    assert told_by_lines(lines) == form


def test_the_command_line_knows_the_formats() -> None:
    from speechmill.cli.verb import SCORE_FORMATS

    assert SCORE_FORMATS == FORMATS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.trn", "good (u1)\nday\n", "a.trn, line 2: TRN ends each line with the id"),
        ("a.trn", "good (u1)\nday (u1)\n", "a.trn: the id 'u1' is there twice"),
        ("a.ctm", "c1 A 1.0 good\n", "a.ctm, line 1: CTM has recording, channel"),
        ("a.ctm", "c1 A 1.0 x good\n", "a.ctm, line 1: the third and fourth columns"),
        ("a.ctm", "c1 A * * <ALT_BEGIN>\n", "found '[*]'"),
        ("a.ctm", "c1 A nan 1 a\n", "found 'nan'"),
        ("a.jsonl", '{"text": "a"}\n{"text"\n', "a.jsonl, line 2: not valid JSON"),
        ("a.jsonl", '{"text": "a"}\n[1]\n', "a.jsonl, line 2: expected a JSON object"),
        ("a.jsonl", '{"words": "a"}\n', "a.jsonl, line 1: has no text; expected one of reference"),
        ("a.jsonl", '{"text": "\\ud800"}\n', "a.jsonl, line 1: has half a character"),
        ("a.jsonl", '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}", "a.jsonl, line 1: JSON nested too deep"),
        ("a.txt", '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}", "a.txt, line 1: JSON nested too deep"),
        ("a.jsonl", '{"text": 3}\n', "text is 3, expected a text"),
        ("a.jsonl", '{"text": "a", "audio": "a.wav", "offset": "x"}\n', 'offset is "x", expected seconds'),
        ("a.nlp", "word|speaker\na|1\n", "a.nlp, line 1: not the header of an .nlp file: no column"),
        ("a.nlp", "", "a.nlp: the file is empty; a header"),
        ("a.nlp", "token|tags\na|[0:YEAR]\n", "a.nlp, line 2: tags: '.0:YEAR.'; a list such as"),
        ("a.stm", "c1 A spk 0.0 1.0 good\n", "a.stm: .stm is not read; write a line `text .id.` for each segment"),
        ("a.csv", "audio,text\na.wav,good\n", "a.csv: .csv is not read; import it"),
        ("a.txt.gz", b"\x1f\x8b", "a.txt.gz: .gz is not read; unpack it"),
        ("a.nlp", "token|speaker\na|1|2\n", "a.nlp, line 2: 3 cells, the header has 2"),
        ("a.parquet", "no table", "not a Parquet file"),
        ("a.txt", b"u1 caf\xe9\n", "a.txt, line 1: not UTF-8"),
        ("a.nlp", b"token|case\r\nok|LC\r\ncaf\xe9|LC\r\n", "a.nlp, line 3: not UTF-8"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(SpeechmillError, match=message.replace("(", r"\(").replace("[1]", "")):
        read(tmp_path / name, content)


@pytest.mark.parametrize("broken", ["[]", '{"0": {}}', '{"0": {"candidates": 3}}', '{"0": {"candidates": [{}]}}',
                                    '{"0": {"candidates": [{"verbalization": "a b"}]}}'])  # fmt: skip
def test_broken_candidates(tmp_path: Path, broken: str) -> None:
    (tmp_path / "x.norm.json").write_text(broken)
    with pytest.raises(SpeechmillError, match=r"x\.norm\.json"):
        read_candidates(tmp_path / "x.norm.json")


def test_parquet_without_text(tmp_path: Path) -> None:
    pl.DataFrame({"id": ["u1"]}).write_parquet(tmp_path / "m.parquet")
    with pytest.raises(SpeechmillError, match="no column 'text'"):
        parse(open_source(tmp_path / "m.parquet"), hypothesis=False)


def test_nlp_is_read_as_the_importers_read_it(tmp_path: Path) -> None:
    text = "\n token | tags \n2020|[\"0:YEAR\", '1:RANGE']\n"
    assert read(tmp_path / "a.nlp", text).items[0].pieces == (Alternatives(("2020",), "YEAR"),)
    assert read(tmp_path / "a.txt", text).items[0].pieces == (Alternatives(("2020",), "YEAR"),)


def test_an_empty_nlp_is_an_empty_hypothesis(tmp_path: Path) -> None:
    for content in ("", "\n\r\n"):
        assert texts(read(tmp_path / "a.nlp", content, hypothesis=True)) == {"a": ""}


def test_tags_of_other_formats_stay() -> None:
    item = as_tokens(plain_item("a", '[Noise] so, (um) <laugh> "[no" [two words]'))
    assert item.pieces == ("[noise] so um <laugh> no two words",)
