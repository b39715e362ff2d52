from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from speechmill.errors import SpeechmillError
from speechmill.nlp import Tag, is_header, read_nlp

DATA = Path(__file__).parents[2] / "shared" / "data"
HEADER = "token|speaker|ts|endTs|punctuation|prepunctuation|case|tags|wer_tags"


def write(path: Path, *rows: str, header: str = HEADER, end: str = "\n") -> Path:
    path.write_bytes(end.join([header, *rows, ""]).encode())
    return path


def test_every_column_is_found_by_name(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.nlp",
        "[]|Good|0|2.82|||UC|2.99",
        "['1:YEAR', '2:RANGE']|2021||3|,|(|N/A|",
        header="tags|token|speaker|ts|punctuation|prepunctuation|case|endTs",
    )
    good, year = read_nlp(path).tokens
    assert (good.line, good.token, good.speaker, good.ts, good.end_ts, good.case) == (2, "Good", "0", 2.82, 2.99, "UC")
    assert (good.tags, good.wer_tags, good.ali_comment, good.written) == ((), (), "", "Good")
    assert year.tags == (Tag("1", "YEAR"), Tag("2", "RANGE"))
    assert (year.ts, year.end_ts, year.speaker, year.written) == (3.0, None, "", "(2021,")


def test_lists_of_numbers_and_comments(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nlp", "up|['4', '7']|sub(in)", "by||", header="token|wer_tags|ali_comment")
    up, by = read_nlp(path).tokens
    assert (up.wer_tags, up.ali_comment) == (("4", "7"), "sub(in)")
    assert (by.wer_tags, by.tags, by.ts) == ((), (), None)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
def test_line_ends(tmp_path: Path, end: str) -> None:
    path = write(tmp_path / "a.nlp", "a|0||||||[]|[]", "", "b|1|||.|||[]|[]", end=end)
    assert [(token.token, token.written) for token in read_nlp(path).tokens] == [("a", "a"), ("b", "b.")]


def test_mixed_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.nlp"
    path.write_bytes(b"\xef\xbb\xbf\r\ntoken|case\r\na|UC\nb|LC\rc|LC")
    assert [(token.line, token.token) for token in read_nlp(path).tokens] == [(3, "a"), (4, "b"), (5, "c")]


def test_a_header_alone_has_no_tokens(tmp_path: Path) -> None:
    assert read_nlp(write(tmp_path / "a.nlp")).tokens == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", r"empty"),
        ("word|speaker\na|0\n", r"line 1: .*no column 'token'"),
        ("token|case|case\na|0|0\n", r"line 1: .*twice"),
        ("token|case\na|UC\n|LC\n", r"line 3: the row has no token"),
        ("token|case\na\n", r"line 2: 1 cells, the header has 2"),
        ("token|case\n\na|b|UC\n", r"line 3: 3 cells, the header has 2"),
        ("token|ts\na|soon\n", r"line 2: ts: 'soon' is not a time"),
        ("token|endTs\na|nan\n", r"line 2: endTs: 'nan' is not a time"),
        ("token|tags\na|0:YEAR\n", r"line 2: tags: '0:YEAR'; a list such as"),
        ("token|wer_tags\na|['4' '5']\n", r"line 2: wer_tags: .*a list such as"),
    ],
)
def test_bad_input_names_file_and_line(tmp_path: Path, text: str, wrong: str) -> None:
    path = tmp_path / "a.nlp"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpeechmillError, match=wrong) as caught:
        read_nlp(path)
    assert str(path) in str(caught.value)


def test_missing_and_not_utf8(tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match="no such file"):
        read_nlp(tmp_path / "a.nlp")
    (tmp_path / "a.nlp").write_bytes(b"token|case\na\xe9|UC\n")
    with pytest.raises(SpeechmillError, match="line 2: not UTF-8"):
        read_nlp(tmp_path / "a.nlp")


@pytest.mark.parametrize(
    ("line", "is_one"),
    [("token|case", True), ("speaker | token", True), ("the token of the day", False), ("the day | token", False),
     ("token", False), ("", False)],
)  # fmt: skip
def test_guessing(line: str, is_one: bool) -> None:
    assert is_header(line) == is_one


def test_real_files_of_every_kind() -> None:
    if not DATA.is_dir():
        pytest.skip("../shared/data is not there")
    odd = read_nlp(DATA / "earnings22_import/force_aligned/4484563.aligned.nlp")  # LF, one column more, no times
    assert len(odd.tokens) == 13754
    assert "wer_tags" in odd.columns
    assert all(token.ts is None for token in odd.tokens)
    timed = read_nlp(DATA / "earnings22_import/force_aligned/4469528.aligned.nlp")  # CRLF
    assert sum(token.ts is not None for token in timed.tokens) == 3865
    assert timed.tokens[3].tags == (Tag("4", "CONTRACTION"),)
    reference = read_nlp(DATA / "earnings21_eval10/references/4320211.nlp")
    assert reference.tokens[1].wer_tags == ("4",)
    for path in DATA.glob("earnings21_eval10/outputs/*/4320211.nlp"):
        assert len(read_nlp(path).tokens) > 7000


def test_the_module_imports_nothing_heavy() -> None:
    code = "import sys, speechmill.nlp; print([m for m in ('torch', 'polars', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
