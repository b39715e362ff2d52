"""Rev's `.nlp`: a token a row, columns separated by pipes under a header, nothing quoted.

    token|speaker|ts|endTs|punctuation|case|tags
    quarter|0|||,|LC|[]
    2020|0||||CA|['0:YEAR']

By the format's rule (that of Rev's fstalign), what is compared are the tokens in lower case, without the punctuation
column; as written are the tokens in their case with their punctuation. Neighbouring rows with the same tag are one
entity. `norm.json` has candidates for tags: how an entity may have been said, or that it was not said at all.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from speechmill.artefact import read_json
from speechmill.errors import SpeechmillError
from speechmill.score.formats.item import Alternatives, Item, Piece, Transcript

HEADER = "token|"
RULE = "tokens in lower case, punctuation column ignored"
"""In the words that go into every output that rests on it."""

_TAG = re.compile(r"'([^':]+)(?::([^']*))?'")

_OUTER = re.compile(r"^[\"“”„«»¿¡(\[{]+|[\"“”„«»)\]},.;:!?…]+$")
_INITIALS = re.compile(r"(?:[^\W\d_]\.){2,}")  # `u.s.` is a token with its last point
_MARK = re.compile(r"[-–—]+")

Candidates = Mapping[str, tuple[str, ...]]
"""A tag's number -> what may have been said for it."""


def parse_nlp(lines: Sequence[str], path: Path, candidates: Candidates | None = None) -> Transcript:
    """Return the file as one item, whose id is the file's name.

    Args:
        candidates: of a reference. None (and a tag without candidates) leaves the words as written.
    """
    columns = lines[0].split("|") if lines else []
    if "token" not in columns:
        raise SpeechmillError(f"{path}, line 1: expected a header with the column token, e.g. token|speaker|ts|endTs.")
    rows = list(_rows(lines, columns, path))
    punctuation, before, tags = (_values(rows, columns, name) for name in ("punctuation", "prepunctuation", "tags"))
    tokens = _values(rows, columns, "token")
    written = (f"{head}{token}{tail}" for head, token, tail in zip(before, tokens, punctuation, strict=True))
    tagged = zip(map(str.lower, tokens), map(_tag, tags), strict=True)
    pieces: list[Piece] = []
    for tag, run in itertools.groupby(tagged, key=lambda pair: pair[1]):
        text = " ".join(token for token, _ in run)
        if tag is None:
            pieces.append(text)
        else:
            number, label = tag
            said = candidates.get(number, ()) if candidates else ()
            pieces.append(Alternatives((text, *said), label))
    return Transcript((Item(path.stem, " ".join(written), tuple(pieces)),))


def read_candidates(path: Path) -> tuple[Candidates, tuple[str, ...]]:
    """Return the candidates of a `norm.json` in lower case, in the file's order, and what was odd about it."""
    record = read_json(path)
    if not isinstance(record, dict):
        raise SpeechmillError(f"{path}: expected an object of tags, e.g. {{'0': {{'candidates': [...]}}}}.")
    found: dict[str, tuple[str, ...]] = {}
    empty = 0
    for tag, entry in record.items():
        try:
            said = tuple(_said(candidate["verbalization"]) for candidate in entry["candidates"])
        except (KeyError, TypeError) as error:
            raise SpeechmillError(
                f"{path}, tag {tag}: expected candidates, each with a verbalization (a list of words)."
            ) from error
        empty += not said
        found[tag] = tuple(dict.fromkeys(said))
    return found, (f"{path}: {empty} tags have no candidates; their words as written stand.",) if empty else ()


def as_tokens(item: Item) -> Item:
    """Return a hypothesis of another format as this one would have it: what is compared in lower case, punctuation
    around words and dashes by themselves dropped; brackets of tags, hyphens, apostrophes, `$` and `%` stay."""
    pieces = tuple(_tokens(piece) if isinstance(piece, str) else piece for piece in item.pieces)
    return replace(item, pieces=pieces)


def _tokens(text: str) -> str:
    words = (word if _INITIALS.fullmatch(word) else _OUTER.sub("", word) for word in text.lower().split())
    return " ".join(word for word in words if word and not _MARK.fullmatch(word))


def _said(words: object) -> str:
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TypeError
    return " ".join(words).lower()


def _rows(lines: Sequence[str], columns: Sequence[str], path: Path) -> list[list[str]]:
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        row = line.split("|")
        if len(row) != len(columns):
            raise SpeechmillError(
                f"{path}, line {number}: {len(row)} columns, the header has {len(columns)}; found {line[:60]!r}."
            )
        rows.append(row)
    return rows


def _values(rows: Sequence[Sequence[str]], columns: Sequence[str], name: str) -> list[str]:
    """A column; empty values where the file does not have it."""
    if name not in columns:
        return [""] * len(rows)
    place = columns.index(name)
    return [row[place] for row in rows]


def _tag(text: str) -> tuple[str, str] | None:
    """`['0:YEAR']` -> its number and class; of several, the first."""
    found = _TAG.search(text) if len(text) > 2 else None
    return (found[1], found[2] or "") if found else None
