"""How a written sentence is read aloud: every written form has one spoken form.

$3.5 billion -> three point five | billion dollars      the unit is said after the last token of the figure
$1.27        -> one dollar twenty seven cents
12.5%        -> twelve point five percent
1,200        -> one thousand two hundred
2023         -> twenty twenty three                      four digits without a comma are a year
Q3           -> Q three
"""

# ruff: noqa: SIM905  (words are read best as a line of words)

from __future__ import annotations

import re
from dataclasses import dataclass

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_LETTERS = {
    "CEO": ("C", "E", "O"),
    "CFO": ("C", "F", "O"),
    "EBITDA": ("ee", "bit", "dah"),
}
_TOKEN = re.compile(r"^(?P<core>.*?)(?P<mark>[.,?!;:]*)$")


@dataclass(frozen=True)
class Token:
    """One written token, the words said for it, and the punctuation behind it (for the melody)."""

    written: str
    spoken: tuple[str, ...]
    mark: str


def number_words(value: int) -> list[str]:
    """1234 -> one thousand two hundred thirty four (0 <= value < 10^12)."""
    if value < 20:
        return [_UNITS[value]]
    if value < 100:
        return [_TENS[value // 10], *(number_words(value % 10) if value % 10 else [])]
    for scale, name in _SCALES:
        if value >= scale:
            rest = value % scale
            return [*number_words(value // scale), name, *(number_words(rest) if rest else [])]
    raise AssertionError(value)


def year_words(year: int) -> list[str]:
    """2023 -> twenty twenty three, 2005 -> two thousand five, 1905 -> nineteen oh five."""
    if year % 1000 < 10:
        return number_words(year)
    rest = year % 100
    if rest == 0:
        return [*number_words(year // 100), "hundred"]
    return [*number_words(year // 100), *(["oh"] if rest < 10 else []), *number_words(rest)]


def decimal_words(figure: str) -> list[str]:
    """'12.25' -> twelve point two five; '1,200' -> one thousand two hundred."""
    whole, _, fraction = figure.replace(",", "").partition(".")
    words = number_words(int(whole))
    return [*words, "point", *(_UNITS[int(digit)] for digit in fraction)] if fraction else words


def price_words(figure: str) -> list[str]:
    """'1.27' -> one dollar twenty seven cents; '0.85' -> eighty five cents; '40' -> forty dollars."""
    whole, _, fraction = figure.replace(",", "").partition(".")
    if fraction and len(fraction) != 2:
        return [*decimal_words(figure), "dollars"]
    dollars, cents = int(whole), int(fraction or 0)
    words = [*number_words(dollars), "dollar" if dollars == 1 else "dollars"] if dollars or not cents else []
    return words + ([*number_words(cents), "cent" if cents == 1 else "cents"] if cents else [])


def read_sentence(text: str) -> list[Token]:
    """Split a written sentence at blanks and say how each token is spoken."""
    parts = [match.group("core", "mark") for part in text.split() if (match := _TOKEN.match(part))]
    tokens: list[Token] = []
    for place, (core, mark) in enumerate(parts):
        following = parts[place + 1][0] if place + 1 < len(parts) and not mark else ""
        before = parts[place - 1][0] if place else ""
        tokens.append(Token(core + mark, tuple(_read(core, before, following)), mark))
    return tokens


def _read(core: str, before: str, following: str) -> list[str]:
    scaled = ("million", "billion")
    if core in scaled and before.startswith("$"):
        return [core, "dollars"]
    if core.startswith("$"):
        return decimal_words(core[1:]) if following in scaled else price_words(core[1:])
    if core.endswith("%"):
        return [*decimal_words(core[:-1]), "percent"]
    if re.fullmatch(r"Q[1-4]", core):
        return ["Q", _UNITS[int(core[1])]]
    if re.fullmatch(r"(19|20)\d\d", core):
        return year_words(int(core))
    if core[:1].isdigit():
        return decimal_words(core)
    if core in _LETTERS:
        return list(_LETTERS[core])
    return core.replace("-", " ").split()
