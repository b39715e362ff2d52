"""What a scoring gives: plain values that the reports (intervals, kinds of errors, tables, pages) are made of.

A `Scoring` holds one `UtteranceScore` for each item that was compared: an utterance, or a recording where the texts are
not divided. Everything else is computed from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from speechmill.score.align import Edit
from speechmill.score.counts import Counts
from speechmill.score.rates import Rates


@dataclass(frozen=True, slots=True)
class Entity:
    """A tagged span of a reference: `label` is its class (`YEAR`), `first` to `last` (exclusive) its part of the edits.

    Insertions between two words of the span are in it, those at its ends are not.
    """

    label: str
    first: int
    last: int
    counts: Counts


@dataclass(frozen=True, slots=True)
class Sound:
    """Where an item can be heard: an audio file, from `start` to `end` seconds (None: from its start, to its end)."""

    path: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, slots=True)
class UtteranceScore:
    """One item: its texts as written, its counts, and the alignment of its normalised words.

    `reference` and `hypothesis` are as written: with case and punctuation, of alternatives the first (the words that
    are in the transcript); split at white space they give the words of WER-P. `alignment` is of normalised words, with
    the alternatives that were taken; `rates.word` counts its edits.
    """

    id: str
    reference: str
    hypothesis: str
    rates: Rates
    alignment: tuple[Edit, ...]
    recording: str = ""
    """What it was cut from; an item that is a whole recording has its own id here."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Column of the manifest or of `--groups` -> value; a column without a value for this item is absent."""
    entities: tuple[Entity, ...] = ()
    sound: Sound | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the utterance's line of `<name>.utterances.jsonl`; `wer` is null where the reference has no words."""
        return {
            "id": self.id,
            "reference": self.reference,
            "hypothesis": self.hypothesis,
            "wer": self.rates.wer,
            "errors": self.rates.word.errors,
            "words": self.rates.word.words,
            "alignment": [list(edit) for edit in self.alignment],
        }


@dataclass(frozen=True, slots=True)
class Scoring:
    """A recognizer's output against its references."""

    reference: str
    """The path of the references, as it was given."""
    hypothesis: str
    normalization: str
    """What was done to the texts before WER and CER, in words."""
    items: tuple[UtteranceScore, ...]
    by: tuple[str, ...] = ()
    """The columns that groups were asked for."""
    without_reference: tuple[str, ...] = ()
    """Hypotheses that nothing was compared with."""
    notes: tuple[str, ...] = ()
    """What was odd about the input, a line each."""
    formats: tuple[str, str] = ("", "")
    """Those of the references and of the hypotheses."""

    @property
    def rates(self) -> Rates:
        return sum((item.rates for item in self.items), start=Rates())
