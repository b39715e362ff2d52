"""The account of a recording."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechmill.align.ledger import KEPT, KINDS, REJECTED, SILENCE, UNTRANSCRIBED, Span, account, check
from speechmill.errors import SpeechmillError

SPANS = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)).map(sorted).map(tuple), max_size=8)


def test_layers() -> None:
    spans = account(10.0, [(1.0, 3.0)], [(2.0, 5.0, "too-uncertain")], [(4.0, 7.0)])
    assert spans == [
        Span(0.0, 1.0, SILENCE), Span(1.0, 3.0, KEPT), Span(3.0, 5.0, REJECTED, "too-uncertain"),
        Span(5.0, 7.0, UNTRANSCRIBED), Span(7.0, 10.0, SILENCE),
    ]  # fmt: skip


@given(st.floats(0.1, 100), SPANS, SPANS, SPANS)
def test_every_second_is_somewhere_once(
    seconds: float,
    kept: list[tuple[float, float]],
    rejected: list[tuple[float, float]],
    speech: list[tuple[float, float]],
) -> None:
    spans = account(seconds, kept, [(*span, "overlaps") for span in rejected], speech)
    check("x", seconds, spans, 0, [])
    assert spans[0].start == 0.0
    assert spans[-1].end == seconds
    assert {span.kind for span in spans} <= set(KINDS)


def test_an_account_that_does_not_add_up_is_an_error() -> None:
    with pytest.raises(SpeechmillError, match=r"9\.000 of 10\.000 s"):
        check("x", 10.0, [Span(0.0, 9.0, KEPT)], 0, [])
    with pytest.raises(SpeechmillError, match="1 of 2 sentences"):
        check("x", 1.0, [Span(0.0, 1.0, KEPT)], 2, ["kept"])
