"""Alternatives: exact against trying every path, the rule of ties, without choices the plain alignment."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechmill.score import lattice
from speechmill.score.align import align, align_slowly, distance, tally
from speechmill.score.lattice import Choice, align_lattice
from speechmill.score.slowly import align_lattice_slowly

repeatable = settings(derandomize=True, deadline=None, max_examples=400)

WORD = st.sampled_from("abc")
HEARD = st.lists(WORD, max_size=9)
WAY = st.lists(WORD, max_size=3).map(tuple)
LATTICE = st.lists(WORD | st.lists(WAY, min_size=1, max_size=4).map(lambda ways: Choice(tuple(ways))), max_size=6)

Lattice = list[str | Choice]


@pytest.fixture(autouse=True, scope="module")
def _bands_in_short_texts() -> Iterator[None]:
    """What is made for texts of thousands of words must hold in texts that brute force can check."""
    with mock.patch.multiple(lattice, _SHORT=0, _RUN=2):
        yield


def paths(reference: Lattice) -> list[list[str]]:
    ways = [[(item,)] if isinstance(item, str) else item.ways for item in reference]
    return [[word for way in path for word in way] for path in itertools.product(*ways)]


def choices(text: str) -> Lattice:
    """`a {b c|}` is a word and a choice of two words or none."""
    parts = text.replace("}", "{").split("{")
    found: Lattice = []
    for place, part in enumerate(parts):
        if place % 2:
            found.append(Choice(tuple(tuple(way.split()) for way in part.split("|"))))
        else:
            found += part.split()
    return found


def taken(reference: str, heard: str) -> str:
    edits, _ = align_lattice(choices(reference), heard.split())
    return " ".join(edit.op + (edit.reference or "") for edit in edits)


@repeatable
@given(LATTICE, HEARD, st.sampled_from([1, 200, 10**6]))
def test_no_path_has_fewer_errors(reference: Lattice, heard: list[str], table_bytes: int) -> None:
    edits, _ = align_lattice(reference, heard, table_bytes)
    assert tally(edits).errors == min(distance(path, heard) for path in paths(reference))


@repeatable
@given(LATTICE, HEARD)
def test_the_edits_are_a_path_and_the_hypothesis(reference: Lattice, heard: list[str]) -> None:
    edits, spans = align_lattice(reference, heard)
    assert [edit.hypothesis for edit in edits if edit.op != "D"] == heard
    assert [edit.reference for edit in edits if edit.op != "I"] in paths(reference)
    assert all((edit.op == "=") == (edit.reference == edit.hypothesis) for edit in edits)
    assert [span.choice for span in spans] == [item for item in reference if isinstance(item, Choice)]
    for span in spans:
        inside = edits[span.first : span.last]
        assert tuple(edit.reference for edit in inside if edit.op != "I") in span.choice.ways
        assert not inside or inside[0].op != "I" != inside[-1].op


@repeatable
@given(HEARD, HEARD, st.sampled_from([1, 200, 10**6]))
def test_without_choices_it_is_the_plain_alignment(reference: list[str], heard: list[str], table_bytes: int) -> None:
    assert align_lattice(reference, heard, table_bytes)[0] == align_slowly(reference, heard)


@repeatable
@given(LATTICE, HEARD, st.sampled_from([1, 200, 10**6]))
def test_fast_is_slow(reference: Lattice, heard: list[str], table_bytes: int) -> None:
    assert align_lattice(reference, heard, table_bytes)[0] == align_lattice_slowly(reference, heard)


@pytest.mark.parametrize("seed", range(24))
def test_fast_is_slow_on_longer_texts(seed: int) -> None:
    dice = random.Random(seed)
    vocabulary = "abcdefgh"[: 2 + seed % 7]
    reference: Lattice = [
        Choice(tuple(tuple(dice.choices(vocabulary, k=dice.randrange(5))) for _ in range(dice.randrange(1, 6))))
        if dice.random() < 0.3
        else dice.choice(vocabulary)
        for _ in range(60)
    ]
    words = [word for item in reference for word in ((item,) if isinstance(item, str) else dice.choice(item.ways))]
    heard = [dice.choice(vocabulary) if dice.random() < 0.3 else word for word in words if dice.random() < 0.9]
    if seed % 3 == 0:  # hardly a word in common: many paths with the fewest errors, of many lengths
        heard = [word.upper() if dice.random() < 0.9 else word for word in heard + heard[: dice.randrange(30)]]
    with mock.patch.multiple(lattice, _SHORT=0, _RUN=dice.choice([2, 256])):
        assert align_lattice(reference, heard, dice.choice([1, 10**6]))[0] == align_lattice_slowly(reference, heard)


@repeatable
@given(LATTICE, HEARD)
def test_of_the_fewest_errors_the_most_words(reference: Lattice, heard: list[str]) -> None:
    counts = tally(align_lattice(reference, heard)[0])
    of_paths = [(distance(path, heard), -len(path)) for path in paths(reference)]
    assert (counts.errors, -counts.words) == min(of_paths)


@repeatable
@given(LATTICE, HEARD)
def test_an_alternative_more_never_costs(reference: Lattice, heard: list[str]) -> None:
    fewer = [Choice(item.ways[:1]) if isinstance(item, Choice) else item for item in reference]
    assert tally(align_lattice(reference, heard)[0]).errors <= tally(align_lattice(fewer, heard)[0]).errors


@pytest.mark.parametrize("seed", range(5))
def test_long_texts_with_and_without_blocks(seed: int) -> None:
    dice = random.Random(seed)
    words = [f"w{dice.randrange(60)}" for _ in range(400)]
    reference: Lattice = [
        Choice(((word,), tuple(dice.choices(words, k=dice.randrange(4))), ())) if dice.random() < 0.1 else word
        for word in words
    ]
    heard = [dice.choice(words) if dice.random() < 0.2 else word for word in words if dice.random() < 0.9]
    whole, spans = align_lattice(reference, heard)
    assert align_lattice(reference, heard, table_bytes=5_000) == (whole, spans)
    path = [edit.reference for edit in whole if edit.reference is not None]
    assert tally(whole).errors == distance(path, heard)
    plain = [item if isinstance(item, str) else item.ways[0][0] for item in reference]
    assert align_lattice(plain, heard)[0] == align(plain, heard)


@pytest.mark.parametrize(
    ("reference", "heard", "path"),
    [
        ("in {2020|twenty twenty|two thousand twenty}", "in twenty twenty", "=in =twenty =twenty"),
        ("in {2020|twenty twenty|two thousand twenty}", "in 2020", "=in =2020"),
        ("in {2020|twenty twenty|two thousand twenty}", "in", "=in D2020"),  # the shortest way has fewest deletions
        ("{a b|c d}", "c", "=c Dd"),
        ("{a|b} c", "x c", "Sa =c"),  # of equal ways, the first
        ("{*|}", "", ""),  # nothing is said for an asterisk
        ("a {b|c d} e", "a x y e", "=a Sc Sd =e"),
        ("a {b|c d} e", "a d e", "=a Dc =d =e"),  # of as many errors, the most reference words
        ("{|a} b", "x b", "Sa =b"),
        ("a {|b} c", "a b c", "=a =b =c"),
        ("a {|b} c", "a x c", "=a Sb =c"),  # the more words, the lower the rate
        ("{a|a}", "a", "=a"),
        ("{|}", "a", "I"),
        ("{a|b}", "", "Da"),
    ],
)
def test_which_way_is_taken(reference: str, heard: str, path: str) -> None:
    assert taken(reference, heard) == path


def test_insertions_at_the_ends_of_a_span_are_not_in_it() -> None:
    edits, spans = align_lattice(choices("a {b c|d} e"), ["a", "x", "b", "y", "c", "z", "e"])
    assert [edit.op for edit in edits[spans[0].first : spans[0].last]] == ["=", "I", "="]


def test_a_choice_needs_a_way() -> None:
    with pytest.raises(ValueError, match="as written"):
        Choice(())


@repeatable
@given(st.lists(st.tuples(LATTICE, HEARD), max_size=4))
def test_splitting_never_lowers_the_errors(utterances: list[tuple[Lattice, list[str]]]) -> None:
    reference = [item for items, _ in utterances for item in items]
    heard = [word for _, words in utterances for word in words]
    parts = sum(tally(align_lattice(*utterance)[0]).errors for utterance in utterances)
    assert parts >= tally(align_lattice(reference, heard)[0]).errors


@repeatable
@given(LATTICE, st.data())
def test_every_path_is_right(reference: Lattice, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(paths(reference)))
    assert tally(align_lattice(reference, path)[0]).errors == 0
