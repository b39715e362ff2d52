"""Readings of written tokens."""

import pytest

from speechmill.align.numbers import cardinal, decimal, ordinal, price, whole, year
from speechmill.align.spoken import MAX_READINGS, first_reading, read_aloud


def readings(text: str, place: int = 0) -> list[str]:
    return [" ".join(reading) for reading in read_aloud(text)[place].readings]


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("revenue was $3.5 billion,", "revenue was three point five billion dollars"),
        ("$1.27 per share", "one dollar twenty seven cents per share"),
        ("up 12.5%", "up twelve point five percent"),
        ("in Q3 2023.", "in q three twenty twenty three"),
        ("50bps, $40M and €3bn", "fifty basis points forty million dollars and three billion euros"),
        ("Dr. J.P. Morgan, CEO", "doctor j p morgan c e o"),
        ("the U.S. on the 22nd", "the u s on the twenty second"),
        ("R&D -- and S&P", "r and d and s and p"),
        ("year-over-year at 10:30 a.m.", "year over year at ten thirty a m"),
        ("[Operator Instructions] (well)", "well"),
        ("1,200 of 007", "one thousand two hundred of zero zero seven"),
        ("It’s “quoted”, don't!", "it's quoted don't"),
        ("café 3.5x", "cafe three point five x"),
        ("5-7% of $2-3", "five to seven percent of two to three dollars"),
        ("$3.5-$4 billion at www.name.com", "three point five to four billion dollars at www dot name dot com"),
        ("-$5, $4.5-billion", "minus five dollars four point five billion dollars"),
        ("U.S.-based Ørsted, Đoković", "u s based orsted dokovic"),
    ],
)
def test_the_first_reading(written: str, spoken: str) -> None:
    assert " ".join(first_reading(read_aloud(written))) == spoken


@pytest.mark.parametrize(
    ("written", "reading"),
    [
        ("$1.27", "one twenty seven"),
        ("$1.27", "one dollar and twenty seven cents"),
        ("2.5%", "two and a half percent"),
        ("Q3", "third quarter"),
        ("2023", "two thousand twenty three"),
        ("1905", "nineteen hundred five"),
        ("1200", "twelve hundred"),
        ("FY23", "fiscal twenty three"),
        ("CEO", "ceo"),
        ("St.", "street"),
        ("--", "um"),
        ("--", ""),
        ("[laughter]", "laughter"),
        ("(laughter)", ""),
        ("3/4", "three quarters"),
        ("-3%", "minus three percent"),
        ("10x", "ten times"),
        ("1980s", "nineteen eighties"),
        ("e-mail", "email"),
        ("24/7", "twenty four seven"),
        ("$1.05-$1.10", "one oh five to one ten"),
    ],
)
def test_another_reading(written: str, reading: str) -> None:
    assert reading in readings(written)


def test_a_scale_after_money_is_said_before_the_unit_and_a_full_stop_parts_them() -> None:
    assert readings("£2 million", 1)[0] == "million pounds"
    assert readings("$2. Million", 0)[0] == "two dollars"


def test_another_script_is_unreadable_and_says_nothing() -> None:
    tokens = read_aloud("Здравствуйте 你好 hello")
    assert [token.unreadable for token in tokens] == [True, True, False]
    assert tokens[0].readings == ((),)


def test_every_token_keeps_its_writing_and_has_few_readings() -> None:
    text = "From $1.27-$2.13 (in Q1'22), or 1,234,567.89% -- A/B/C/D-E-F [sic] 1994/1995!"
    tokens = read_aloud(text)
    assert " ".join(token.written for token in tokens) == text
    assert all(1 <= len(token.readings) <= MAX_READINGS for token in tokens)
    assert all(word == word.lower() and word for token in tokens for reading in token.readings for word in reading)


def test_numbers() -> None:
    assert " ".join(cardinal(1_002_013)) == "one million two thousand thirteen"
    assert " ".join(cardinal(1005, True)) == "one thousand and five"
    assert " ".join(year(2005)[0]) == "two thousand five"
    assert " ".join(ordinal(30)[0]) == "thirtieth"
    assert " ".join(ordinal(112)[0]) == "one hundred twelfth"
    assert (" ".join(whole("0123")[1])) == "oh one two three"
    assert " ".join(decimal(".25")[0]) == "point two five"
    assert " ".join(price("0.85", "dollar", "dollars", "cent", "cents")[0]) == "eighty five cents"
    assert len(whole("9" * 40)[0]) == 40
