"""Error rates of texts: WER and CER on normalised text, WER-P and CER-P on text as written.

Words are what white space separates. Characters are Unicode code points, the single space between two words counted as
one of them (a missed word border is an error), white space at the ends or in excess not. The normalisation of WER and
CER is `speechmill.text.normalize`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from speechmill.errors import SpeechmillError
from speechmill.score.align import Edit, align, distance, tally
from speechmill.score.counts import Counts, Total
from speechmill.text import normalize

__all__ = ["Counts", "Rates", "Total", "compare_texts", "score_pairs"]


@dataclass(frozen=True, slots=True)
class Rates:
    """The four counts of one utterance, or the sum over many.

    `word` and `char` are of the normalised text, `word_p` and `char_p` of the text as written; `score.kinds` says what
    kinds of errors those of `word_p` are.
    """

    utterances: int = 0
    word: Counts = field(default_factory=Counts)
    word_p: Total = field(default_factory=Total)
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
    words, heard = normalize(reference).split(), normalize(hypothesis).split()
    alignment = align(words, heard)
    return count_texts(alignment, words, heard, reference, hypothesis), alignment


def count_texts(
    alignment: Sequence[Edit], words: Iterable[str], heard: Iterable[str], reference: str, hypothesis: str
) -> Rates:
    """Count one utterance: `words` and `heard` are normalised and aligned, the texts are as written.

    Characters of a reference with alternatives are those of the words that the alignment took.
    """
    word = tally(alignment)
    written_reference, written_hypothesis = reference.split(), hypothesis.split()
    word_p = Total(len(written_reference), distance(written_reference, written_hypothesis))
    return Rates(
        utterances=1,
        word=word,
        word_p=word_p,
        char=_characters(words, heard, word.rate),
        char_p=_characters(written_reference, written_hypothesis, word_p.rate),
        wrong=int(word.errors > 0),
    )


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


def _characters(reference: Iterable[str], hypothesis: Iterable[str], word_rate: float | None) -> Total:
    """Count characters; half of those in the words that are wrong are a fair guess of how many are wrong."""
    one, other = " ".join(reference), " ".join(hypothesis)
    likely = None if word_rate is None or word_rate > 0.6 else int(0.6 * word_rate * len(one)) + 64
    return Total(len(one), distance(one, other, likely))
