"""Error rates of texts: WER and CER on normalised text, WER-P and CER-P on text as written.

Words are what white space separates. Characters are Unicode code points, the single space between two words counted as
one of them (a missed word border is an error), white space at the ends or in excess not. The normalisation of WER and
CER is `speechmill.text.normalize`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from speechmill.errors import SpeechmillError
from speechmill.score.align import Edit, align, count_errors, distance, tally
from speechmill.score.counts import Counts, Total
from speechmill.text import normalize

__all__ = ["Counts", "Rates", "Total", "compare_texts", "score_pairs"]


@dataclass(frozen=True, slots=True)
class Rates:
    """The four counts of one utterance, or the sum over many.

    `word` and `char` are of the normalised text, `word_p` and `char_p` of the text as written.
    """

    utterances: int = 0
    word: Counts = field(default_factory=Counts)
    word_p: Counts = field(default_factory=Counts)
    char: Total = field(default_factory=Total)
    char_p: Total = field(default_factory=Total)
    wrong: int = 0
    """Utterances with at least one error in their normalised words."""

    @property
    def wer(self) -> float | None:
        """Word error rate as a fraction, on normalised text; None without reference words."""
        return self.word.rate

    @property
    def wer_p(self) -> float | None:
        """Word error rate as a fraction, on the text as written; None without reference words."""
        return self.word_p.rate

    @property
    def cer(self) -> float | None:
        """Character error rate as a fraction, on normalised text; None without reference characters."""
        return self.char.rate

    @property
    def cer_p(self) -> float | None:
        """Character error rate as a fraction, on the text as written; None without reference characters."""
        return self.char_p.rate

    @property
    def ser(self) -> float | None:
        """Sentence error rate as a fraction: the share of utterances with an error; None without utterances."""
        return self.wrong / self.utterances if self.utterances else None

    def __add__(self, other: Rates) -> Rates:
        return Rates(
            self.utterances + other.utterances,
            self.word + other.word,
            self.word_p + other.word_p,
            self.char + other.char,
            self.char_p + other.char_p,
            self.wrong + other.wrong,
        )

    def as_dict(self) -> dict[str, float | int | None]:
        """Return what `scores.json` holds: rates as fractions (None where undefined), counts of normalised words."""
        return {
            "wer": self.wer,
            "wer_p": self.wer_p,
            "cer": self.cer,
            "cer_p": self.cer_p,
            "ser": self.ser,
            "utterances": self.utterances,
            "words": self.word.words,
            "errors": self.word.errors,
            "insertions": self.word.insertions,
            "deletions": self.word.deletions,
            "substitutions": self.word.substitutions,
        }


def compare_texts(reference: str, hypothesis: str) -> tuple[Rates, list[Edit]]:
    """Score one utterance; return its counts and the alignment of its normalised words."""
    plain_reference, plain_hypothesis = normalize(reference), normalize(hypothesis)
    written_reference, written_hypothesis = reference.split(), hypothesis.split()
    alignment = align(plain_reference.split(), plain_hypothesis.split())
    word = tally(alignment)
    rates = Rates(
        utterances=1,
        word=word,
        word_p=count_errors(written_reference, written_hypothesis),
        char=_characters(plain_reference, plain_hypothesis),
        char_p=_characters(" ".join(written_reference), " ".join(written_hypothesis)),
        wrong=int(word.errors > 0),
    )
    return rates, alignment


def score_pairs(references: Sequence[str], hypotheses: Sequence[str]) -> Rates:
    """Score texts against their references, the same position being the same utterance, and add up.

    Raises:
        SpeechmillError: there are not as many hypotheses as references.
    """
    if len(references) != len(hypotheses):
        raise SpeechmillError(
            f"scoring: {len(references)} references against {len(hypotheses)} hypotheses; "
            "give one hypothesis (an empty text where nothing was recognised) for each reference"
        )
    pairs: Iterable[tuple[str, str]] = zip(references, hypotheses, strict=True)
    return sum((compare_texts(*pair)[0] for pair in pairs), start=Rates())


def _characters(reference: str, hypothesis: str) -> Total:
    return Total(len(reference), distance(reference, hypothesis))
