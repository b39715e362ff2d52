"""Alternatives in the text of a reference: `{a / b}`; `@`, or nothing, for what may be left out: `{uh / @}`."""

from __future__ import annotations

import re
from dataclasses import replace

from speechmill.score.formats.item import Alternatives, Item, Piece

_BRACES = re.compile(r"\{([^{}]*/[^{}]*)\}")
_ODD = re.compile(r"\{[^{}]*(?:\0|/[^{}]*(?:\{|$))")  # \0: alternatives that were read
_SPACED = re.compile(r"(?:^|(?<=\s))/(?=\s|$)")
_NOTHING = "@"
_TOLD = 40  # characters of what is odd


def with_alternatives(item: Item) -> Item:
    """Return a reference with its braces read; braces without a slash are text as any other.

    As written is the first alternative of each.
    """
    pieces: list[Piece] = []
    for piece in item.pieces:
        if isinstance(piece, str) and "{" in piece:
            pieces += _split(piece)
        else:
            pieces.append(piece)
    if not any(isinstance(piece, Alternatives) for piece in pieces):
        return item
    written = " ".join(piece if isinstance(piece, str) else piece.ways[0] for piece in pieces)
    return replace(item, written=" ".join(written.split()), pieces=tuple(pieces))


def odd_braces(item: Item) -> str:
    """Return the first alternatives of a reference that are not closed, or have others within; they are text."""
    for piece in item.pieces:
        if isinstance(piece, str) and "{" in piece:
            rest = _BRACES.sub(lambda read: "\0" * len(read[0]), piece)
            if odd := _ODD.search(rest):
                return piece[odd.start() :][:_TOLD]
    return ""


def _split(text: str) -> list[Piece]:
    found: list[Piece] = []
    for place, part in enumerate(_BRACES.split(text)):
        if place % 2:
            ways = _SPACED.split(part) if _SPACED.search(part) else part.split("/")
            found.append(Alternatives(tuple(_way(way) for way in ways)))
        elif part.strip():
            found.append(part)
    return found


def _way(text: str) -> str:
    words = " ".join(text.split())
    return "" if words == _NOTHING else words
