"""What kind of errors: the errors of WER-P (text as written) divided into parts that sum to the whole.

Each error takes the first label that fits:

1. **filler**: the word left out, put in or exchanged is a filler (`uh`, `um`, `hmm`) on either side;
2. **number**: a figure (`$3.5`, `10%`, `2nd`) or a number word (`three`, `million`, `second`) on either side;
3. **casing only**: the two words differ in case (`Sales`, `sales`);
4. **punctuation only**: they differ in punctuation (`rose,` and `rose`), or the one word is nothing but punctuation;
5. **casing and punctuation**: they differ in both (`Rose.` and `rose`);
6. **word**: all else.

Labels 3 to 5 also hold for neighbouring errors whose texts are the same once put together: `long-term` for `long term`
is two errors of WER-P, a substitution and an insertion, and both are punctuation only, a hyphen being a break between
words. Which reference word stands beside which is said in `speechmill.score.written`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, get_args

from speechmill.score.align import Edit, tally
from speechmill.score.counts import Counts
from speechmill.score.written import align_written, bare, folded, runs

Kind = Literal["filler", "number", "casing only", "punctuation only", "casing and punctuation", "word"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_HESITATIONS = "ah ahem eh ehm em er erm err hm hmm hmmm huh mhm mm mmhm mmm oh ooh uh uhh uhhuh uhm uhuh um umm ummm"
FILLERS = frozenset(_HESITATIONS.split())
"""Without case and punctuation: `Uh-huh.` is one."""

_UNITS = "one two three four five six seven eight nine ten eleven twelve"
_TEENS = "thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fourty fifty sixty seventy eighty ninety"
_LARGE = "hundred thousand million billion trillion"
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth "
    "ninetieth hundredth thousandth"
)
_PLURALS = (
    "hundreds thousands millions billions trillions twenties thirties forties fifties sixties seventies eighties "
)
NUMBERS = frozenset(f"zero {_UNITS} {_TEENS} {_TENS} {_LARGE} {_ORDINALS} {_PLURALS} nineties".split())

_CURRENCY = frozenset("$€£¥₹%")
_BREAKS = re.compile(r"[-\u2010-\u2015\u2212/]+")
_LONGEST = 6  # errors in a row that are put together to find one text written in two ways


def kinds_of(edits: Sequence[Edit]) -> list[Kind | None]:
    """Return for each edit of an alignment of words as written its kind, None for a word that is right."""
    labels: list[Kind | None] = [None] * len(edits)
    for start, end in runs(edits):
        labels[start:end] = [_kind(edit) for edit in edits[start:end]]
        for place in range(start, end):
            if labels[place] == "word":
                _together(edits, labels, place, end)
    return labels


def count_kinds(edits: Sequence[Edit]) -> dict[Kind, Counts]:
    """Count the errors of an alignment of words as written, by kind; `words` is the same in each, that of the whole."""
    words = sum(edit.op != "I" for edit in edits)
    found: dict[Kind, list[Edit]] = {kind: [] for kind in KINDS}
    for edit, kind in zip(edits, kinds_of(edits), strict=True):
        if kind is not None:
            found[kind].append(edit)
    parts = {kind: tally(part) for kind, part in found.items()}
    return {kind: Counts(words, c.insertions, c.deletions, c.substitutions) for kind, c in parts.items()}


def kinds_of_texts(pairs: Iterable[tuple[str, str]]) -> dict[Kind, Counts]:
    """Count the errors of WER-P by kind, over (reference, hypothesis) as written."""
    parts = dict.fromkeys(KINDS, Counts())
    for reference, hypothesis in pairs:
        for kind, counts in count_kinds(align_written(reference, hypothesis)).items():
            parts[kind] += counts
    return parts


def as_dict(parts: Mapping[Kind, Counts]) -> dict[str, dict[str, Any]]:
    """Return what `scores.json` holds of the parts; the rates sum to `wer_p`."""
    return {
        kind: {
            "rate": counts.rate,
            "errors": counts.errors,
            "insertions": counts.insertions,
            "deletions": counts.deletions,
            "substitutions": counts.substitutions,
        }
        for kind, counts in parts.items()
    }


@lru_cache(maxsize=1 << 16)
def is_filler(word: str) -> bool:
    return folded(bare(word)) in FILLERS


@lru_cache(maxsize=1 << 16)
def is_number(word: str) -> bool:
    """Whether a word is a figure, a symbol that stands by one, or a number word (`twenty-five` is one)."""
    if any(character.isnumeric() for character in word) or not _CURRENCY.isdisjoint(word):
        return True
    parts = [bare(part) for part in _BREAKS.split(folded(word))]
    return all(part in NUMBERS for part in parts if part) and any(parts)


def _kind(edit: Edit) -> Kind:
    words = [word for word in (edit.reference, edit.hypothesis) if word is not None]
    if any(map(is_filler, words)):
        return "filler"
    if any(map(is_number, words)):
        return "number"
    return _difference(edit.reference or "", edit.hypothesis or "")


def _difference(one: str, other: str) -> Kind:
    if folded(one) == folded(other):
        return "casing only"
    if bare(one) == bare(other):
        return "punctuation only"
    return "casing and punctuation" if folded(bare(one)) == folded(bare(other)) else "word"


def _together(edits: Sequence[Edit], labels: list[Kind | None], place: int, end: int) -> None:
    """Relabel the shortest stretch of errors about `place` whose two texts are one, words joined by hyphens apart."""
    first = max(0, place - _LONGEST + 1)
    for size in range(2, _LONGEST + 1):
        for start in range(max(first, place - size + 1), min(place, end - size) + 1):
            stretch = edits[start : start + size]
            if any(edit.op == "=" for edit in stretch):
                continue
            one = _parted(edit.reference for edit in stretch)
            other = _parted(edit.hypothesis for edit in stretch)
            if not one or folded(" ".join(one)) != folded(" ".join(other)):
                continue
            kind: Kind = "punctuation only" if one == other else "casing and punctuation"
            for position in range(start, start + size):
                if labels[position] == "word":
                    labels[position] = kind
            return


def _parted(words: Iterable[str | None]) -> list[str]:
    """Words without punctuation, hyphens and slashes being breaks between them."""
    parts = (bare(part) for word in words if word for part in _BREAKS.split(word))
    return [part for part in parts if part]
