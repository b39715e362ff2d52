"""The thesis's text normalisation, on which WER and CER are computed.

The rule is one line, "upper case, punctuation stripped"; a scorer needs it exact. In order:

1. Composed Unicode (NFC), upper case. Invisible characters (soft hyphen, zero-width space, word joiner, BOM) vanish.
2. Symbols and the punctuation that is *spoken* stay in their token: `$3.5`, `12.5%`, `S&P`, `#1`, `A@B`. Unicode files
   `% & # @` under punctuation, but to drop them would hide a word that was said or misheard.
3. A point stays as a decimal point (`3.5`, `$.25`). A run of points is a break between words; any other point vanishes,
   so that `U.S.` is `US` and `Inc.` is `INC`.
4. An apostrophe, straight or curly, stays between two letters or digits (`DON'T`), else it is a quotation mark.
5. A comma that groups thousands vanishes (`1,200` is `1200`).
6. All other punctuation becomes a space, hyphens, dashes, slashes and quotation marks included: `long-term` is two
   words.
7. White space is collapsed to single spaces.

Figures are not spelled out and spellings are not unified: that is another normalisation, and another name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import groupby

WILDCARD = "\u2605"
"""Stands in a training text, as a word of its own, for what is said there and is not known (`losses.ctc_loss`)."""
RULE = "upper case, punctuation stripped"
"""What `normalize` does, in words."""
THESIS = f"thesis ({RULE})"
"""The normalisation's name, as every output that rests on it says it."""

_SPOKEN = "%&#@"
_PLACED = ".,"  # kept or dropped by what stands beside them, further down
_APOSTROPHES = "'\u2018\u2019\u02bc\uff07"
_INVISIBLE = "\u00ad\u200b\u2060\ufeff"
_MINUS = "\u2212"  # a symbol to Unicode, a hyphen to whoever typed it


class _Table(dict[int, str]):
    """For `str.translate`: decides a character when it is first seen (a table of all Unicode costs 0.1 s at start)."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = replacement = _replacement(character)
        return replacement


def _replacement(character: str) -> str:
    if character in _APOSTROPHES:
        return "'"
    if character in _INVISIBLE:
        return ""
    if character in _SPOKEN or character in _PLACED:
        return character
    if character == _MINUS or unicodedata.category(character).startswith("P"):
        return " "
    return character


_TABLE = _Table()
_ELLIPSIS = re.compile(r"\.{2,}")
_FULL_STOP = re.compile(r"\.(?!\d)|(?<=[^\W\d])\.")  # not before a digit, or after a letter
_QUOTE = re.compile(r"(?<!\w)'|'(?!\w)")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def normalize(text: str) -> str:
    """Return `text` in upper case without punctuation, words separated by single spaces (rules: this module's head).

    Normalising twice gives what normalising once gives. Text of punctuation alone becomes the empty string.
    """
    return strip_punctuation(unicodedata.normalize("NFC", text).upper())


def strip_punctuation(text: str) -> str:
    """Return `text` by the same rules, but in its own case."""
    plain = unicodedata.normalize("NFC", text).translate(_TABLE)
    if "." in plain:
        plain = _FULL_STOP.sub("", _ELLIPSIS.sub(" ", plain))
    if "'" in plain:
        plain = _QUOTE.sub(" ", plain)
    if "," in plain:
        plain = _THOUSANDS.sub("", plain).replace(",", " ")
    return " ".join(plain.split())


def joined(words: Iterable[str]) -> str:
    """Words as a text, with one wildcard for each run of them."""
    return " ".join(word for head, run in groupby(words) for word in ([head] if head == WILDCARD else run))
