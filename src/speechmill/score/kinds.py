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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, chain
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
        if end - start > 1:
            _together(edits[start:end], labels, start)
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


def _together(run: Sequence[Edit], labels: list[Kind | None], first: int) -> None:
    """Relabel the words of a run of errors that lie in a stretch whose two texts are one, hyphens being breaks.

    `first` is the place of the run in `labels`. The shortest stretch about a word counts, of those the earliest.
    """
    left = [_parted(edit.reference) for edit in run]
    right = [_parted(edit.hypothesis) for edit in run]
    # Letters of one side less those of the other, up to each place: they differ where the texts of a stretch do.
    balance = [0, *accumulate(_letters(one) - _letters(other) for one, other in zip(left, right, strict=True))]
    for place in range(len(run)):
        if labels[first + place] != "word":
            continue
        for start, end in _stretches(place, len(run)):
            if balance[start] != balance[end]:
                continue
            one, other = (list(chain.from_iterable(side[start:end])) for side in (left, right))
            if one and [part.casefold() for part in one] == [part.casefold() for part in other]:
                kind: Kind = "punctuation only" if one == other else "casing and punctuation"
                for position in range(first + start, first + end):
                    labels[position] = kind if labels[position] == "word" else labels[position]
                break


def _stretches(place: int, length: int) -> Iterator[tuple[int, int]]:
    """Yield the stretches of a run that hold `place`, shortest first."""
    for size in range(2, min(_LONGEST, length) + 1):
        for start in range(max(0, place - size + 1), min(place, length - size) + 1):
            yield start, start + size


@lru_cache(maxsize=1 << 16)
def _parted(word: str | None) -> tuple[str, ...]:
    """The parts of a word without punctuation, hyphens and slashes being breaks between them."""
    return tuple(part for piece in _BREAKS.split(word or "") if (part := bare(piece)))


def _letters(parts: Iterable[str]) -> int:
    return sum(len(part.casefold()) for part in parts)
