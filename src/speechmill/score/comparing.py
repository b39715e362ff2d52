"""One reference against its hypothesis: words, choices, alignment, counts."""

from __future__ import annotations

from collections.abc import Iterable

from speechmill.score.align import Edit, align, tally
from speechmill.score.formats.item import Alternatives, Item, Piece
from speechmill.score.lattice import Choice, Span, Way, align_lattice
from speechmill.score.normalize import Normalization
from speechmill.score.rates import count_texts
from speechmill.score.result import Entity, UtteranceScore


class Comparing:
    """Compares items under one normalisation. What comes again (edits, ways to say something) is held once.

    `alternatives` tells whether one of the references had any; `as_a_whole` names those whose text was normalised as
    one, so that it is not known which words their tags are of.
    """

    def __init__(self, normalization: Normalization) -> None:
        self.normalization = normalization
        self.alternatives = False
        self.as_a_whole: list[str] = []
        self._edits: dict[Edit, Edit] = {}
        self._ways: dict[str, Way] = {}

    def compare(self, reference: Item, hypothesis: Item) -> UtteranceScore:
        """Score a hypothesis; of a reference with alternatives, by the path with the fewest errors."""
        heard = self.normalization.words(_text(hypothesis.pieces))
        edits, spans = self._aligned(reference, heard)
        path = [edit.reference for edit in edits if edit.reference is not None]
        return UtteranceScore(
            reference.id,
            reference.written,
            hypothesis.written,
            count_texts(edits, path, heard, reference.written, hypothesis.written),
            tuple(self._edits.setdefault(edit, edit) for edit in edits),
            recording=reference.recording or reference.id,
            attributes=reference.attributes,
            entities=tuple(
                Entity(span.choice.label, span.first, span.last, tally(edits[span.first : span.last]))
                for span in spans
                if span.choice.label
            ),
            sound=reference.sound,
        )

    def _aligned(self, reference: Item, heard: list[str]) -> tuple[list[Edit], list[Span]]:
        """Align piece by piece where there are alternatives; the text as written, normalised as the hypothesis is, as
        one, is a path too (Whisper's rule makes `$20` of `20 dollars` only where it sees both)."""
        whole = self.normalization.words(_text(reference.pieces))
        if all(isinstance(piece, str) for piece in reference.pieces):
            return align(whole, heard), []
        lattice = self._lattice(reference.pieces)
        if whole == [word for item in lattice for word in ((item,) if isinstance(item, str) else item.ways[0])]:
            return align_lattice(lattice, heard)
        edits = align(whole, heard)
        if any(isinstance(item, Choice) and len(item.ways) > 1 for item in lattice):
            found = align_lattice(lattice, heard)
            counts, other = tally(edits), tally(found[0])
            if (other.errors, -other.words) <= (counts.errors, -counts.words):
                return found
        self.as_a_whole.append(reference.id)
        return edits, []

    def _lattice(self, pieces: Iterable[Piece]) -> list[str | Choice]:
        found: list[str | Choice] = []
        for piece in pieces:
            if isinstance(piece, Alternatives):
                found.append(Choice(tuple(dict.fromkeys(map(self._way, piece.ways))), piece.label))
                self.alternatives |= len(piece.ways) > 1
            else:
                found += self.normalization.words(piece)
        return found

    def _way(self, text: str) -> Way:
        if text not in self._ways:
            self._ways[text] = tuple(self.normalization.words(text))
        return self._ways[text]


def _text(pieces: Iterable[Piece]) -> str:
    return " ".join(piece if isinstance(piece, str) else piece.ways[0] for piece in pieces)
