"""Normalisations and chains of steps."""

from __future__ import annotations

import pytest

from speechmill.errors import SpeechmillError
from speechmill.score.normalize import STEPS, normalization
from speechmill.text import normalize

TEXT = "Uh, we don't  know: “long-term” (applause) <inaudible> Café's $3.5, um."


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", "Uh, we don't know: “long-term” (applause) <inaudible> Café's $3.5, um."),
        ("thesis", "UH WE DON'T KNOW LONG TERM APPLAUSE <INAUDIBLE> CAFÉ'S $3.5 UM"),
        ("lower,punctuation", "uh we don't know long term applause <inaudible> café's $3.5 um"),
        ("brackets,fillers,thesis", "WE DON'T KNOW LONG TERM CAFÉ'S $3.5"),
        ("hyphens", "Uh, we don't know: “long term” (applause) <inaudible> Café's $3.5, um."),
        ("accents,upper", "UH, WE DON'T KNOW: “LONG-TERM” (APPLAUSE) <INAUDIBLE> CAFE'S $3.5, UM."),
    ],
)
def test_chains(name: str, expected: str) -> None:
    assert normalization(name).apply(TEXT) == expected
    assert normalization(name).words(TEXT) == expected.split()


def test_thesis_is_that_of_training() -> None:
    assert normalization("thesis").apply(TEXT) == normalize(TEXT)


def test_whisper_is_the_packages() -> None:
    from whisper_normalizer.english import EnglishTextNormalizer

    text = "Mr. Smith's colour, uh, won't cost $20 million in twenty-twenty [laughs]"
    whisper = normalization("whisper")
    assert whisper.apply(text) == " ".join(EnglishTextNormalizer()(text).split())
    assert whisper.apply("I'll pay twenty five dollars") == "i will pay $25"


def test_fillers_are_whole_words() -> None:
    assert normalization("fillers").apply("um, the umbrella, er, hers uh-huh") == "the umbrella, hers"


def test_the_one_that_was_used_can_be_told() -> None:
    assert normalization("lower, punctuation").name == "lower,punctuation"
    assert normalization("lower,punctuation").description == "lower case; punctuation stripped"
    assert len({normalization(name).description for name in STEPS}) == len(STEPS)


@pytest.mark.parametrize("name", ["thesys", "lower,", "lower;upper", ""])
def test_unknown_steps_are_refused(name: str) -> None:
    with pytest.raises(SpeechmillError, match="choose from none, thesis, whisper"):
        normalization(name)
