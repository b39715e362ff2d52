"""Alignments in which like stands beside like: of words as written, and of any alignment that is to be read.

`speechmill.score.align` chooses among the alignments with the fewest errors by a rule of order alone. To say what kind
an error is, or what was taken for what, the pairs must make sense: where `rose Sales` was heard as `sales`, it is
`rose` that was left out. So each run of errors between two words that are right is aligned again: with as many
substitutions, deletions and insertions as before, for the least unlikeness of the words that are exchanged (the edit
distance of their letters over the longer one's length, without case and punctuation, in fifteenths), the later pairs
first.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from speechmill.score.align import Edit, Operation, align

_CELLS = 400_000_000
"""Runs with a larger table (20,000 by 20,000 words, all wrong) keep the pairs of `align`; it holds two bits a cell."""

_ERROR = 1 << 24  # one error outweighs the unlikeness of all pairs of a run
_NEVER = 4 * _ERROR  # equal words that no alignment with the fewest errors pairs as right
_UNLIKE = 15  # of two words without a common letter


def align_written(reference: str, hypothesis: str) -> list[Edit]:
    """Align the words of two texts as written, as WER-P counts them, like beside like."""
    return like_beside_like(align(reference.split(), hypothesis.split()))


def like_beside_like(edits: Iterable[Edit]) -> list[Edit]:
    """Return an alignment of the same words with the same counts, in whose runs of errors like stands beside like."""
    found: list[Edit] = []
    for wrong, run in groupby(edits, key=lambda edit: edit.op != "="):
        steps = list(run)
        found += _realigned(steps) if wrong and len(steps) > 1 else steps
    return found


def runs(edits: Sequence[Edit]) -> Iterator[tuple[int, int]]:
    """Yield the places, first and behind last, of each run of errors in an alignment."""
    start: int | None = None
    for place, edit in enumerate(edits):
        if edit.op != "=":
            start = place if start is None else start
        elif start is not None:
            yield start, place
            start = None
    if start is not None:
        yield start, len(edits)


@lru_cache(maxsize=1 << 16)
def bare(word: str) -> str:
    """A word without its punctuation (Unicode's P categories); its case is kept."""
    composed = unicodedata.normalize("NFC", word)
    if composed.isalnum():
        return composed
    return "".join(character for character in composed if not unicodedata.category(character).startswith("P"))


@lru_cache(maxsize=1 << 16)
def folded(word: str) -> str:
    """A word without its case."""
    return unicodedata.normalize("NFC", word).casefold()


def _realigned(steps: list[Edit]) -> list[Edit]:
    """A run of errors anew. Its counts follow from its length, so there is a choice only where they are mixed."""
    left = [edit.reference for edit in steps if edit.reference is not None]
    right = [edit.hypothesis for edit in steps if edit.hypothesis is not None]
    exchanged = len(left) + len(right) - len(steps)
    if not exchanged or exchanged == len(steps) or len(left) * len(right) > _CELLS:
        return steps
    one, other = iter(left), iter(right)
    return [
        Edit(op, None if op == "I" else next(one), None if op == "D" else next(other))
        for op in _operations(left, right)
    ]


def _costs(left: Sequence[str], right: Sequence[str]) -> Iterator[NDArray[np.int64]]:
    """Yield for each left word what it costs to put each right word in its place."""
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    rows, columns = list(dict.fromkeys(left)), list(dict.fromkeys(right))
    plain = [[folded(bare(word)) for word in words] for words in (rows, columns)]
    unlike = cdist(*plain, scorer=Levenshtein.normalized_distance, dtype=np.float32)
    table = (_ERROR + np.rint(unlike * _UNLIKE)).astype(np.int64)
    places = {word: place for place, word in enumerate(columns)}
    for place, word in enumerate(rows):
        if word in places:
            table[place, places[word]] = _NEVER
    order = np.array([places[word] for word in right])
    by_word = dict(zip(rows, table, strict=True))
    return (by_word[word][order] for word in left)


def _operations(left: Sequence[str], right: Sequence[str]) -> list[Operation]:
    """Operations in reading order.

    A row of the table of costs at a time. What comes from the left costs the same everywhere, so the minimum over all
    that can be reached from the left is a running minimum.
    """
    width = len(right)
    slope = np.arange(width + 1, dtype=np.int64) * _ERROR
    above = slope
    # Bits of the table: whether a cell can be entered by a substitution, or by a deletion.
    substituted, deleted = [], []
    for row, costs in enumerate(_costs(left, right), 1):
        diagonal = above[:-1] + costs
        down = above + _ERROR
        best = down.copy()
        np.minimum(best[1:], diagonal, out=best[1:])
        here = np.minimum.accumulate(best - slope) + slope
        here[0] = row * _ERROR
        substituted.append(np.packbits(here[1:] == diagonal))
        deleted.append(np.packbits(here == down))
        above = here
    backwards: list[Operation] = []
    row, column = len(left), width
    while row or column:
        if row and column and _bit(substituted[row - 1], column - 1):
            op: Operation = "S"
        elif row and _bit(deleted[row - 1], column):
            op = "D"
        else:
            op = "I"
        backwards.append(op)
        row -= op != "I"
        column -= op != "D"
    return backwards[::-1]


def _bit(packed: NDArray[np.uint8], place: int) -> int:
    return int(packed[place >> 3]) >> (7 - (place & 7)) & 1
