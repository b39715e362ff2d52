"""Plain text: an utterance a line, a recording a file, or `id text`.

    good morning and welcome            call-1_0001 good morning and welcome
    {thanks / thank you} operator       call-1_0002 {thanks / thank you} operator

Lines end with LF, CRLF or CR, also mixed in one file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from speechmill.artefact import read_text
from speechmill.errors import SpeechmillError
from speechmill.score.formats.item import Item, Transcript, plain_item

_END = re.compile(r"\r*\n|\r")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file without their ends; an end at the end of the file starts no further line."""
    lines = _END.split(read_text(path))
    if not lines[-1]:
        lines.pop()
    return lines


def utterances(lines: Sequence[str]) -> Transcript:
    """An utterance a line; its number, from 1, is its id."""
    return Transcript(tuple(plain_item(str(number), line.strip()) for number, line in enumerate(lines, start=1)))


def recording(lines: Sequence[str], name: str) -> Transcript:
    """One recording: all lines together."""
    return Transcript((plain_item(name, " ".join(" ".join(lines).split())),))


_NAMING = re.compile(r"[\d_-]")
_PLAIN = re.compile(r"0|[1-9][0-9]{0,3}")  # a number that may be a word of a text, and not 0001 or 1089134686


def utterances_by_id(lines: Sequence[str], path: Path) -> Transcript:
    """`id text` a line (Kaldi's `text`); an id alone is an empty text, blank lines are skipped."""
    items: list[Item] = []
    for line in lines:
        identifier, _, text = line.strip().replace("\t", " ").partition(" ")
        if identifier:
            items.append(plain_item(identifier, text.strip()))
    return Transcript(checked(items, path))


def checked(items: Sequence[Item], path: Path) -> tuple[Item, ...]:
    """Return the items; SpeechmillError where two share an id."""
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise SpeechmillError(f"{path}: the id {item.id!r} is there twice; each utterance needs an id of its own.")
        seen.add(item.id)
    return tuple(items)


def look_like_ids(lines: Sequence[str], name: str | None = None) -> bool:
    """Tell whether the first words of lines are ids: all different, and each with a figure, `_` or `-` in it.

    Short numbers before other numbers are words of a text.

    One line alone (`COVID-19 has`, `spk1_utt2 has`) must have two numbers joined by `_` or `-`, or a number and `_`. In
    a file of a folder, with its `name`, they must begin with it, or be three at least: a file there may be a recording.
    """
    first = [line.split(None, 1)[0] for line in lines if line.strip()]
    if len(set(first)) < len(first):
        return False
    if name is not None and first and all(word.startswith(name) and word != name for word in first):
        return True
    if len(first) == 1:
        return name is None and bool(re.search(r"\d.*[_-].*\d|\d.*_|_.*\d", first[0]))
    if all(len(line.split()) > 1 and _PLAIN.fullmatch(line.split()[0]) and _PLAIN.fullmatch(line.split()[1])
           for line in lines if line.strip()):  # fmt: skip
        return False  # figures are read out: the first of them is one more
    return (name is None or len(first) > 2) and all(_NAMING.search(word) for word in first)


def names_something(word: str) -> bool:
    """Tell whether a word by itself looks like an id, and not like a number that is read out."""
    return bool(_NAMING.search(word)) and not _PLAIN.fullmatch(word)
