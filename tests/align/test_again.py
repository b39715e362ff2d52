"""What is listened to again, and from what voices are learned."""

from collections.abc import Sequence

import numpy as np
from scripted import Scripted, said, sentences

from speechmill.align import judge
from speechmill.align.again import gaps, passages
from speechmill.align.base import Heard, Passage, Sentence
from speechmill.align.match import match
from speechmill.align.recording import align_recording
from speechmill.audio import RATE, Pcm

A = "we saw strong demand in europe this year"
B = "margins were a little lower than we had planned"
C = "the second half should bring better prices for steel"
D = "let me now turn to cash and the balance sheet"


def spoken_by(texts: Sequence[str], speakers: str) -> list[Sentence]:
    return [
        Sentence(one.place, one.text, one.tokens, speaker)
        for one, speaker in zip(sentences(texts), speakers, strict=True)
    ]


def misheard(heard: Sequence[Heard], first: int, last: int) -> list[Heard]:
    return [word._replace(word="mumble") if first <= n < last else word for n, word in enumerate(heard)]


def found_in(given: Sequence[Sentence], heard: Sequence[Heard]):
    return judge.keep(match(given, [word.word for word in heard]))


def test_a_gap_has_the_sentences_that_were_not_found_and_the_time_between_their_neighbours() -> None:
    _, heard, spans = said([A, B, C])
    given = spoken_by([A, B, C], "xyx")
    ears = misheard(heard, 8, 17)
    (gap,) = gaps(given, ears, found_in(given, ears), spans[-1][1])
    assert (gap.first, gap.last) == (8, 17)
    assert (gap.start, gap.end) == (spans[0][1], spans[2][0])
    assert [one.text for one in gap.expected] == [B]


def test_no_gap_where_all_was_found_or_nothing_is_left_over() -> None:
    _, heard, spans = said([A, B, C])
    for texts in ([A, B, C], [A, C]):
        given = sentences(texts)
        assert gaps(given, heard, found_in(given, heard), spans[-1][1]) == []


def test_a_voice_is_learned_from_found_sentences_of_those_who_are_expected() -> None:
    _, heard, spans = said([A, B, C, D] * 3)
    given = spoken_by([A, B, C, D] * 3, "xyxz" * 3)
    ears = misheard(heard, 0, 8)  # the first sentence, said by x
    kept = found_in(given, ears)
    found = passages(given, ears, kept, gaps(given, ears, kept, spans[-1][1]))
    assert {speaker for passage in found for _, speaker in passage.words} == {"x"}
    assert [word for word, _ in found[0].words] == C.split()
    assert found[0].start < spans[2][0] < spans[2][1] < found[0].end


def test_a_voice_of_which_little_was_found_is_learned_from_the_gap_as_it_should_be() -> None:
    _, heard, spans = said([A, B, C])
    given = spoken_by([A, B, C], "xyx")
    ears = misheard(heard, 8, 17)
    kept = found_in(given, ears)
    there = gaps(given, ears, kept, spans[-1][1])
    assert passages(given, ears, kept, there) == [
        Passage(spans[0][1], spans[2][0], tuple((word, "y") for word in B.split()))
    ]
    short = gaps(given[:2] + given[2:], ears, kept, spans[-1][1])[0]
    long = type(short)(short.first, short.last, 0.0, 100.0, short.expected)
    assert passages(given, ears, kept, [long]) == []  # far more sound than the sentence needs


class Learning(Scripted):
    """Understands y only when it has learned the voice."""

    voices: frozenset[str] = frozenset()

    def learn_voices(self, samples: Pcm, passages: Sequence[Passage]) -> None:
        del samples
        self.voices |= {speaker for passage in passages for _, speaker in passage.words}

    def listen_again(self, samples: Pcm, expected: Sequence[Sentence]) -> list[Heard]:
        known = [one for one in expected if one.speaker in self.voices]
        words = [word for one in known for token in one.tokens for word in token.readings[0]]
        step = len(samples) / RATE / max(1, len(words))
        return [Heard(word, n * step, (n + 1) * step) for n, word in enumerate(words)]


def test_what_is_heard_with_a_learned_voice_is_kept() -> None:
    samples, heard, spans = said([A, B, C])
    ears = misheard(heard, 8, 17)
    found = align_recording(Learning(ears), samples, spoken_by([A, B, C], "xyx"))
    assert [outcome.kept for outcome in found.outcomes] == [True, True, True]
    assert found.outcomes[1].start is not None
    assert abs(found.outcomes[1].start - spans[1][0]) < 0.1
    found = align_recording(Scripted(ears), samples, spoken_by([A, B, C], "xyx"))
    assert [outcome.kept for outcome in found.outcomes] == [True, False, True]


def test_silence_has_no_gap() -> None:
    found = align_recording(Learning([]), np.zeros(5 * RATE, np.int16), sentences([A]))
    assert [outcome.reason for outcome in found.outcomes] == [judge.NOT_SPOKEN]
