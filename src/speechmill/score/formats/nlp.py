"""Rev's `.nlp` (`speechmill.nlp`) as it is scored.

By the format's rule (that of Rev's fstalign), what is compared are the tokens in lower case, without the punctuation
column; as written are the tokens in their case with their punctuation. Neighbouring rows with the same tag are one
entity; of several tags of a row, the first counts. `norm.json` has candidates for tags: how an entity may have been
said, or that it was not said at all.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from speechmill.artefact import read_json
from speechmill.errors import SpeechmillError
from speechmill.nlp import parse_nlp
from speechmill.score.formats.item import Alternatives, Item, Piece, Transcript

RULE = "tokens in lower case, punctuation column ignored"
"""In the words that go into every output that rests on it."""

_OUTER = re.compile(r"^[\"“”„«»¿¡(\[{]+|[\"“”„«»)\]},.;:!?…]+$")
_TAG = re.compile(r"\[\w+\]")
_INITIALS = re.compile(r"(?:[^\W\d_]\.){2,}")  # `u.s.` is a token with its last point
_MARK = re.compile(r"[-–—]+")

Candidates = Mapping[str, tuple[str, ...]]
"""A tag's number -> what may have been said for it."""


def parse_transcript(
    lines: Sequence[str], path: Path, candidates: Candidates | None = None, hypothesis: bool = False
) -> Transcript:
    """Return the file as one item, whose id is the file's name; a `hypothesis` may be an empty file.

    Args:
        candidates: of a reference. None (and a tag without candidates) leaves the words as written.
    """
    if hypothesis and not any(line.strip() for line in lines):
        return Transcript((Item(path.stem, "", ()),))
    read = parse_nlp(lines, path, words_only=True)
    tokens = read.tokens
    pieces: list[Piece] = []
    for tag, run in itertools.groupby(tokens, key=lambda token: token.tags[0] if token.tags else None):
        text = " ".join(token.token.lower() for token in run)
        if tag is None:
            pieces.append(text)
        else:
            said = candidates.get(tag.number, ()) if candidates else ()
            pieces.append(Alternatives((text, *said), tag.name))
    written = " ".join(token.written for token in tokens)
    return Transcript((Item(path.stem, written, tuple(pieces)),), _told(path, read.without_token))


def _told(path: Path, lines: Sequence[int]) -> tuple[str, ...]:
    return (f"{path}: {len(lines)} rows without a token are no words, the first in line {lines[0]}.",) if lines else ()


def read_candidates(path: Path) -> tuple[Candidates, tuple[str, ...]]:
    """Return the candidates of a `norm.json` in lower case, in the file's order, and what was odd about it."""
    record = read_json(path)
    if not isinstance(record, dict):
        raise SpeechmillError(f"{path}: expected an object of tags, e.g. {{'0': {{'candidates': [...]}}}}.")
    found: dict[str, tuple[str, ...]] = {}
    empty = 0
    for tag, entry in record.items():
        try:
            said = tuple(_said(candidate["verbalization"]) for candidate in entry["candidates"] or ())
        except (KeyError, TypeError) as error:
            raise SpeechmillError(
                f"{path}, tag {tag}: expected candidates, each with a verbalization (a list of words)."
            ) from error
        empty += not said
        found[tag] = tuple(dict.fromkeys(said))
    return found, (f"{path}: {empty} tags have no candidates; their words as written stand.",) if empty else ()


def as_tokens(item: Item) -> Item:
    """Return a hypothesis of another format as this one would have it: what is compared in lower case, punctuation
    around words and dashes by themselves dropped; tags (`<noise>`, `[noise]`), hyphens, apostrophes, `$`, `%` stay."""
    pieces = tuple(_tokens(piece) if isinstance(piece, str) else piece for piece in item.pieces)
    return replace(item, pieces=pieces)


def _tokens(text: str) -> str:
    words = (
        word if _INITIALS.fullmatch(word) or _TAG.fullmatch(word) else _OUTER.sub("", word)
        for word in text.lower().split()
    )
    return " ".join(word for word in words if word and not _MARK.fullmatch(word))


def _said(words: object) -> str:
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TypeError
    return " ".join(words).lower()
