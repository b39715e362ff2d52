"""What of a text is known: words that were not heard are left open where that tells of the transcript."""

from __future__ import annotations

import numpy as np
import polars as pl

from speechmill.align.known import Telling, Token, count, count_words, known_text, summed, telling, with_known_text
from speechmill.align.tables import WORDS

WORDS_EACH = 40  # of an utterance


def spoken(missed: dict[str, float], first: float = 0.0, utterances: int = 30) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Utterances of voices, a share of whose words are not heard; first words by a share of their own."""
    rng = np.random.default_rng(0)
    rows, heads = [], []
    for voice, share in missed.items():
        for number in range(utterances):
            name = f"{voice}-{number}"
            heads.append((name, f"{voice}.wav", voice, " ".join(["w"] * WORDS_EACH)))
            for place in range(WORDS_EACH):
                heard = rng.random() >= (share if place else first)
                rows.append((name, place, "w", float(place), place + 1.0, heard, 0, False, None))
    table = pl.DataFrame(heads, schema=["id", "recording", "speaker", "text"], orient="row")
    return table, pl.DataFrame(rows, schema=WORDS, orient="row")


def tells_of(utterances: pl.DataFrame, words: pl.DataFrame) -> Telling:
    return telling(count(words, utterances), count_words(words))


def open_words(utterances: pl.DataFrame, words: pl.DataFrame) -> pl.DataFrame:
    known = with_known_text(utterances, words, tells_of(utterances, words))
    text = pl.col("known_text").str
    return known.select("id", "speaker", opened=text.contains("★"), first=text.starts_with("★"))


def test_words_of_voices_that_are_heard_badly_stand_as_they_are_written() -> None:
    utterances, words = spoken({"clear": 0.03, "fair": 0.08, "hard": 0.45})
    found = open_words(utterances, words)
    assert found.filter(pl.col("speaker") == "hard")["opened"].sum() == 0
    for voice in ("clear", "fair"):
        heard = words.filter(pl.col("id").str.starts_with(voice)).group_by("id").agg(pl.col("heard").all())
        told = found.filter(speaker=voice).join(heard, on="id")
        assert told["opened"].sum() > 5
        assert (told["opened"] != told["heard"]).all()


def test_where_the_aligner_told_what_was_misheard_words_of_all_voices_are_left_open() -> None:
    utterances, words = spoken({"clear": 0.03, "fair": 0.08, "hard": 0.45}, first=0.4)
    words = words.with_columns(instead=pl.when("heard").then(None).otherwise(pl.lit("★")))
    found = open_words(utterances, words)
    assert found.filter(pl.col("speaker") == "hard")["opened"].all()
    assert found["first"].sum() == words.filter(pl.col("place") == 0, ~pl.col("heard")).height


def test_a_word_that_is_mostly_missed_stands_wherever_it_is_written() -> None:
    utterances, words = spoken({"clear": 0.03, "fair": 0.08})
    hard = (pl.col("place") == 7) & (pl.int_range(pl.len()) % 3 > 0)  # two thirds of these are missed
    words = words.with_columns(
        word=pl.when(pl.col("place") == 7).then(pl.lit("EBITDA,")).otherwise("word"), heard=pl.col("heard") & ~hard
    )
    words = words.with_columns(instead=pl.when("heard").then(None).otherwise(pl.lit("★")))
    utterances = utterances.with_columns(text=pl.lit("EBITDA, w"))  # as known as it is, where nothing is open
    tells = tells_of(utterances, words)
    assert tells.hard == {"EBITDA"}
    assert with_known_text(utterances, words, tells)["known_text"].str.contains("EBITDA").all()
    # Where the aligner told that it may be said nothing is missed.
    told = words.with_columns(instead=pl.when("heard").then(None).otherwise("word"))
    assert tells_of(utterances, told).hard == frozenset()
    few = words.filter(pl.col("id").is_in(["clear-0", "clear-1", "clear-2"]))
    assert tells_of(utterances, few).hard == frozenset()


def test_where_most_is_missed_a_word_that_was_heard_is_not_hard() -> None:
    counts = pl.DataFrame({"word": ["the", "rare", "odd"], "words": [100, 3, 3], "unheard": [60, 0, 3]})
    voices = pl.DataFrame(schema={"recording": pl.String, "speaker": pl.String, "where": pl.String,
                                  "words": pl.UInt32, "unheard": pl.UInt32})  # fmt: skip
    assert telling(voices, summed([counts[:1], counts[1:]])).hard == {"the", "odd"}


def test_where_transcripts_are_bad_for_all_voices_words_are_left_open() -> None:
    found = open_words(*spoken({"one": 0.3, "another": 0.35, "third": 0.4}))
    assert found["opened"].all()


def test_first_words_that_are_often_missed_stand() -> None:
    utterances, words = spoken({"clear": 0.03, "fair": 0.05}, first=0.4)
    found = open_words(utterances, words)
    assert found["first"].sum() == 0
    assert found["opened"].any()
    assert open_words(*spoken({"clear": 0.03, "fair": 0.05}, first=0.08))["first"].any()


def test_a_voice_with_few_words_is_judged_as_all_are() -> None:
    utterances, words = spoken({"clear": 0.03, "fair": 0.05})
    other, few = spoken({"short": 0.0}, utterances=1)
    missed = few.with_columns(heard=pl.col("place") != 7).filter(pl.col("place") < 9)  # one of seven inside
    found = open_words(pl.concat([utterances, other]), pl.concat([words, missed]))
    assert found.filter(speaker="short")["opened"].item()


def test_sentences_that_were_found_by_their_sound_stand_and_count_for_nothing() -> None:
    utterances, words = spoken({"clear": 0.0, "fair": 0.1})
    deaf = words.with_columns(heard=pl.col("heard") & (pl.col("id") != "clear-0"), by_sound=pl.col("id") == "clear-0")
    found = open_words(utterances, deaf)
    assert not found.filter(id="clear-0")["opened"].item()
    assert found.filter(pl.col("id") != "clear-0").equals(
        open_words(utterances, words).filter(pl.col("id") != "clear-0")
    )


def test_voices_with_utterances_of_two_words_are_judged_as_all_are() -> None:
    best, all_ = {"clear": 0.01}, {"clear": 0.01, "a": 0.4, "b": 0.4}
    other, two = spoken({"short": 0.0}, utterances=1)
    two = two.filter(pl.col("place") < 2).with_columns(heard=pl.col("place") == 0)
    for voices, opened in ((best, True), (all_, False)):
        utterances, words = spoken(voices)
        words = words.with_columns(heard=pl.col("heard") | (pl.col("place") == WORDS_EACH - 1))  # last ones are heard
        found = open_words(pl.concat([utterances, other]), pl.concat([words, two]))
        assert found.filter(speaker="short")["opened"].item() == opened


def test_what_is_missing_is_told_of_behind_words_that_were_heard() -> None:
    utterances, words = spoken({"one": 0.0}, utterances=1)
    words = words.filter(pl.col("place") < 4).with_columns(
        word=pl.Series(["a", "b", "c", "d"]), heard=pl.Series([True, False, True, True]),
        extra=pl.Series([1, 1, 0, 1], dtype=pl.Int32),
    )  # fmt: skip

    def known(voices: frozenset[tuple[str, str | None]], *places: str) -> str:
        text: str = with_known_text(utterances, words, Telling(voices, frozenset(places), frozenset(), frozenset()))[
            "known_text"
        ].item()
        return text

    voice = frozenset({("one.wav", "one")})
    assert known(voice, "first", "inside", "last") == known(voice, "inside") == "a ★ c d ★"
    assert known(voice) == "a ★ b c d ★"  # b may be there; what follows it was not asked
    assert known(frozenset(), "inside") == utterances["text"].item()


def test_voices_without_a_name() -> None:
    utterances, words = spoken({"clear": 0.03, "hard": 0.45})
    for dtype in (pl.String, pl.Null):
        nameless = utterances.with_columns(speaker=pl.lit(None, dtype))
        found = with_known_text(nameless, words, tells_of(nameless, words))
        opened = found.group_by("recording").agg(pl.col("known_text").str.contains("★").any())
        assert dict(opened.iter_rows()) == {"clear.wav": True, "hard.wav": False}


def test_one_recording_of_one_voice() -> None:
    utterances, words = spoken({"one": 0.2}, first=0.2)
    found = open_words(utterances, words)
    assert found["opened"].mean() > 0.9
    short = words.filter(pl.col("place") < 2)  # no word is inside
    assert open_words(utterances, short)["opened"].any()


def test_nothing_was_kept() -> None:
    utterances, words = spoken({"one": 0.2})
    nothing = with_known_text(utterances.clear(), words.clear(), tells_of(utterances.clear(), words.clear()))
    assert nothing.is_empty()
    assert nothing["known_text"].dtype == pl.String


def test_what_is_heard_instead_stands_where_any_transcript_has_its_words() -> None:
    tells = Telling(frozenset({("a", "x")}), frozenset({"inside"}), frozenset(), frozenset({"STRONG", "DEMAND"}))
    words = pl.DataFrame(
        [
            ("1", 0, "we", 0.0, 0.4, True, 0, False, None),
            ("1", 1, "saw", 0.5, 0.9, False, 0, False, None),
            ("1", 2, "it", 1.0, 1.4, True, 0, False, None),
        ],
        schema=WORDS, orient="row",
    )  # fmt: skip
    utterances = pl.DataFrame({"id": ["1"], "text": ["we saw it"], "recording": ["a"], "speaker": ["x"]})

    def known(instead: str) -> str:
        told = words.with_columns(instead=pl.when(pl.col("word") == "saw").then(pl.lit(instead)))
        return str(with_known_text(utterances, told, tells)["known_text"].item())

    assert known("Strong demand,") == "we Strong demand, it"
    assert known("strong $13.6") == "we strong $13.6 it", "numbers may be said that nobody wrote"
    assert known("strong lume") == known("\u2605") == "we \u2605 it"
    heard = utterances.with_columns(text=pl.lit(""), known_text=pl.lit("Lume ang strong, \u2605 demand 5%"))
    assert with_known_text(heard, words[:0], tells)["known_text"].item() == "\u2605 strong, \u2605 demand 5%"


def test_wildcards_stand_for_words_that_are_open_and_for_missing_ones() -> None:
    we, open_we, it = Token("we"), Token("we", known=False), Token("it")
    saw, open_saw = Token("saw"), Token("saw", known=False)
    pause, laughter = Token("--", said=False), Token("[laughter]", said=False)
    assert known_text([pause, open_we, pause, saw]) == "★ saw"
    assert known_text([we, pause, laughter, open_saw]) == "we ★"
    assert known_text([Token("we", more=True), pause, open_saw, it]) == "we ★ it"
    assert known_text([we, pause, saw]) == "we -- saw"


def test_what_is_said_instead_stands_where_it_is_clear_and_the_whole_place_is_open() -> None:
    we, saw, it = Token("we"), Token("saw", known=False, heard=False), Token("it")
    them, pause = Token("them", known=False, heard=False), Token("--", said=False)
    as_heard = saw._replace(instead="met her")
    assert known_text([we, as_heard, pause, them, pause, it]) == "we met her -- it"
    assert known_text([we, as_heard, them._replace(known=True), it]) == "we ★ them it", "part of it may be there"
    assert known_text([we, saw._replace(instead="★"), it]) == "we ★ it"
    hard = saw._replace(known=True, instead="saw them")
    assert (
        known_text([we, hard, them, it]) == known_text([we, hard._replace(known=False), them, it]) == "we saw them it"
    )
    assert known_text([we, saw._replace(instead="saw them"), them._replace(known=True), it]) == "we saw them it"
    assert known_text([we, as_heard, them._replace(instead="★"), it]) == "we met her ★ it", "two places"
    assert known_text([we._replace(more=True, instead="all"), it]) == "we all it"
    assert known_text([we._replace(more=True, instead="all"), saw, it]) == "we all it"
    assert known_text([we._replace(instead="all"), it]) == "we it", "that voice tells nothing of the transcript"
