"""The aligned texts of a scored set as compact rows for its page: utterances, and passages of what is long.

A page shows forty rows at a time, so that 150,000 words stay quick. An item that was scored whole, an hour in one
piece, is cut into passages between words that are right: its rows can be sorted and filtered like utterances.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from speechmill.score.align import Edit
from speechmill.score.kinds import KINDS, kinds_of
from speechmill.score.result import UtteranceScore
from speechmill.score.written import align_written, like_beside_like

OPERATIONS = "SDI"
LONG = 120
"""Items with more steps of alignment than these are cut into passages."""
PASSAGE = 60
"""Steps after which a passage ends, at the next word that is right."""
_PATIENCE = 120  # more steps without a word that is right: cut anyway

Segment = str | list[Any]
"""Words that are right, or [kind * 3 + operation, reference, hypothesis]."""

VIEWS = ("words", "written")


def view_rows(items: Sequence[UtteranceScore], view: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a view: `words`, the alignment that WER counts, or `written`, that of WER-P.

    A row: `n` the item's place in `items`; `i` its name; `s` segments; `e` errors and `w` reference words; for a
    passage `f`, its part of the item from 0 to 1.
    """
    for place, item in enumerate(items):
        edits = _alignment(item, view)
        codes = _codes(edits)
        cuts = passages(edits)
        for number, (start, end) in enumerate(cuts, 1):
            row: dict[str, Any] = {"n": place, "i": item.id, **_segments(edits[start:end], codes[start:end])}
            if len(cuts) > 1:
                row["i"] = f"{item.id} · {number}"
                row["f"] = [round(start / len(edits), 5), round(end / len(edits), 5)]
            yield row


def _alignment(item: UtteranceScore, view: str) -> list[Edit]:
    return like_beside_like(item.alignment) if view == "words" else align_written(item.reference, item.hypothesis)


def passages(edits: Sequence[Edit]) -> list[tuple[int, int]]:
    """Return the places, first and behind last, of the passages of an alignment; one where it is short."""
    if len(edits) <= LONG:
        return [(0, len(edits))]
    cuts = [0]
    for place, edit in enumerate(edits):
        length = place - cuts[-1]
        if (length >= PASSAGE and edit.op == "=") or length >= _PATIENCE:
            cuts.append(place)
    if len(edits) - cuts[-1] < PASSAGE // 3 and len(cuts) > 1:
        cuts.pop()  # a few words at the end stay with those before
    return list(zip(cuts, [*cuts[1:], len(edits)], strict=True))


def _codes(edits: Sequence[Edit]) -> list[int | None]:
    return [
        None if kind is None else KINDS.index(kind) * 3 + OPERATIONS.index(edit.op)
        for edit, kind in zip(edits, kinds_of(edits), strict=True)
    ]


def _segments(edits: Sequence[Edit], codes: Sequence[int | None]) -> dict[str, Any]:
    segments: list[Segment] = []
    right: list[str] = []
    for edit, code in zip(edits, codes, strict=True):
        if code is None:
            right.append(edit.hypothesis or "")
            continue
        if right:
            segments.append(" ".join(right))
            right = []
        segments.append([code, edit.reference, edit.hypothesis])
    if right:
        segments.append(" ".join(right))
    return {
        "s": segments,
        "e": sum(code is not None for code in codes),
        "w": sum(edit.op != "I" for edit in edits),
    }
