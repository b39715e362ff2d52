"""A recording's rows of a manifest as sentences: running text is cut at sentence ends."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from speechmill.align.base import Sentence
from speechmill.align.spoken import Token

_LONG = 60  # words: a row of more is running text
_MOST = 40  # words of a piece of running text that has no sentence ends
# A sentence end with the marks that close it, and the blanks after it.
_END = re.compile(r"(?<=[^\W_A-Z]|[%\"')\]”’])[.?!][\"')\]”’]*(\s+)(?=[\"'(\[“‘]?[A-ZÀ-Þ0-9$€£])")
_TITLES = {"mr.", "mrs.", "ms.", "dr.", "prof.", "st.", "sen.", "gov.", "gen.", "rep.", "vs."}  # a name follows


@dataclass(frozen=True)
class Line:
    """A sentence with the number of the row that it is from, and its number in that row (0 where it is the row)."""

    row: int
    part: int
    sentence: Sentence


def lines(
    texts: Sequence[str | None], speakers: Sequence[str | None], read: Callable[[str], list[Token]]
) -> list[Line]:
    """The sentences of a transcript in order, read by an aligner's `read`."""
    found: list[Line] = []
    for row, (text, speaker) in enumerate(zip(texts, speakers, strict=True)):
        parts = sentences_of(text or "")
        for part, words in enumerate(parts, 1 if len(parts) > 1 else 0):
            found.append(Line(row, part, Sentence(len(found), words, tuple(read(words)), speaker or "")))
    return found


def sentences_of(text: str) -> list[str]:
    """The text itself; running text (over 60 words) cut at its sentence ends, and those every 40 words at most."""
    if len(text.split()) <= _LONG:
        return [text.strip()]
    parts: list[str] = []
    for part in _at_ends(text):
        words = part.split()
        if len(words) <= _LONG:
            parts.append(" ".join(words))
        else:
            parts += [" ".join(words[place : place + _MOST]) for place in range(0, len(words), _MOST)]
    return [part for part in parts if part]


def _at_ends(text: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(text):
        last = text[start : end.start(1)].rsplit(maxsplit=1)[-1].lstrip("\"'([“‘").lower()
        if last not in _TITLES and not (len(last) == 2 and last[0].isalpha()):  # "p. 3"
            yield text[start : end.start(1)]
            start = end.end()
    yield text[start:]


def recordings(table: pl.DataFrame) -> list[pl.DataFrame]:
    """The rows of each recording, in the order of the manifest."""
    return table.partition_by("recording", maintain_order=True)
