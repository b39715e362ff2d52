"""A trigram language model made from one transcript, as an ARPA file: it makes the likely what was written.

Every word may follow every other, so that a transcript which does not say what was said does not force its words on the
sound: `BACK_OFF` of the probability is kept for that at each step. The rest goes to what follows in the transcript. All
readings of a token are in it, each with the words around.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from speechmill.align.base import Sentence

BACK_OFF = 0.2
# The commonest words of English, which are in any talk.
_COMMON = """
    the be to of and a in that have i it for not on with he as you do at this but his by from they we say her she or an
    will my one all would there their what so up out if about who get which go me when make can like time no just him
    know take people into year your good some could them see other than then now look only come its over think also
    back after use two how our work first well way even new want because any these give day most us is was are had were
    been has more very did said much where through should each many before must long here world still own between life
    being under never last might another while great old against went came again part made such those upon too three
    four five right however public small place same since really around without again course house during state
    always something little number system every put found left end government second company market high million
    night power water thing young head far point both few side told business percent help yet better enough away
    """
_ENOUGH = 200  # different words of a transcript that are alternatives enough to one another
_START, _END = "<s>", "</s>"
_RARE = 0.3  # count of an n-gram of a token's second and later readings


class Counts:
    """Counts of one, two and three words in a row; alternatives count less than the likeliest reading."""

    def __init__(self) -> None:
        self.ones: dict[str, float] = defaultdict(float)
        self.twos: dict[tuple[str, str], float] = defaultdict(float)
        self.threes: dict[tuple[str, str, str], float] = defaultdict(float)

    def add(self, words: Sequence[str], weight: float = 1.0) -> None:
        """Count a run of words."""
        for place, word in enumerate(words):
            self.ones[word] += weight
            if place:
                self.twos[words[place - 1], word] += weight
            if place > 1:
                self.threes[words[place - 2], words[place - 1], word] += weight


def count(sentences: Sequence[Sentence], weight: float = 1.0) -> Counts:
    """Count the transcript as one stream, and each other reading with two words before and after it."""
    stream: list[str] = []
    others: list[tuple[int, int, tuple[str, ...]]] = []
    for sentence in sentences:
        for token in sentence.tokens:
            first, *rest = token.readings
            others += [(len(stream), len(stream) + len(first), reading) for reading in rest]
            stream += first
    counts = Counts()
    counts.add(stream, weight)
    for start, end, reading in others:
        counts.add([*stream[max(0, start - 2) : start], *reading, *stream[end : end + 2]], _RARE * weight)
    return counts


def with_others(counts: Counts) -> Counts:
    """The counts of a short transcript with words that it does not have, as likely as all of its own together.

    A decoder hears what it knows: of four sentences that were never said it finds some in any speech, where there is
    nothing else that it could hear.
    """
    if len(counts.ones) >= _ENOUGH:
        return counts
    others = [word for word in dict.fromkeys(_COMMON.split()) if word not in counts.ones]
    total = sum(counts.ones.values())
    for word in others:
        counts.ones[word] = total / len(others)
    return counts


def likelier(counts: Counts, sentences: Sequence[Sentence], share: float) -> Counts:
    """The counts of a transcript with some of its sentences as likely as `share` of all."""
    inner = count(sentences)
    total, part = sum(counts.ones.values()), max(sum(inner.ones.values()), 1.0)
    weight = share / (1 - share) * total / part
    mixed = count(sentences, weight)
    for name in ("ones", "twos", "threes"):
        for gram, number in getattr(counts, name).items():
            getattr(mixed, name)[gram] += number
    return mixed


def write_arpa(counts: Counts, known: Iterable[str], path: Path) -> None:
    """Write the model over the `known` words (those with a pronunciation): Katz's back-off with a fixed mass."""
    words = set(known)
    ones: dict[str, float] = {word: number for word, number in counts.ones.items() if word in words}
    ones[_START] = ones[_END] = 1.0
    total = sum(ones.values())
    one = {word: number / total for word, number in ones.items()}
    twos = {gram: number for gram, number in counts.twos.items() if words.issuperset(gram)}
    threes = {gram: number for gram, number in counts.threes.items() if words.issuperset(gram)}
    sums_one: Counter[str] = Counter()
    for (first, _), number in twos.items():
        sums_one[first] += number  # type: ignore[assignment]
    two = {gram: (1 - BACK_OFF) * number / sums_one[gram[0]] for gram, number in twos.items()}
    sums_two: Counter[tuple[str, str]] = Counter()
    for gram, number in threes.items():
        sums_two[gram[:2]] += number  # type: ignore[assignment]
    seen_one: Counter[str] = Counter()
    for first, second in two:
        seen_one[first] += one[second]  # type: ignore[assignment]
    seen_two: Counter[tuple[str, str]] = Counter()
    for start, middle, end in threes:
        seen_two[start, middle] += two[middle, end]  # type: ignore[assignment]
    with path.open("w", encoding="utf-8") as stream:
        stream.write(f"\\data\\\nngram 1={len(one)}\nngram 2={len(two)}\nngram 3={len(threes)}\n\n\\1-grams:\n")
        for word in sorted(one):
            weight = _weight(seen_one[word]) if word in seen_one else 0.0
            stream.write(f"{_log(one[word])} {word} {weight:.4f}\n")
        stream.write("\n\\2-grams:\n")
        for pair in sorted(two):
            weight = _weight(seen_two[pair]) if pair in seen_two else 0.0
            stream.write(f"{_log(two[pair])} {pair[0]} {pair[1]} {weight:.4f}\n")
        stream.write("\n\\3-grams:\n")
        for gram in sorted(threes):
            stream.write(f"{_log((1 - BACK_OFF) * threes[gram] / sums_two[gram[:2]])} {' '.join(gram)}\n")
        stream.write("\n\\end\\\n")


def _log(share: float) -> str:
    return f"{math.log10(share):.4f}"


def _weight(seen: float) -> float:
    """What is left for words that were not seen after a history, over what they have one word shorter."""
    return math.log10(BACK_OFF / max(1.0 - seen, 0.01))
