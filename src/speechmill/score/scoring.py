"""Score a recognizer's output: two files or folders -> a `Scoring`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from speechmill.errors import SpeechmillError
from speechmill.progress import Progress
from speechmill.score.comparing import Comparing
from speechmill.score.formats.nlp import RULE
from speechmill.score.formats.reading import NLP
from speechmill.score.groupfile import GroupFile, read_groups
from speechmill.score.normalize import normalization
from speechmill.score.pairs import Pairing, some
from speechmill.score.result import Scoring, UtteranceScore
from speechmill.score.summary import BLOCKS, UTTERANCE

DEFAULT = "thesis"


def score(
    reference: Path,
    hypothesis: Path,
    *,
    alternatives: Path | None = None,
    normalize: str | None = None,
    groups: Path | None = None,
    by: Sequence[str] = (),
    block: str | None = None,
    reference_format: str | None = None,
    hypothesis_format: str | None = None,
) -> Scoring:
    """Score the hypotheses of a file or folder against the references of another.

    Args:
        alternatives: a folder of Rev's `NAME.norm.json`, or one such file.
        normalize: a normalisation (`score.normalize`); None takes the thesis's, where all references are Rev's `.nlp`
            none but the format's own.
        groups: a table with a column of ids and those of `by`; None takes `by` from the references themselves.
        by: columns to make groups by.
        block: a column whose values intervals are blocked by; it is kept beside those of `by`.
        reference_format, hypothesis_format: overrule what is guessed.

    Raises:
        SpeechmillError: a file cannot be read, a reference has no hypothesis, a column is nowhere.
    """
    columns = tuple(dict.fromkeys([*by, *([block] if block and block != UTTERANCE else [])]))
    pairing = Pairing(reference, hypothesis, alternatives, columns, reference_format, hypothesis_format)
    if groups is not None and not groups.is_file():  # told before the scoring, not behind it
        raise SpeechmillError(f"{groups}: no such file of groups.")
    if groups is not None and not columns:
        there = ", ".join(read_groups(groups, ()).columns)
        raise SpeechmillError(f"--groups {groups}: give --by COLUMN, too; {groups.name} has {there}.")
    chosen = normalization(normalize) if normalize is not None else None
    items: list[UtteranceScore] = []
    with Progress("score", None, "recordings and utterances") as progress:
        pairs = list(pairing.pairs())  # all are read first: the default rests on the formats of all references
        if not any(one.written.strip() for one, _ in pairs):
            raise SpeechmillError(f"{reference}: has no words; the text of what was said was expected.")
        comparing = Comparing(chosen or normalization("none" if set(pairing.formats[0]) == {NLP} else DEFAULT))
        for one, other in pairs:
            items.append(comparing.compare(one, other))
            progress.advance()
    names = {name for item in items for name in (item.id, item.recording)}
    items, notes = _grouped(items, read_groups(groups, names) if groups else None, columns)
    if comparing.as_a_whole:
        notes.append(
            f"Normalised as a whole, which gives other words than piece by piece; alternatives and entities are left "
            f"out: {some(comparing.as_a_whole)}."
        )
    left, right = pairing.formats
    return Scoring(
        str(reference), str(hypothesis), _description(comparing, pairing), tuple(items), tuple(by),
        tuple(pairing.without_reference), (*pairing.notes, *notes, *_odd(items)),
        (" and ".join(sorted(left)), " and ".join(sorted(right))),
    )  # fmt: skip


def _description(comparing: Comparing, pairing: Pairing) -> str:
    parts = [comparing.normalization.description]
    if any(NLP in formats for formats in pairing.formats):
        parts.append(f".nlp: {RULE}")
    if comparing.alternatives:
        parts.append("the reference's words or any of its alternatives")
    return f"{comparing.normalization.name} ({'; '.join(parts)})"


def _grouped(
    items: Sequence[UtteranceScore], table: GroupFile | None, columns: Sequence[str]
) -> tuple[list[UtteranceScore], list[str]]:
    """Give each item the attributes that are asked for and those that errors hang together by; tell what has none.

    Raises:
        SpeechmillError: a column is neither in the table nor in a reference.
    """
    own = [{**item.attributes, "recording": item.recording} for item in items]
    rows = table.attributes(((item.id, item.recording) for item in items), columns) if table else [{} for _ in items]
    known = [{**mine, **row} for mine, row in zip(own, rows, strict=True)]
    notes: list[str] = []
    for column in columns:
        without = [item.id for item, attributes in zip(items, known, strict=True) if column not in attributes]
        if not table and column != "recording" and 0 < len(without) < len(items):
            notes.append(f"Without {column}, in no group of it: {some(without)}.")
        if known and len(without) == len(items):
            there = sorted({name for attributes in known for name in attributes})
            raise SpeechmillError(
                f"{column!r}: neither the references nor --groups have a value of it; there is {', '.join(there)}."
            )
    kept = (*columns, *BLOCKS)
    done = [
        replace(item, attributes={name: attributes[name] for name in kept if name in attributes})
        for item, attributes in zip(items, known, strict=True)
    ]
    without = [item.id for item, row in zip(items, rows, strict=True) if table and not row]
    notes += [f"{table.path}: nothing of {some(without)}; in no group."] if table and without else []
    return done, notes


def _odd(items: Sequence[UtteranceScore]) -> list[str]:
    notes = []
    empty = [item.id for item in items if not item.rates.word.words]
    if empty:
        notes.append(f"Without words in the reference, so without a rate: {some(empty)}; their insertions count.")
    gone = sorted({item.sound.path for item in items if item.sound} - {""})
    gone = [path for path in gone if not Path(path).exists()]
    if gone:
        notes.append(f"Audio that is not there (scores do not need it): {some(gone)}.")
    return notes
