"""One recording, with an aligner that hears what a script says."""

from collections.abc import Sequence

import numpy as np
import pytest
from scripted import Scripted, said, sentences

from speechmill.align import judge
from speechmill.align.base import Heard, Sentence
from speechmill.align.recording import align_recording
from speechmill.audio import RATE, Pcm

A = "we saw strong demand in europe this year"
B = "margins were a little lower than we had planned"
C = "the second half should bring better prices for steel"
D = "let me now turn to cash and the balance sheet"


def test_sentences_get_the_times_at_which_they_were_said() -> None:
    samples, heard, spans = said([A, B, C])
    found = align_recording(Scripted(heard), samples, sentences([A, B, C]))
    for outcome, (start, end) in zip(found.outcomes, spans, strict=True):
        assert outcome.kept
        assert outcome.start == pytest.approx(start, abs=0.02)
        assert outcome.end == pytest.approx(end, abs=0.02)
        assert outcome.confidence > 0.9
        assert all(token.heard for token in outcome.tokens)


@pytest.mark.parametrize("late", [0.15, -0.15])
def test_words_beside_a_pause_are_on_their_sides_of_it(late: float) -> None:
    samples, heard, spans = said([A, B])
    after = len(A.split())  # the last word of one goes on into the next, or that begins in the last one
    last, first = heard[after - 1], heard[after]
    meet = first.start + late if late > 0 else last.end + late
    heard[after - 1 : after + 1] = [last._replace(end=meet), first._replace(start=meet)]
    found = align_recording(Scripted(heard), samples, sentences([A, B]))
    for outcome, (start, end) in zip(found.outcomes, spans, strict=True):
        assert outcome.start == pytest.approx(start, abs=0.02)
        assert outcome.end == pytest.approx(end, abs=0.02)
    assert found.outcomes[0].tokens[-1].end == pytest.approx(spans[0][1], abs=0.16)
    assert found.outcomes[1].tokens[0].start == pytest.approx(spans[1][0], abs=0.16)


def test_a_short_word_between_two_pauses_stays() -> None:
    samples, heard, spans = said([A, "yes", B])
    place = len(A.split())
    heard[place] = heard[place]._replace(start=heard[place - 1].end, end=heard[place + 1].start)
    found = align_recording(Scripted(heard), samples, sentences([A, "yes", B]))
    assert found.outcomes[1].start == pytest.approx(spans[1][0], abs=0.02)
    assert found.outcomes[1].end == pytest.approx(spans[1][1], abs=0.02)


def test_reasons() -> None:
    samples, heard, _ = said([A, B, C])
    texts = [A, "nobody ever said anything about oranges", "Operator Instructions", C, "[music]"]
    found = align_recording(Scripted(heard), samples, sentences(texts))
    assert [outcome.reason for outcome in found.outcomes] == [
        judge.KEPT, judge.SOMETHING_ELSE, judge.SOMETHING_ELSE, judge.KEPT, judge.NOTHING_TO_SAY,
    ]  # fmt: skip
    assert len(found.others) == len(B.split())
    samples, heard, _ = said([A, C])
    found = align_recording(
        Scripted(heard), samples, sentences([A, "nobody ever said anything about oranges", C, "--"])
    )
    assert [o.reason for o in found.outcomes] == [judge.KEPT, judge.NOT_SPOKEN, judge.KEPT, judge.NOTHING_TO_SAY]


def test_a_sentence_that_stands_twice_and_was_said_once_overlaps() -> None:
    samples, heard, _ = said([A, B, C])
    found = align_recording(Scripted(heard), samples, sentences([A, B, B, C]))
    assert sorted(outcome.reason for outcome in found.outcomes) == [judge.KEPT, judge.KEPT, judge.KEPT, judge.OVERLAPS]


def test_a_damaged_sentence_is_kept_with_less_confidence_and_its_words_marked() -> None:
    samples, heard, spans = said([A, B])
    found = align_recording(Scripted(heard), samples, sentences([A.replace("strong", "weak"), B]))
    harmed, whole = found.outcomes
    assert harmed.kept
    assert harmed.confidence < whole.confidence
    assert [token.written for token in harmed.tokens if not token.heard] == ["weak"]
    assert harmed.start == pytest.approx(spans[0][0], abs=0.02)


def test_where_a_word_is_missing_in_the_transcript_is_told() -> None:
    samples, heard, _ = said([A, B])
    found = align_recording(Scripted(heard), samples, sentences([A.replace("strong ", ""), B]))
    assert [(token.written, token.extra) for token in found.outcomes[0].tokens if token.extra] == [("saw", 1)]
    assert not any(token.extra for token in found.outcomes[1].tokens)
    assert found.outcomes[0].confidence < found.outcomes[1].confidence


def test_unheard_words_at_an_edge_take_the_sound_beside_them() -> None:
    samples, heard, spans = said([A, B])
    misheard = [word if number not in (6, 7) else word._replace(word="fear") for number, word in enumerate(heard)]
    found = align_recording(Scripted(misheard), samples, sentences([A, B]))
    assert found.outcomes[0].end == pytest.approx(spans[0][1], abs=0.05)


def test_a_first_word_that_agrees_by_chance_is_speech_of_nobody() -> None:
    samples, heard, spans = said(["well mumble and so on", "mumble mumble mumble mumble mumble", A])
    found = align_recording(Scripted(heard), samples, sentences([f"well you know {A}"]))
    (outcome,) = found.outcomes
    assert spans[0][1] < outcome.start <= spans[2][0]  # how far its unheard first words reach is told by the sound
    assert [token.written for token in outcome.tokens if not token.heard] == ["well", "you", "know"]
    assert (heard[0].start, heard[0].end) in found.others
    whole = align_recording(Scripted(heard), samples, sentences([A])).outcomes[0]
    assert outcome.confidence < whole.confidence


def test_a_transcript_of_another_call_is_rejected_whole() -> None:
    samples, heard, _ = said([A, B, C, D])
    texts = [f"completely different words about zebra number {n} in the zoo" for n in range(12)]
    found = align_recording(Scripted(heard), samples, sentences(texts))
    assert {outcome.reason for outcome in found.outcomes} == {judge.OTHER}


class Learning(Scripted):
    """Understands the first sentence, and the others once it knows their voices."""

    def __init__(self, script: list[Heard], samples: Pcm) -> None:
        super().__init__(
            [word if n < len(A.split()) else word._replace(word="mumble") for n, word in enumerate(script)]
        )
        self.whole, self.seconds = script, len(samples) / RATE

    def listen_again(self, samples: Pcm, expected: Sequence[Sentence]) -> list[Heard]:
        del expected
        begin = self.seconds - len(samples) / RATE
        later = [word for word in self.whole if word.start >= begin]
        return [word._replace(start=word.start - begin, end=word.end - begin) for word in later]


def test_a_transcript_is_another_calls_only_after_its_voices_were_learned() -> None:
    texts = [A, B, C, D]
    texts += [
        f"we expect {word} from {word} in the last quarter" for word in ("steel", "copper", "zinc", "tin", "lead")
    ]
    samples, heard, _ = said(texts)
    found = align_recording(Learning(heard, samples), samples, sentences(texts))
    assert all(outcome.kept for outcome in found.outcomes)
    others = [A, *(f"completely different words about zebra number {n} in the zoo" for n in range(12))]
    found = align_recording(Learning(heard, samples), samples, sentences(others))
    assert {outcome.reason for outcome in found.outcomes} == {judge.OTHER}


def test_a_recording_cut_off_and_a_transcript_that_starts_late_cost_only_their_part() -> None:
    samples, heard, _ = said([A, B])
    found = align_recording(Scripted(heard), samples, sentences([A, B, C, D]))
    assert [outcome.kept for outcome in found.outcomes] == [True, True, False, False]
    samples, heard, _ = said([A, B, C, D])
    found = align_recording(Scripted(heard), samples, sentences([C, D]))
    assert [outcome.kept for outcome in found.outcomes] == [True, True]
    assert len(found.others) == len(A.split()) + len(B.split())


def test_silence() -> None:
    found = align_recording(Scripted([]), np.zeros(5 * RATE, np.int16), sentences([A, "--"]))
    assert [outcome.reason for outcome in found.outcomes] == [judge.NOT_SPOKEN, judge.NOTHING_TO_SAY]
    assert found.others == ()


def test_a_million_words_of_transcript() -> None:
    samples, heard, _ = said([A, B, C])
    other = " ".join(f"zebra{chr(97 + n % 26)}" for n in range(1000))
    texts = [other] * 500 + [A, B, C] + [other] * 500
    found = align_recording(Scripted(heard), samples, sentences(texts))
    assert [outcome.place for outcome in found.outcomes if outcome.kept] == [500, 501, 502]
