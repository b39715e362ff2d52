"""Alignment over the outputs of a CTC model, with models that are not trained but told what to say."""

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scripted import PAUSE, WORD, Scripted, said
from torch import Tensor

from speechmill.align.base import Open, Sentence, Transcribed
from speechmill.align.ctc import Ctc, RunEmitter, Spelled, TextOver, as_written, passed_over, said_between
from speechmill.align.known import Token, known_text
from speechmill.align.mms import Mms, spell
from speechmill.align.opened import hear_open_places
from speechmill.align.recording import Outcome, TimedToken, align_recording
from speechmill.align.sound import FRAME
from speechmill.audio import RATE, Pcm
from speechmill.errors import SpeechmillError
from speechmill.models.forced import path_likelihood, place_tokens
from speechmill.models.search import collapse
from speechmill.tokenizer import ANYTHING, BLANK

A = "we saw strong demand in europe"
B = "margins were a little lower"
STEP = 0.02
LETTERS = "-abcdefghijklmnopqrstuvwxyz'"


class Spelling:
    """A model that spells the words whose sound it is given: a burst's place in `texts` tells which."""

    version = "1"
    tokens = len(LETTERS) + 1
    writes = True
    _SPACE = len(LETTERS)

    def __init__(self, samples: Pcm, texts: Sequence[str]) -> None:
        self.samples = samples
        self.words = [(start, word) for start, word in _starts(texts)]

    def log_probs(self, samples: Pcm) -> tuple[Tensor, float]:
        first = next(
            place for place in range(0, len(self.samples), FRAME // 2)
            if np.array_equal(self.samples[place : place + len(samples)], samples)
        ) / RATE  # fmt: skip
        steps = round(len(samples) / RATE / STEP)
        found = torch.full((steps, self.tokens), -12.0)
        found[:, 0] = -0.01
        for start, word in self.words:
            for number, letter in enumerate(word + " "):
                step = round((start - first + 0.02 + number * STEP) / STEP)
                if 0 <= step < steps:
                    found[step] = -12.0
                    found[step, self._SPACE if letter == " " else LETTERS.index(letter)] = -0.01
        return found, len(samples) / RATE / steps

    def heard(self, log_probs: Tensor) -> list[int]:
        return collapse(log_probs.argmax(1).numpy())

    def encode(self, word: str) -> list[int]:
        return [LETTERS.index(letter) for letter in word.lower() if letter in LETTERS[1:]] + [self._SPACE]

    def decode(self, ids: list[int]) -> str:
        return "".join(" " if token == self._SPACE else LETTERS[token] for token in ids)


def _starts(texts: Sequence[str]) -> list[tuple[float, str]]:
    starts, clock = [], 0.5
    for text in texts:
        for word in text.split():
            starts.append((clock, word))
            clock += WORD
        clock += PAUSE
    return starts


def test_tokens_are_placed() -> None:
    log_probs = torch.full((8, 3), -9.0)
    log_probs[[0, 1, 3, 5, 7], 0] = 0.0
    log_probs[2, 1] = log_probs[4, 1] = log_probs[6, 2] = 0.0
    assert place_tokens(log_probs, [1, 1, 2]) == [(2, 3), (4, 5), (6, 7)]
    assert place_tokens(log_probs[:3], [1, 1, 2]) is None
    assert place_tokens(log_probs, []) is None


def test_what_the_search_passed_over_is_told_of() -> None:
    log_probs = torch.tensor([[0.0, -9.0]] * 8)
    words = [Spelled("we", 1, 2), Spelled("saw", 4, 5), Spelled("demand", 6, 7)]
    assert passed_over(words, log_probs) == [False, False, False]
    log_probs[3] = torch.tensor([-0.7, -0.6])  # as likely as not
    log_probs[[0, 1, 7]] = torch.tensor([-9.0, 0.0])  # not between two words
    assert passed_over(words, log_probs) == [False, False, False]
    log_probs[3] = torch.tensor([-2.0, -0.2])
    assert passed_over(words, log_probs) == [True, False, False]
    assert passed_over([], log_probs) == []


@pytest.mark.parametrize("left_out", ["strong ", "we ", ""])
def test_a_word_that_the_transcript_lacks_is_told_of(left_out: str) -> None:
    samples, _, _ = said([A, B])
    aligner = Ctc(Spelling(samples, [A, B]))
    written = A.replace(left_out, "").strip()
    heard = iter([written.split(), B.split()])
    aligner._decoded = lambda _: next(heard)  # type: ignore[method-assign]  # believes what is written
    given = [Sentence(place, text, tuple(aligner.read(text))) for place, text in enumerate([written, B])]
    found = align_recording(aligner, samples, given).outcomes
    inside = left_out == "strong "  # nothing is told of before the first word
    assert [(token.written, token.extra) for token in found[0].tokens if token.extra] == [("saw", 1)] * inside
    assert not any(token.extra for token in found[1].tokens)


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("we saw weak demand in europe", "we saw strong demand in europe"),  # another word
        ("we saw demand in europe", "we saw strong demand in europe"),  # a missing one
        ("we saw very strong demand in europe", "we saw ★ strong demand in europe"),  # not said, or not heard
        ("we see no strong demand in europe", "we saw strong demand in europe"),
        ("we saw strong demand for europe", "we saw strong demand in europe"),
    ],
)
def test_in_an_open_place_stands_what_the_model_hears(written: str, known: str) -> None:
    samples, _, _ = said([A, B])
    aligner = Ctc(Spelling(samples, [A, B]))
    aligner._decoded = lambda _: f"{A} {B}".split()  # type: ignore[method-assign]
    given = [Sentence(place, text, tuple(aligner.read(text))) for place, text in enumerate([written, B])]
    outcome = hear_open_places(aligner, samples, align_recording(aligner, samples, given).outcomes[0])
    assert known_text(known_tokens(outcome)) == known


def known_tokens(outcome: Outcome) -> list[Token]:
    return [
        Token(one.written, known=one.heard, more=one.extra > 0, heard=one.heard, instead=one.instead)
        for one in outcome.tokens
    ]


class Mishearing(Spelling):
    """Takes the "d" of "demand" for a "b", by so many nats, and hears a "q" before it for so many steps, by two."""

    by, steps = 0.0, 0

    def log_probs(self, samples: Pcm) -> tuple[Tensor, float]:
        found, step = super().log_probs(samples)
        place = int((found.argmax(1) == LETTERS.index("d")).nonzero()[0])
        found[place, LETTERS.index("b")], found[place, LETTERS.index("d")] = -0.1, -0.1 - self.by
        found[place - self.steps : place, LETTERS.index("q")] = -0.1
        found[place - self.steps : place, BLANK] = -2.1
        return found, step


class Faint(Spelling):
    """Is not sure of the "d" of "demand"."""

    def log_probs(self, samples: Pcm) -> tuple[Tensor, float]:
        found, step = super().log_probs(samples)
        found[int((found.argmax(1) == LETTERS.index("d")).nonzero()[0]), LETTERS.index("d")] = -1.4
        return found, step


@pytest.mark.parametrize(
    ("by", "steps", "written", "heard"),
    [
        (2.0, 0, "demand", "demand"),  # about as likely: misheard
        (2.0, 0, "prices", "bemand"),
        (2.0, 5, "demand", "qbemand"),  # and more is said there than is written
    ],
)
def test_what_is_about_as_likely_as_what_is_heard_stands_as_written(
    by: float, steps: int, written: str, heard: str
) -> None:
    samples, _, _ = said([A])
    emitter = Mishearing(samples, [A])
    emitter.by, emitter.steps = by, steps
    aligner = Ctc(emitter)
    aligner._decoded = lambda _: A.replace("demand", heard).split()  # type: ignore[method-assign]
    text = A.replace("demand", written)
    assert aligner.hear_between(samples, ["we", "saw", "strong", Open((written,)), "in", "europe"]) == [
        "",
        "",
        "",
        heard,
        "",
        "",
    ]
    if heard != written:
        given = [Sentence(0, text, tuple(aligner.read(text)))]
        outcome = hear_open_places(aligner, samples, align_recording(aligner, samples, given).outcomes[0])
        assert known_text(known_tokens(outcome)) == A.replace("demand", heard)


def test_a_text_is_as_likely_as_its_best_path() -> None:
    log_probs = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]]))
    assert math.exp(path_likelihood(log_probs, [1])) == pytest.approx(0.5 * 0.6)
    assert math.exp(path_likelihood(log_probs, [1, 2])) == pytest.approx(0.3 * 0.3)
    assert math.exp(path_likelihood(log_probs, [])) == pytest.approx(0.5 * 0.1)
    assert path_likelihood(log_probs, [1, 1]) == path_likelihood(log_probs[:0], [1]) == -math.inf


def test_a_pause_beside_an_open_place_is_nothing_that_is_said() -> None:
    """A blank is never quite sure: of all paths together those with anything in the pause would be likelier."""
    steps = torch.full((60, 4), 0.01)
    steps[:, BLANK] = 0.97
    for step, token in ((2, 1), (4, 2), (57, 3)):
        steps[step] = torch.tensor([0.02, *(0.94 if token == other else 0.02 for other in (1, 2, 3))])
    log_probs = steps.log()
    misheard, more = TextOver(log_probs, [[1], [4], [3]]).likelier(1, [2])
    assert misheard < 0.2
    assert more < 0
    steps[30] = torch.tensor([0.02, 0.94, 0.02, 0.02])  # and this is
    assert TextOver(steps.log(), [[1], [4], [3]]).likelier(1, [2])[1] > 3
    assert TextOver(log_probs[:3], [[1], [4], [3]]).likelier(1, [2, 2]) == (math.inf, math.inf), "too few steps"


def test_words_are_heard_without_the_transcript_each_as_sure_as_its_tokens_are_together() -> None:
    samples, _, _ = said([A])
    aligner = Ctc(Spelling(samples, [A]))
    heard = aligner.hear(samples)
    assert heard is not None
    assert [one.word for one in heard] == A.split()
    assert [one.sure for one in heard] == pytest.approx([math.exp(-0.01)] * len(heard))
    found = Ctc(Faint(samples, [A])).hear(samples)
    assert found is not None
    assert [one.word for one in found] == A.split()
    assert next(one.sure for one in found if one.word == "demand") == pytest.approx(
        math.exp((-1.4 - 6 * 0.01) / 7), rel=1e-3
    ), "seven tokens"
    assert aligner.hear(samples[:100]) == []


def test_what_is_said_in_an_open_place_is_what_stands_between_the_known_words() -> None:
    heard = [
        Transcribed(word, 0.4 if word == "north" else 0.9, 0.0, 0.1)
        for word in ["we", "Saw,", "strong", "demand", "in", "north", "europe"]
    ]
    saw = ["we", "saw", Open(("weak",)), "demand", "in"]
    assert said_between([*saw, "europe"], heard) == [None, None, "strong", None, None, None], "north is not clear"
    assert said_between([*saw, Open(), "europe"], heard)[5] is None, "not clear"
    assert said_between([*saw, "north", "europe", Open()], heard)[7] is None, "nothing is heard"
    assert said_between(["we", "strong", "demand", "north", "europe"], heard) == ["Saw,", None, "in", None, None]
    assert said_between(["we", "weak", "demand"], heard) == [None] * 3, "not as written"
    assert said_between([Open(), "saw", "strong", Open(("in",))], heard) == ["we", None, None, None]
    assert said_between(["we", "say", Open(), "demand", Open(), "north", "europe"], heard)[2:5:2] == [None, "in"]
    assert said_between([Open()], []) == [None]
    assert said_between(["we", Open()], []) == [None, None], "the word beside it was not heard"


def test_what_the_model_writes_as_one_word_across_a_pause_is_two() -> None:
    samples, _, spans = said([A, B])
    aligner = Ctc(Spelling(samples, [A, B]))
    words = A.split() + B.split()
    aligner._decoded = lambda _: [*words[:5], words[5] + words[6], *words[7:]]  # type: ignore[method-assign]
    heard = [one for piece in aligner.listen(samples) for one in piece]
    assert [one.word for one in heard] == words
    assert heard[5].end == pytest.approx(spans[0][1], abs=WORD)
    assert heard[6].start == pytest.approx(spans[1][0], abs=WORD)
    aligner._decoded = lambda _: [words[0] + words[1], *words[2:]]  # type: ignore[method-assign]
    assert next(iter(aligner.listen(samples)))[0].word == words[0] + words[1], "without one it is one"


def test_a_dash_is_nothing_that_is_said() -> None:
    samples, _, _ = said([A])
    emitter = Spelling(samples, [A])
    emitter.decode = lambda ids: " ".join(["we", "--", "saw"][: len(ids)])  # type: ignore[method-assign]
    assert [one.word for one in Ctc(emitter).hear(samples) or []] == ["we", "saw"]


def test_where_words_cannot_be_spelled_or_the_sound_is_too_short_nothing_can_be_told() -> None:
    samples, _, _ = said([A])
    aligner = Ctc(Spelling(samples, [A]))
    aligner._emitter.encode = lambda word: [] if word == "\u00df" else [LETTERS.index(one) for one in word]  # type: ignore[method-assign]
    words = ["we", "saw", Open(("strong",)), "demand", "in", "europe"]
    assert aligner.hear_between(samples, words) == ["", "", "strong", "", "", ""]
    nothing = ["", "", None, "", "", ""]
    assert aligner.hear_between(samples[:1000], words) == nothing
    assert aligner.hear_between(samples, [*words[:-1], "\u00df"]) == nothing, "a known word"
    aligner._heard = lambda *_: []  # type: ignore[method-assign]
    assert aligner.hear_between(samples, ["we", "saw", Open(("\u00df",)), *words[3:]]) == ["", "", None, "", "", ""]
    aligner._emitter.writes = False
    assert aligner.hear_between(samples, words) is None
    assert aligner.hear(samples) is None


def test_where_nothing_is_written_and_nothing_said_nothing_is_open() -> None:
    samples, _, _ = said([A])
    aligner = Ctc(Spelling(samples, [A]))
    words = A.split()
    assert aligner.hear_between(samples, [*words[:2], Open(()), *words[2:]]) == [""] * 7
    assert aligner.hear_between(samples, [*words[:2], Open(()), *words[3:]]) == ["", "", "strong", "", "", ""]
    assert aligner.hear_between(samples, [*words[:2], *words[3:]]) == ["", "strong", "", "", ""], "nobody had asked"
    aligner._heard = lambda *_: []  # type: ignore[method-assign]
    assert aligner.hear_between(samples, [*words[:2], Open(()), *words[3:]]) == ["", "", None, "", "", ""]
    tokens = tuple(TimedToken(word, float(place), place + 0.9, True) for place, word in enumerate(words))
    tokens = (*tokens[:2], replace(tokens[2], extra=1), *tokens[3:])
    seconds = len(samples) / RATE
    found = hear_open_places(Ctc(Spelling(samples, [A])), samples, Outcome(0, "kept", 0.9, 0.0, seconds, tokens))
    assert (found.tokens[2].extra, found.tokens[2].instead) == (0, None)


def test_nobody_is_asked_what_is_said_in_a_sentence_of_minutes() -> None:
    asked: list[int] = []
    aligner = Scripted([])
    aligner.hear_between = lambda samples, _: asked.append(len(samples)) or ["", None, ""]  # type: ignore[method-assign]
    tokens = (
        TimedToken("we", 0.0, 0.4, True),
        TimedToken("saw", 0.5, 0.9, False),
        TimedToken("it", 179.5, 180.0, True),
    )
    found = hear_open_places(aligner, np.zeros(200 * RATE, np.int16), Outcome(0, "kept", 0.7, 0.0, 180.0, tokens))
    assert found.tokens[1].instead == "\u2605"
    assert asked == [0]


def test_a_ctc_model_aligns_what_it_hears() -> None:
    samples, _, spans = said([A, B])
    aligner = Ctc(Spelling(samples, [A, B]))
    texts = [A.capitalize() + ".", "Operator Instructions", B.capitalize() + "!"]
    given = [Sentence(place, text, tuple(aligner.read(text))) for place, text in enumerate(texts)]
    found = align_recording(aligner, samples, given).outcomes
    assert [outcome.kept for outcome in found] == [True, False, True]
    for outcome, (start, end) in zip([found[0], found[2]], spans, strict=True):
        assert outcome.start == pytest.approx(start, abs=0.1)
        assert outcome.end == pytest.approx(end, abs=0.1)


class Bundle:
    """What `mms` asks of MMS_FA."""

    sample_rate = RATE

    def __init__(self, spelling: Spelling | None) -> None:
        self.spelling = spelling

    def get_dict(self, star: str | None) -> dict[str, int]:
        assert star is None
        return {letter: number for number, letter in enumerate(LETTERS)}

    def get_model(self, with_star: bool) -> torch.nn.Module:
        assert not with_star
        if self.spelling is None:
            raise OSError("no route to host")
        spelling = self.spelling

        class Model(torch.nn.Module):
            def forward(self, sound: Tensor) -> tuple[Tensor, None]:
                pcm = (sound[0] * 32768).numpy().astype(np.int16)
                return spelling.log_probs(pcm)[0][None, :, : len(LETTERS)], None

        return Model()


def test_mms_with_a_stand_in() -> None:
    samples, _, spans = said([A, B])
    aligner = Mms(Bundle(Spelling(samples, [A, B])))
    given = [Sentence(place, text, tuple(aligner.read(text))) for place, text in enumerate([A, B])]
    found = align_recording(aligner, samples, given).outcomes
    assert [outcome.kept for outcome in found] == [True, True]
    assert found[1].start == pytest.approx(spans[1][0], abs=0.1)


def test_mms_without_weights_is_one_clear_line() -> None:
    with pytest.raises(SpeechmillError, match="weights of MMS_FA are not on disk and could not be fetched"):
        Mms(Bundle(None))


def test_what_stands_in_square_brackets_is_mostly_not_said() -> None:
    tokens = as_written("so [Operator Instructions] it (well) rose [laughter].")
    said = [" ".join(word for word in token.readings[0]) for token in tokens]
    assert said == ["so", "", "", "it", "well", "rose", ""]


def test_words_are_spelled_from_letters() -> None:
    letters = [(letter, 0.1 * number) for number, letter in enumerate("wesawzzzdemanf")]
    assert [word.word for word in spell(["we", "saw", "demand", "oil"], letters)] == ["we", "saw", "?", "demand", "?"]


def test_a_run_does_not_spell_what_its_tokens_cannot() -> None:
    spelled = {"we": [3, 4], "\u2605": [ANYTHING], "a\u2605": [5, ANYTHING], "\u00df": [BLANK]}
    emitter = object.__new__(RunEmitter)
    emitter._recognizing = SimpleNamespace(tokenizer=SimpleNamespace(encode=spelled.__getitem__))  # type: ignore[assignment]
    assert [emitter.encode(word) for word in spelled] == [[3, 4], [], [], []]
