"""How figures are said in English: words for whole numbers, years, decimals, ordinals and prices, with alternatives.

Each function returns readings, the likeliest first; a reading is a tuple of lower-case words.
"""

# ruff: noqa: SIM905  (words are read best as a line of words)

from __future__ import annotations

from collections.abc import Iterable

Reading = tuple[str, ...]

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
_LARGEST = 10**15  # beyond it, figures are said one by one


def unique(readings: Iterable[Reading]) -> list[Reading]:
    """The readings without repeats, in order."""
    return list(dict.fromkeys(readings))


def cardinal(value: int, also_and: bool = False) -> Reading:
    """1234 -> one thousand two hundred thirty four; with `also_and`, one thousand two hundred and thirty four."""
    if value < 20:
        return (_UNITS[value],)
    if value < 100:
        return (_TENS[value // 10], *(cardinal(value % 10) if value % 10 else ()))
    for scale, name in _SCALES:
        if value >= scale:
            rest = value % scale
            link = ("and",) if also_and and 0 < rest < 100 else ()
            return (*cardinal(value // scale, also_and), name, *link, *(cardinal(rest, also_and) if rest else ()))
    raise AssertionError(value)


def digits(figures: str) -> Reading:
    """'204' -> two zero four."""
    return tuple(_UNITS[int(figure)] for figure in figures)


def year(value: int) -> list[Reading]:
    """1905 -> nineteen oh five; 2023 -> twenty twenty three, two thousand twenty three; 1900 -> nineteen hundred."""
    century, rest = divmod(value, 100)
    if value % 1000 < 10:
        return unique([cardinal(value), cardinal(value, True), (*cardinal(century), "oh", *cardinal(rest))])
    if rest == 0:
        return [(*cardinal(century), "hundred"), cardinal(value)]
    pair = (*cardinal(century), *(("oh",) if rest < 10 else ()), *cardinal(rest))
    return unique([pair, cardinal(value), cardinal(value, True), (*cardinal(century), "hundred", *cardinal(rest))])


def whole(figures: str) -> list[Reading]:
    """'1,200' or '1200': as a number, as a year, in hundreds, in pairs, figure by figure."""
    plain = figures.replace(",", "")
    value = int(plain)
    if value >= _LARGEST or (plain[0] == "0" and len(plain) > 1):
        return [digits(plain), tuple("oh" if word == "zero" else word for word in digits(plain))]
    readings = [cardinal(value), cardinal(value, True)]
    if len(plain) == 4 and "," not in figures:
        if 1100 <= value < 2100:
            readings = [*year(value), *readings]
        if value % 100 == 0 and value % 1000:
            readings.append((*cardinal(value // 100), "hundred"))
        elif value % 1000:
            readings.append((*cardinal(value // 100), *(("oh",) if value % 100 < 10 else ()), *cardinal(value % 100)))
    if len(plain) == 3 and value % 100:
        last = value % 100
        readings.append((*cardinal(value // 100), *(("oh",) if last < 10 else ()), *cardinal(last)))
    if value in (100, 1000, 10**6, 10**9):
        readings.append(("a", *cardinal(value)[1:]))
    if len(plain) > 1 and "," not in figures:
        readings.append(digits(plain))
    return unique(readings)


def decimal(figures: str) -> list[Reading]:
    """'12.5' -> twelve point five, twelve and a half; '0.25' -> zero point two five, point two five."""
    before, _, after = figures.partition(".")
    if not after:
        return whole(before)
    said = digits(after)
    if not before.strip(","):
        return [("point", *said), ("zero", "point", *said)]
    value = int(before.replace(",", ""))
    readings = [(*reading, "point", *said) for reading in whole(before)[:2]]
    if len(after) == 2 and after[0] != "0":
        readings.append((*cardinal(value), "point", *cardinal(int(after))))
    if after == "5":
        readings.append((*cardinal(value), "and", "a", "half"))
    if value == 0:
        readings.append(("point", *said))
    return unique(readings)


def ordinal(value: int) -> list[Reading]:
    """22 -> twenty second."""
    readings = []
    for words in unique([cardinal(value), cardinal(value, True)]):
        *first, last = words
        end = _ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
        readings.append((*first, end))
    return readings


def price(figures: str, one: str, many: str, cent: str, cents: str) -> list[Reading]:
    """'1.27' of dollars -> one dollar twenty seven cents, one dollar and twenty seven cents, one twenty seven, ..."""
    before, _, after = figures.replace(",", "").partition(".")
    plain = [(*reading, many) for reading in decimal(figures)]
    if len(after) != 2:
        if not after and int(before or 0) == 1:
            return [("one", one), ("a", one), *plain]
        return unique([*plain, *decimal(figures)])
    units, parts = int(before or 0), int(after)
    unit = one if units == 1 else many
    said_parts = (*cardinal(parts), cent if parts == 1 else cents)
    if not parts:
        return unique([(*cardinal(units), unit), cardinal(units), *plain])
    if not units:
        return unique([said_parts, ("zero", many, *said_parts), *plain])
    short = (*cardinal(units), *(("oh",) if parts < 10 else ()), *cardinal(parts))
    return unique([
        (*cardinal(units), unit, *said_parts), (*cardinal(units), unit, "and", *said_parts), short,
        (*cardinal(units), unit, *cardinal(parts)), *plain,
    ])  # fmt: skip
