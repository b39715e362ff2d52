"""What of a text is known: words that were not heard are left open where that tells of the transcript."""

from __future__ import annotations

import numpy as np
import polars as pl

from speechmill.align.known import count, known_text, telling, with_known_text
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
                rows.append((name, place, "w", float(place), place + 1.0, heard, 0, False))
    table = pl.DataFrame(heads, schema=["id", "recording", "speaker", "text"], orient="row")
    return table, pl.DataFrame(rows, schema=WORDS, orient="row")


def open_words(utterances: pl.DataFrame, words: pl.DataFrame) -> pl.DataFrame:
    known = with_known_text(utterances, words, telling(count(words, utterances)))
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


def test_one_recording_of_one_voice() -> None:
    utterances, words = spoken({"one": 0.2}, first=0.2)
    found = open_words(utterances, words)
    assert found["opened"].mean() > 0.9
    short = words.filter(pl.col("place") < 2)  # no word is inside
    assert open_words(utterances, short)["opened"].any()


def test_nothing_was_kept() -> None:
    utterances, words = spoken({"one": 0.2})
    nothing = with_known_text(utterances.clear(), words.clear(), telling(count(words.clear(), utterances.clear())))
    assert nothing.is_empty()
    assert nothing["known_text"].dtype == pl.String


def test_wildcards_stand_for_words_that_are_open_and_for_missing_ones() -> None:
    def token(written: str, known: bool = True, more: bool = False) -> tuple[str, bool, bool, bool]:
        return written, written not in ("--", "[laughter]"), known, more

    assert known_text([token("--"), token("we", False), token("--"), token("saw")]) == "★ saw"
    assert known_text([token("we"), token("--"), token("[laughter]"), token("saw", False)]) == "we ★"
    assert known_text([token("we", more=True), token("--"), token("saw", False), token("it")]) == "we ★ it"
    assert known_text([token("we"), token("--"), token("saw")]) == "we -- saw"
