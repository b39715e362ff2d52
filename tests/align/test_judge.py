"""Which matches stand, and which of their words."""

# ruff: noqa: SIM905

from collections.abc import Iterable
from dataclasses import replace

from speechmill.align import judge
from speechmill.align.base import Heard, Sentence, Token
from speechmill.align.match import Match
from speechmill.align.place import without_strays


def matched(agreeing: int, words: int, first: int = 0) -> Match:
    """A sentence of which the first `agreeing` words were heard."""
    made = tuple((f"w{n}", n, first + n if n < agreeing else -1) for n in range(words))
    return Match(first, first + max(agreeing, 1), made, float(agreeing))


STRONG, WEAK, CHANCE, NONE = matched(10, 10), matched(5, 12), matched(4, 8), matched(1, 12)


def test_a_weak_match_stands_between_strong_ones() -> None:
    assert judge.keep([STRONG, WEAK, STRONG]) == [STRONG, WEAK, STRONG]
    assert judge.keep([STRONG, WEAK, NONE, STRONG]) == [STRONG, WEAK, None, STRONG]  # nothing was heard of the other
    assert judge.keep([STRONG, WEAK, None, STRONG]) == [STRONG, WEAK, None, STRONG]


def test_chance_agreement_in_a_stretch_that_is_wrong_does_not_stand() -> None:
    wrong = [matched(2, 12), matched(3, 15), CHANCE, matched(3, 15), matched(4, 20)]
    assert judge.keep([STRONG, *wrong]) == [STRONG, None, None, None, None, None]
    assert judge.keep([STRONG, CHANCE, STRONG]) == [STRONG, CHANCE, STRONG]


def test_a_second_listening_must_agree_better() -> None:
    weak = matched(6, 16)  # 37.5 %
    assert judge.keep([weak], [None]) == [None]
    assert judge.keep([weak], [weak]) == [weak]
    assert judge.keep([weak]) == [weak]


def test_short_sentences_are_heard_whole() -> None:
    assert judge.keep([matched(2, 3)]) == [None]
    assert judge.keep([matched(3, 3)]) != [None]
    assert judge.keep([NONE, matched(3, 3)]) == [None, None], "nothing around it was heard"
    apart = Match(0, 9, (("a", 0, 0), ("b", 1, 8)), 2.0)
    assert judge.keep([apart]) == [None]


def test_words_far_from_the_rest_of_their_sentence_agree_by_chance() -> None:
    texts = "i think more than six is the right way".split()
    words = tuple((word, n, {0: 0, 1: 1, 6: 2, 7: 3, 8: 4}.get(n, -1)) for n, word in enumerate(texts))
    match = Match(0, 5, words, 3.0)

    def heard(pause: float) -> list[Heard]:
        starts = [0.0, 0.3, 0.6 + pause, 0.9 + pause, 1.2 + pause]
        return [Heard(texts[n], start, start + 0.3) for n, start in zip((0, 1, 6, 7, 8), starts, strict=True)]

    assert without_strays(match, heard(1.2), 0.07) == match  # as long as "more than six is" takes
    trimmed = without_strays(match, heard(6.0), 0.07)
    assert (trimmed.first, trimmed.last) == (2, 5)
    assert [index for _, _, index in trimmed.words] == [-1, -1, -1, -1, -1, -1, 2, 3, 4]


def test_short_sentences_lie_between_those_around_them() -> None:
    """ "Thank you." is said in every call, somewhere."""
    early, late = matched(10, 10), matched(10, 10, first=40)
    for first, stands in [(20, True), (2000, False)]:
        short = matched(2, 2, first=first)
        assert (judge.keep([early, short, late])[1] is not None) == stands
        assert (judge.keep([early, matched(10, 10, first=25), short, late])[2] is not None) == stands  # out of order


def sentences(count: int) -> list[Sentence]:
    return [Sentence(place, "word", (Token("word", (("word",),)),)) for place in range(count)]


def some(count: int, places: Iterable[int], match: Match = STRONG) -> list[Match | None]:
    found = set(places)
    return [match if place in found else None for place in range(count)]


def test_a_transcript_of_another_call_of_the_same_company_is_not_this_ones() -> None:
    """Its greetings and farewells are found, each word of them, and nothing between."""
    for places in ([0, 1, 2, 97, 98, 99], range(0, 100, 8)):
        assert not judge.belongs(sentences(100), some(100, places), 1500)
    assert judge.belongs(sentences(100), some(100, range(0, 100, 3)), 1000)


def test_a_transcript_that_begins_late_or_goes_on_is() -> None:
    assert judge.belongs(sentences(500), some(500, range(200, 224, 2)), 5000), "twelve of 24 in a row"
    assert judge.belongs(sentences(500), some(500, range(4)), 100), "of what was heard much"


def test_a_voice_that_is_heard_badly_is() -> None:
    faint = matched(7, 14)
    assert judge.belongs(sentences(100), some(100, range(0, 100, 4), faint), 1000)
    assert not judge.belongs(sentences(100), some(100, range(0, 100, 7), matched(5, 11)), 1000), "by chance"
    assert not judge.belongs(sentences(100), some(100, []), 1000)
    assert not judge.belongs([], [], 1000)


def test_confidence_is_the_share_of_words_expected_as_written() -> None:
    whole, lacking = matched(10, 10), replace(matched(10, 10), last=12)  # two words were heard that it does not have
    assert judge.confidence(whole) > 0.999
    assert round(judge.confidence(lacking), 2) == round(judge.confidence(matched(8, 10)), 2) == 0.94
    assert judge.confidence(matched(5, 10)) > 0.8 > judge.confidence(matched(3, 10)) > 0.5
    assert judge.confidence(matched(1, 10)) < 0.05
    assert judge.confidence(replace(whole, taken=True)) == 0.0
