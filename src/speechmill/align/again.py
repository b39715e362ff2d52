"""The second listening: to what lies between islands that leave sentences over, with ears for those who speak there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from speechmill.align.base import Aligner, Heard, Passage, Sentence
from speechmill.align.match import Match
from speechmill.align.pace import letters
from speechmill.align.spoken import first_reading
from speechmill.audio import RATE, Pcm

ROUNDS = 2  # what is heard in one makes the voices of the next better
_SHORT = 0.8  # seconds: a gap in which no sentence can have been said
_NEAR = 4  # sentences around a gap among which one out of order may lie in it
_ENOUGH, _MOST = 10.0, 20.0  # seconds of a speaker's found sentences: enough to learn the voice from, and not more
_SURE = 0.5  # share of its words heard: a sentence from which a voice is learned
_PACE = (0.03, 0.25)  # seconds a letter within which a gap can be what its sentences say, and little else
_LONGEST = 120.0  # seconds of such a gap
_EDGE = 0.1  # seconds of sound taken along on each side


@dataclass(frozen=True)
class Gap:
    """The heard words `first` to `last` (without) between two kept sentences that follow each other in the transcript,
    but for the `expected` ones between, which were not kept; with its seconds.
    """

    first: int
    last: int
    start: float
    end: float
    expected: tuple[Sentence, ...]


def gaps(
    sentences: Sequence[Sentence], heard: Sequence[Heard], kept: Sequence[Match | None], seconds: float
) -> list[Gap]:
    """Where something may be said that the first listening did not understand."""
    found: list[Gap] = []
    for first, last, expected in _between(sentences, kept, len(heard)):
        low = heard[first - 1].end if first else 0.0
        high = heard[last].start if last < len(heard) else seconds
        if high - low >= _SHORT and (not found or low >= found[-1].end):
            found.append(Gap(first, last, low, high, tuple(expected)))
    return found


def _between(
    sentences: Sequence[Sentence], kept: Sequence[Match | None], heard: int
) -> Iterator[tuple[int, int, Sequence[Sentence]]]:
    before, place = 0, -1  # the heard word after the last kept sentence, and the place of that sentence
    for number in range(len(sentences) + 1):
        match_here = kept[number] if number < len(sentences) else None
        if number < len(sentences) and match_here is None:
            continue
        first = match_here.first if match_here else heard
        if (
            place + 1 < number
            and first >= before
            and not any(
                other and before <= other.first < first
                for other in kept[max(0, place - _NEAR) : number + _NEAR]
                if other is not match_here
            )
        ):
            yield before, first, sentences[place + 1 : number]
        before, place = (match_here.last if match_here else heard), number


def passages(
    sentences: Sequence[Sentence], heard: Sequence[Heard], kept: Sequence[Match | None], there: Sequence[Gap]
) -> list[Passage]:
    """What tells how those sound who are expected in the gaps: what was heard of their found sentences; of those with
    too little of it also the gaps themselves, as if they said what they are expected to say.
    """
    needed = {sentence.speaker for gap in there for sentence in gap.expected}
    seconds = dict.fromkeys(needed, 0.0)
    found = []
    for sentence, match in zip(sentences, kept, strict=True):
        speaker = sentence.speaker
        if match is None or speaker not in needed or match.share < _SURE or seconds[speaker] >= _MOST:
            continue
        start, end = heard[match.first].start - _EDGE, heard[match.last - 1].end + _EDGE
        words = tuple((word.word, speaker) for word in heard[match.first : match.last])
        found.append(Passage(max(0.0, start), end, words))
        seconds[speaker] += end - start
    for gap in there:
        words = tuple((word, one.speaker) for one in gap.expected for word in first_reading(list(one.tokens)))
        size = letters([word for word, _ in words])
        length = gap.end - gap.start
        fits = _PACE[0] * size <= length <= min(_PACE[1] * size, _LONGEST)
        if fits and any(seconds[one.speaker] < _ENOUGH for one in gap.expected):
            found.append(Passage(gap.start, gap.end, words))
    return found


def listen_again(
    aligner: Aligner,
    samples: Pcm,
    sentences: Sequence[Sentence],
    heard: Sequence[Heard],
    kept: Sequence[Match | None],
) -> list[Heard] | None:
    """All heard words, those in gaps as they are heard now; None where no gap is, or the aligner does no better."""
    there = gaps(sentences, heard, kept, len(samples) / RATE)
    if not there:
        return None
    aligner.learn_voices(samples, passages(sentences, heard, kept, there))
    better: list[Heard] = []
    index = 0
    for gap in there:
        words = aligner.listen_again(samples[round(gap.start * RATE) : round(gap.end * RATE)], gap.expected)
        if words is None:
            return None
        better += heard[index : gap.first]
        better += [word._replace(start=word.start + gap.start, end=word.end + gap.start) for word in words]
        index = gap.last
    return [*better, *heard[index:]]
