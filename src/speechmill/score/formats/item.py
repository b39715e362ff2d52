"""What every format is read into: items with a text as written and the pieces of text that are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from speechmill.score.result import Sound


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Texts for one place of a reference, the first as written; `label` is the class of the entity, if it is one."""

    ways: tuple[str, ...]
    label: str = ""


Piece = str | Alternatives


@dataclass(frozen=True, slots=True)
class Item:
    """An utterance, or a whole recording.

    `written` is compared by WER-P, `pieces` after normalisation by WER: the same text, but where the format drops case
    or punctuation, or a reference has alternatives.
    """

    id: str
    written: str
    pieces: tuple[Piece, ...]
    recording: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    sound: Sound | None = None


@dataclass(frozen=True, slots=True)
class Transcript:
    """A file that was read; `notes` tell what was odd about it."""

    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()


def plain_item(identifier: str, text: str) -> Item:
    return Item(identifier, text, (text,))
