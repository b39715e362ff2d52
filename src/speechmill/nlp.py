"""Rev's `.nlp`: one token a line, pipe-separated, no quoting. The importers and the scorer both read it from here.

    token|speaker|ts|endTs|punctuation|prepunctuation|case|tags|wer_tags
    Good|0|2.8200|2.9900|||UC|[]|[]
    morning|0|2.9900|3.3400|.||LC|[]|[]
    2021|0|||,||N/A|['1:YEAR']|['1', '7']

Columns are found by the names in the header, in any order; only `token` must be there. Lines end with LF, CRLF or CR,
even mixed in one file. Force-aligned references (`.aligned.nlp`) spell tagged tokens out, one row a spoken word, and
add `ali_comment` (`del`: the aligner did not find the word; `sub(x)`: it heard x). Imports no torch, polars or numpy.

Format: https://github.com/revdotcom/fstalign, https://github.com/revdotcom/speech-datasets (earnings21, earnings22).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from speechmill.artefact import read_text
from speechmill.errors import SpeechmillError

_LINE_END = re.compile(r"\r*\n|\r")
_LIST = re.compile(r"\[\s*(?:'[^']*'|\"[^\"]*\")?(?:\s*,\s*(?:'[^']*'|\"[^\"]*\"))*\s*\]")
_ITEM = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_EMPTY = ("", "[]")
_TIMES = ("ts", "endTs", "wer_tags")
_KNOWN = ("token", "speaker", "ts", "endTs", "punctuation", "prepunctuation", "case", "tags", "wer_tags", "ali_comment")


class Tag(NamedTuple):
    """`'1:YEAR'`: neighbouring tokens with the same tag are one entity."""

    number: str  # of the candidates in `norm.json`
    name: str  # YEAR, CONTRACTION, ...; "" where the file gives the number alone


class NlpToken(NamedTuple):
    """One row. What the file has no column for is "", () or None, like an empty cell."""

    line: int  # in the file, 1 is the header
    token: str  # without its punctuation
    speaker: str
    ts: float | None  # seconds
    end_ts: float | None  # seconds; the column endTs
    punctuation: str  # that follows the token; Google and Microsoft put "%" here
    prepunctuation: str  # that precedes it
    case: str  # UC (first letter upper), LC (lower), CA (all capitals), MC (mixed), N/A; "" in some outputs
    tags: tuple[Tag, ...]
    wer_tags: tuple[str, ...]
    ali_comment: str

    @property
    def written(self) -> str:
        """The token with its punctuation, as a reader of the transcript sees it."""
        return f"{self.prepunctuation}{self.token}{self.punctuation}"


@dataclass(frozen=True)
class Nlp:
    """A file: the names in its header, and its rows in their order."""

    path: Path
    columns: tuple[str, ...]
    tokens: list[NlpToken]
    without_token: tuple[int, ...] = ()  # lines that were passed over, where only words were asked for


def read_nlp(path: Path) -> Nlp:
    """Read an `.nlp` file; blank lines are passed over, a file with a header alone has no tokens.

    Raises SpeechmillError, with file and line, where the file is missing, not UTF-8 or empty, has no column `token` or
    one column twice, or a row has another number of cells than the header, no token, or a time or tag that cannot be
    read.
    """
    return parse_nlp(_LINE_END.split(read_text(path)), path)


def parse_nlp(lines: Sequence[str], path: Path, words_only: bool = False) -> Nlp:
    """As `read_nlp`, of the lines of the file.

    Args:
        words_only: times and `wer_tags` are not looked at, and rows without a token are passed over and told.
    """
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise SpeechmillError(
            f"{path}: the file is empty; a header token|speaker|ts|... was expected, with nothing below "
            "where nothing is said."
        )
    columns = _names(lines[first])
    if "token" not in columns or len(set(columns)) < len(columns):
        what = "no column 'token'" if "token" not in columns else "a column name occurs twice"
        raise SpeechmillError(f"{path}, line {first + 1}: not the header of an .nlp file: {what} ({lines[first]!r}).")
    # A column that is not there is read from an empty cell put after the last one.
    ignored = _TIMES if words_only else ()
    places = [columns.index(name) if name in columns and name not in ignored else len(columns) for name in _KNOWN]
    tokens = [
        _token(path, number, line, len(columns), places)
        for number, line in enumerate(lines[first + 1 :], first + 2)
        if line and not line.isspace()
    ]
    empty = [row for row in tokens if not row.token]
    if empty and not words_only:
        raise SpeechmillError(
            f"{path}, line {empty[0].line}: the row has no token ({lines[empty[0].line - 1][:80]!r})."
        )
    return Nlp(path, columns, [row for row in tokens if row.token], tuple(row.line for row in empty))


def is_header(line: str) -> bool:
    """Whether a line is the header of an `.nlp` file: for guessing a format."""
    names = _names(line)
    return len(names) > 1 and "token" in names and not any(" " in name for name in names)


def _names(header: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in header.split("|"))


def _token(path: Path, number: int, line: str, width: int, places: Sequence[int]) -> NlpToken:
    cells = line.split("|")
    if len(cells) != width:
        raise SpeechmillError(
            f"{path}, line {number}: {len(cells)} cells, the header has {width}; .nlp knows no quoting, so that a row "
            f"cannot hold a | of its own ({line[:80]!r})."
        )
    cells.append("")
    token, speaker, ts, end_ts, after, before, case, tags, wer_tags, comment = [
        cells[place].strip() for place in places
    ]
    return NlpToken(
        number,
        token,
        speaker,
        _seconds(path, number, "ts", ts) if ts else None,
        _seconds(path, number, "endTs", end_ts) if end_ts else None,
        after,
        before,
        case,
        tuple(_tag(item) for item in _items(path, number, "tags", tags)) if tags not in _EMPTY else (),
        tuple(_items(path, number, "wer_tags", wer_tags)) if wer_tags not in _EMPTY else (),
        comment,
    )


def _seconds(path: Path, number: int, column: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SpeechmillError(f"{path}, line {number}: {column}: {cell!r} is not a time in seconds.")
    return value


def _items(path: Path, number: int, column: str, cell: str) -> list[str]:
    """ "['4', '7']" -> ["4", "7"]"""
    if not _LIST.fullmatch(cell):
        raise SpeechmillError(f"{path}, line {number}: {column}: {cell!r}; a list such as ['0:YEAR'] was expected.")
    return [single or double for single, double in _ITEM.findall(cell)]


def _tag(item: str) -> Tag:
    number, _, name = item.partition(":")
    return Tag(number.strip(), name.strip())
