"""How a written sentence is read aloud: for each written token its readings, the likeliest first.

    $3.5 billion  three point five | billion dollars     the unit is said after the last token of the figure
    $1.27         one dollar twenty seven cents, one twenty seven, ...
    12.5%         twelve point five percent, twelve and a half percent
    2023          twenty twenty three, two thousand twenty three, ...
    Q3            q three, third quarter, the third quarter
    CEO           c e o, ceo                             letters, and as a word
    Dr.           doctor, drive
    [laughter]    nothing, laughter                      brackets are mostly not said; round ones mostly are
    --            nothing, uh, um

A token that cannot be said in English letters (another script) has no reading but nothing, and is `unreadable`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, product

from speechmill.align.numbers import Reading, cardinal, decimal, digits, ordinal, price, unique, whole

MAX_READINGS = 8
"""Of a token: beyond the eighth, readings are so rare that their chance matches cost more than they give."""

_NOTHING: Reading = ()
_SCALES = {"thousand", "million", "billion", "trillion"}
_SUFFIXES = {"k": "thousand", "m": "million", "mm": "million", "b": "billion", "bn": "billion", "t": "trillion"}
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
}
_SYMBOLS: dict[str, list[Reading]] = {
    "&": [("and",)], "+": [("plus",), ("and",)], "@": [("at",)], "=": [("equals",)], "%": [("percent",)],
    "#": [("number",)], "*": [_NOTHING, ("star",)], "/": [_NOTHING, ("slash",), ("or",)], "$": [("dollars",)],
}  # fmt: skip
_ABBREVIATIONS: dict[str, list[Reading]] = {
    name: [tuple(reading.split()) for reading in readings.split("|")]
    for name, readings in {
        "mr.": "mister", "mr": "mister", "mrs.": "missus", "mrs": "missus", "ms.": "miz|miss", "ms": "miz|miss",
        "dr.": "doctor|drive", "dr": "doctor|drive", "prof.": "professor", "st.": "saint|street", "jr.": "junior",
        "sr.": "senior", "inc.": "incorporated|inc", "inc": "incorporated|inc", "corp.": "corporation|corp",
        "ltd.": "limited", "ltd": "limited", "co.": "company|co", "llc": "l l c", "vs.": "versus", "vs": "versus",
        "etc.": "et cetera", "etc": "et cetera", "e.g.": "for example|e g", "i.e.": "that is|i e",
        "approx.": "approximately", "no.": "number|no", "jan.": "january", "feb.": "february", "mar.": "march",
        "apr.": "april", "aug.": "august", "sept.": "september", "sep.": "september", "oct.": "october",
        "nov.": "november", "dec.": "december", "gen.": "general", "gov.": "governor", "sen.": "senator",
        "capt.": "captain", "col.": "colonel", "lt.": "lieutenant", "rev.": "reverend", "hon.": "honorable",
        "ave.": "avenue", "dept.": "department", "est.": "estimated", "a.m.": "a m", "p.m.": "p m", "am": "am|a m",
        "pm": "p m", "bps": "basis points|b p s", "bp": "basis points|b p", "kg": "kilograms", "km": "kilometers",
        "lbs": "pounds", "mm": "million|millimeters|m m", "mw": "megawatts|m w", "gw": "gigawatts|g w",
        "ok": "okay|o k", "o.k.": "okay|o k", "yoy": "year over year|y o y", "y/y": "year over year",
        "q/q": "quarter over quarter", "capex": "cap ex", "opex": "op ex", "ebitda": "ebitda|e b i t d a",
        "w/": "with", "w/o": "without", "r&d": "r and d", "s&p": "s and p", "m&a": "m and a", "p&l": "p and l",
        "sg&a": "s g and a", "q&a": "q and a", "uh-huh": "uh huh", "gonna": "gonna|going to",
        "wanna": "wanna|want to",
    }.items()
}  # fmt: skip
_ORDER = ("first", "second", "third", "fourth")
_PUNCTUATION = '.,?!;:"“”„«»…‹›'
_OPEN, _CLOSE = "([{", ")]}"
_UNSAID = ("[", "{")
_FILLER = re.compile(r"^[-–—.…_*]+$")
_FIGURE = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
_MONEY = re.compile(
    rf"^(?P<sign>[-+−]?)(?:us|u\.s\.|c|ca|a|au|hk|nz|s|r)?(?P<unit>[$€£¥₹])(?P<figure>{_FIGURE})-?(?P<scale>[a-z]*)$"
)
_PERCENT = re.compile(rf"^(?P<sign>[-+−]?)(?P<figure>{_FIGURE})%$")
_NUMBER = re.compile(rf"^(?P<sign>[-+−]?)(?P<figure>{_FIGURE})$")
_ORDINAL = re.compile(r"^(\d{1,4})(?:st|nd|rd|th)$")
_PLURAL_YEAR = re.compile(r"^['’]?((?:1[1-9]|20)?\d0)['’]?s$")
_QUARTER = re.compile(r"^(?:([qh])([1-4])|([1-4])([qh]))['’]?(\d{2,4})?$")
_FISCAL = re.compile(r"^(fy|cy)['’]?(\d{2,4})$")
_TIME = re.compile(r"^(\d{1,2}):(\d\d)$")
_RANGE = re.compile(rf"^([$€£]?)({_FIGURE})[-–—]([$€£]?)({_FIGURE})(%?)$")
_FRACTION = re.compile(r"^(\d{1,2})/(\d{1,3})$")
_INITIALS = re.compile(r"^(?:[a-z]\.)+[a-z]?$")
# Letters that Unicode does not take apart into one of English and a mark.
_LATIN = str.maketrans({
    "ß": "ss", "æ": "ae", "Æ": "Ae", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "Oe", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D",
    "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i",
})  # fmt: skip
_PART = re.compile(rf"{_FIGURE}|'?[a-z][a-z']*|[&+@=%#/$]")


@dataclass(frozen=True)
class Token:
    """One written token with its readings (lower-case words), the likeliest first; `()` where it may not be said."""

    written: str
    readings: tuple[Reading, ...]
    unreadable: bool = False


def read_aloud(text: str) -> list[Token]:
    """Split a written text at blanks and give the readings of each token."""
    parts = text.replace("’", "'").replace("‘", "'").split()
    tokens: list[Token] = []
    for place, (part, written, bracket) in enumerate(zip(parts, text.split(), brackets(parts), strict=True)):
        core = _strip(part)
        before = _strip(parts[place - 1]) if place else ""
        following = _strip(parts[place + 1]) if place + 1 < len(parts) and part[-1] not in ".,;:?!" else ""
        readings = _readings(core, *(part if _matters(part) else "" for part in (before, following)))
        unreadable = not readings
        if is_unsaid(bracket):
            readings = [_NOTHING, *readings]
        elif bracket:
            readings = [*readings, _NOTHING]
        tokens.append(Token(written, tuple(unique(readings)[:MAX_READINGS]) or (_NOTHING,), unreadable))
    return tokens


def brackets(parts: Sequence[str]) -> list[str]:
    """For each token the bracket that it is in, one that is mostly not said before a round one; "" in none."""
    found = []
    depth = ""  # the bracket that is open
    for part in parts:
        inside = depth
        for mark in part:
            if mark in _OPEN:
                depth = mark
                inside = inside if inside in _UNSAID else mark
        if any(mark in _CLOSE for mark in part):
            depth = ""
        found.append(inside)
    return found


def is_unsaid(bracket: str) -> bool:
    """Whether what stands in such a bracket ("[laughter]") is mostly not said."""
    return bracket in _UNSAID


def _matters(part: str) -> bool:
    """Whether a neighbour decides how a token is read: money before a scale, a scale after money."""
    return part[-1:].isdigit() or part.lower() in _SCALES


def first_reading(tokens: list[Token]) -> list[str]:
    """The words of the likeliest reading."""
    return [word for token in tokens for word in token.readings[0]]


@lru_cache(1 << 16)
def _strip(part: str) -> str:
    """Lower case without brackets, quotes and closing punctuation; a point that belongs to an abbreviation stays."""
    plain = "".join(mark for mark in part if mark not in _OPEN + _CLOSE).strip('"“”„«»‹›').rstrip(",;:?!")
    bare = plain.rstrip('."”')
    lower = plain.lower()
    if lower in _ABBREVIATIONS or _INITIALS.match(lower):
        return plain
    return (bare or plain).strip('"“”').strip(",;:?!") if not _FILLER.match(plain) else plain


@lru_cache(1 << 16)  # most of a transcript is the same few thousand words
def _readings(core: str, before: str, following: str) -> list[Reading]:
    """Every reading of a token's core; empty where it has letters of no English word."""
    lower = core.lower()
    if not core or _FILLER.match(core) or all(not mark.isalnum() and mark not in _SYMBOLS for mark in core):
        return [_NOTHING, ("uh",), ("um",)] if core and _FILLER.match(core) and core != "." else [_NOTHING]
    if lower in _SYMBOLS:
        return list(_SYMBOLS[lower])
    if lower in _SCALES and (unit := _unit(before)):
        return [(lower, unit), (lower,)]
    for rule in (_figure, _period, _clock):
        if found := rule(lower, following.lower()):
            return found
    if lower in _ABBREVIATIONS:
        return [*_ABBREVIATIONS[lower], *([tuple(lower)] if core.isupper() and lower.isalpha() else [])]
    if _INITIALS.match(lower):
        letters = tuple(lower.replace(".", ""))
        return [letters, ("".join(letters),)] if len(letters) > 1 else [letters]
    return _word(core)


def _unit(money: str) -> str:
    """What an amount, or a range of them, is counted in; empty where it is none."""
    if match := _MONEY.match(money.lower()):
        return _CURRENCIES[match["unit"]][1]
    match = _RANGE.match(money.lower())
    return _CURRENCIES[match[1] or match[3]][1] if match and (match[1] or match[3]) else ""


def _figure(lower: str, following: str) -> list[Reading]:
    """Money, percentages, numbers, ordinals, ranges, fractions."""
    if match := _MONEY.match(lower):
        figure, names = match["figure"], _CURRENCIES[match["unit"]]
        scale = _SUFFIXES.get(match["scale"], match["scale"])
        if scale in _SCALES:
            return _signed(match["sign"], [(*said, scale, names[1]) for said in decimal(figure)])
        if scale:
            return []
        return _signed(match["sign"], decimal(figure) if following in _SCALES else price(figure, *names))
    if match := _PERCENT.match(lower):
        return _signed(match["sign"], [(*said, "percent") for said in decimal(match["figure"])])
    if match := _NUMBER.match(lower):
        return _signed(match["sign"], decimal(match["figure"]))
    if match := _ORDINAL.match(lower):
        return ordinal(int(match[1]))
    if match := _RANGE.match(lower):
        money = match[1] or match[3] if following not in _SCALES else ""
        start, last = decimal(match[2])[:2], decimal(match[4])
        if money:
            prices = [price(match[number], *_CURRENCIES[money]) for number in (2, 4)]
            # One oh five to one ten; one dollar five cents to one dollar ten cents; five to ten dollars.
            start = [prices[0][0], prices[0][2]] if "." in match[2] and len(prices[0]) > 2 else [start[0], prices[0][0]]
            last = [prices[1][0], prices[1][2]] if "." in match[4] and len(prices[1]) > 2 else prices[1]
        percent = ("percent",) if match[5] else ()
        links: list[Reading] = [("to",), ("through",), ()]
        return [
            (*first, *link, *end, *percent)
            for link, first, end in product(links, start, last[:2])
        ]  # fmt: skip
    if match := _FRACTION.match(lower):
        return _fraction(int(match[1]), int(match[2]))
    return []


def _fraction(over: int, under: int) -> list[Reading]:
    plain = [(*cardinal(over), *link, *cardinal(under)) for link in (("over",), ("slash",), ("of",), ())]
    if under == 2:
        return [("one", "half"), ("a", "half"), ("half",), *plain] if over == 1 else plain
    if under < 2:
        return plain
    (*first, last), *_ = ordinal(under)
    names = [(*cardinal(over), *first, last if over == 1 else f"{last}s")]
    if under == 4:
        names.append((*cardinal(over), "quarter" if over == 1 else "quarters"))
    return [*names, *plain]


def _signed(sign: str, readings: list[Reading]) -> list[Reading]:
    if sign in ("-", "−"):
        return [
            *(("minus", *said) for said in readings[:3]),
            *(("negative", *said) for said in readings[:2]),
            *readings,
        ]
    if sign == "+":
        return [*(("plus", *said) for said in readings[:3]), *readings]
    return readings


def _period(lower: str, _: str) -> list[Reading]:
    """Quarters, halves, fiscal years, decades."""
    if match := _QUARTER.match(lower):
        kind, number = (match[1], match[2]) if match[1] else (match[4], match[3])
        name = "quarter" if kind == "q" else "half"
        ends = _short_year(match[5]) if match[5] else [_NOTHING]
        first = [(kind, *digits(number)), (_ORDER[int(number) - 1], name), ("the", _ORDER[int(number) - 1], name)]
        if match[3]:
            first.insert(1, (*digits(number), kind))
        return [(*start, *end) for start, end in product(first, ends[:2])]
    if match := _FISCAL.match(lower):
        kind = "fiscal" if match[1] == "fy" else "calendar"
        starts: list[Reading] = [(kind, "year"), (kind,), tuple(match[1])]
        return [(*start, *end) for start, end in product(starts, _short_year(match[2])[:2])]
    if match := _PLURAL_YEAR.match(lower):
        return [(*said[:-1], f"{said[-1][:-1]}ies" if said[-1].endswith("y") else f"{said[-1]}s")
                for said in whole(match[1])[:3]]  # fmt: skip
    return []


def _short_year(figures: str) -> list[Reading]:
    if len(figures) == 2:
        rest = int(figures)
        short: Reading = (*(("oh",) if rest < 10 else ()), *cardinal(rest))
        return [short, ("twenty", *short), *whole(f"20{figures}")]
    return whole(figures)


def _clock(lower: str, _: str) -> list[Reading]:
    match = _TIME.match(lower)
    if not match:
        return []
    hour, minute = cardinal(int(match[1])), int(match[2])
    if not minute:
        return [hour, (*hour, "o'clock"), (*hour, "hundred")]
    return [(*hour, *(("oh",) if minute < 10 else ()), *cardinal(minute))]


@lru_cache(1 << 16)
def _word(core: str) -> list[Reading]:
    """A word, a compound, letters, or letters and figures mixed (5G, A320, 10x, www.name.com)."""
    plain = "".join(mark for mark in unicodedata.normalize("NFKD", core) if not unicodedata.combining(mark))
    plain = plain.translate(_LATIN)
    if any(mark.isalpha() and not mark.isascii() for mark in plain):
        return []
    chunks = [chunk for chunk in re.split(r"[-–—/_]|(?<!\d)\.|\.(?!\d)", plain) if chunk.strip("'")]
    if re.search(r"[a-zA-Z]{2}\.[a-zA-Z]{2}", plain):  # an address: the points are said
        chunks = [part for chunk in plain.split(".") for part in (chunk, "dot")][:-1]
    options = [_chunk(chunk) for chunk in chunks]
    joined = [tuple(word for part in parts for word in part) for parts in islice(product(*options), MAX_READINGS)]
    if "-" in plain and plain.replace("-", "").isalpha():
        joined.append((plain.replace("-", "").lower(),))
    return joined or [_NOTHING]


def _chunk(chunk: str) -> list[Reading]:
    lower = chunk.lower()
    bare = lower.strip("'")
    if re.fullmatch(r"[a-z']+", lower):
        if chunk.isupper() and 1 < len(bare) <= 5:
            spelled = tuple(bare.replace("'", ""))
            return [(bare,), spelled] if "'" in bare else [spelled, (bare,)]
        if re.fullmatch(r"[A-Z]{2,5}'?s", chunk):
            letters = tuple(lower.rstrip("s").rstrip("'"))
            return [(*letters[:-1], f"{letters[-1]}'s"), (lower,)]
        return [(lower if re.search(r"s'$|^'(?:em|til|cause|tis|twas)", lower) else bare,)]
    parts = _PART.findall(lower)
    options: list[list[Reading]] = []
    for place, part in enumerate(parts):
        if part[0].isdigit() or part[0] == ".":
            options.append(decimal(part)[:3])
        elif part in _SYMBOLS:
            options.append(_SYMBOLS[part])
        elif place and part in _SUFFIXES and parts[place - 1][-1].isdigit():
            options.append([(_SUFFIXES[part],), tuple(part)])
        elif place and part == "x" and parts[place - 1][-1].isdigit():
            options.append([("x",), ("times",)])
        elif part in _ABBREVIATIONS:
            options.append(_ABBREVIATIONS[part])
        else:
            options.append([tuple(part), (part,)] if len(part) <= 3 else [(part,)])
    return [tuple(word for part in said for word in part) for said in islice(product(*options), MAX_READINGS)]
