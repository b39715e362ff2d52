"""Each rule of the normalisation on text that a call's transcript may hold."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechmill.text import THESIS, normalize

repeatable = settings(derandomize=True, deadline=None)


@pytest.mark.parametrize(
    ("written", "normalized"),
    [
        ("Thank you, operator.", "THANK YOU OPERATOR"),
        ("  Good\tmorning \n everyone ", "GOOD MORNING EVERYONE"),
        ("$3.5 billion", "$3.5 BILLION"),
        ("up 12.5%.", "UP 12.5%"),
        ("about $.25 a share", "ABOUT $.25 A SHARE"),
        ("1,200 stores, 1,234,567.89 in all", "1200 STORES 1234567.89 IN ALL"),
        ("in 2019,2020 and 1,2,3", "IN 2019 2020 AND 1 2 3"),
        ("we don't; we DON’T", "WE DON'T WE DON'T"),
        ("the 'solid' companies' result", "THE SOLID COMPANIES RESULT"),
        ("“long-term”, and/or year–end", "LONG TERM AND OR YEAR END"),
        ("the U.S. market, e.g. U.S.'s", "THE US MARKET EG US'S"),
        ("well...I think… so", "WELL I THINK SO"),
        ("5...6", "5 6"),
        ("S&P and R&D, #1", "S&P AND R&D #1"),
        ("Caf\u0065\u0301 (Stra\u00dfe)", "CAFÉ STRASSE"),
        ("co\u00adoperate\ufeff", "COOPERATE"),
        ("\u22125 or -5", "5 OR 5"),
        ("?!... --", ""),
        ("", ""),
    ],
)
def test_rules(written: str, normalized: str) -> None:
    assert normalize(written) == normalized


SIGNS = st.text(st.sampled_from("aB1.5,'’-/ &%$\"…éß\u0345\u0301"), max_size=14)


@repeatable
@given(st.one_of(st.text(), SIGNS))
def test_normalizing_twice_changes_nothing(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once


@repeatable
@given(st.one_of(st.text(), SIGNS))
def test_what_is_left(text: str) -> None:
    left = normalize(text)
    assert left == " ".join(left.split())
    assert {sign for sign in left if unicodedata.category(sign).startswith("P")} <= set("'.%&#@")


@repeatable
@given(SIGNS.map(lambda text: text.replace("\u0345", "")))  # in upper case a letter, not a mark
def test_case_and_composition_are_no_difference(text: str) -> None:
    assert normalize(text.upper()) == normalize(text) == normalize(unicodedata.normalize("NFD", text))


def test_name_is_what_outputs_carry() -> None:
    assert THESIS == "thesis (upper case, punctuation stripped)"
