"""The text of utterances as far as it is known: words that were not heard as written are left open, where that tells of
the transcript and not of who listened. What the aligner hears in an open place (`opened`) stands there, if that is
clear, and of words that any transcript has: what a model spells of a word that it does not know is seldom one.

A written word that was not heard was not said, or it was hard to hear. An aligner that hears without the transcript
tells which (`Aligner.hear_between`). Of others, how often words of one kind are not heard does, as far as a transcript
is about as wrong for all voices: what a voice misses beyond those that are heard well is then not the transcript's. The
same goes for words at the edges of utterances, and, whoever listened, for a word that is missed more often than not
wherever it is written ("EBITDA", which a model had never learned). To leave them open would keep a model that is
trained on the text from ever learning what it hears badly (figures in docs/log.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from speechmill.manifest import KNOWN_TEXT
from speechmill.text import WILDCARD, joined, normalize

# Unheard words are left open of voices that miss, inside utterances, at most so many times what a good one does: that
# below which this share of all words is. At the edges, where these voices together miss no more than that.
_TELLING, _BEST = 4.0, 0.25
_PRIOR = 20.0  # words: a voice with fewer is judged rather as all are, and a word that is written less often
_MOSTLY = 0.5  # a word of which more are not heard is hard to hear
_VOICE = ("recording", "speaker")
_FIRST, _INSIDE, _LAST = "first", "inside", "last"  # of the said words of an utterance

Voice = tuple[str, str | None]


@dataclass(frozen=True)
class Telling:
    """Where an unheard word tells of the transcript: of these voices, at these places in an utterance, and where it is
    none of the `hard` words (normalized), which are missed more often than not: that is seldom the transcript's
    fault. `written`: all words that any transcript has (normalized)."""

    voices: frozenset[Voice]
    places: frozenset[str]
    hard: frozenset[str]
    written: frozenset[str]

    def may_be(self, heard: str) -> bool:
        """Whether a word that nothing but a model's hearing speaks for may stand: a number, or one that is written
        somewhere."""
        return all(part in self.written or any(map(str.isdigit, part)) for part in normalize(heard).split())


class Token(NamedTuple):
    """A word as written; what is not said ("--") is neither `known` nor has it `more`."""

    written: str
    said: bool = True
    known: bool = True  # it is said as it is written, as far as one can tell
    more: bool = False  # something that is not written is said after it
    heard: bool = True
    instead: str | None = None  # at the head of an open place, what is said there


def count(words: pl.DataFrame, utterances: pl.DataFrame) -> pl.DataFrame:
    """`recording, speaker, where, words, unheard` of one or more recordings: of the words that are said.

    Args:
        words: the columns of `tables.WORDS`, utterance by utterance.
    """
    voices = utterances.select("id", *(pl.col(name).cast(pl.String) for name in _VOICE))
    # Of sentences that were found by their sound it is not known which words were heard.
    asked = _placed(words).filter("said", ~pl.col("by_sound")).join(voices, on="id", how="left")
    return asked.group_by(*_VOICE, "where").agg(words=pl.len(), unheard=(~pl.col("heard")).sum())


def count_words(words: pl.DataFrame) -> pl.DataFrame:
    """`word` (normalized), `words`, `unheard` of one or more recordings. A word that was not heard counts as heard
    where the aligner told that it may be said."""
    said = words.filter(pl.col("start").is_not_null(), ~pl.col("by_sound"))
    said = said.with_columns(in_place=pl.col("instead").is_not_null().cum_sum().over("id"))
    written = pl.col("word").filter(~pl.col("heard")).str.join(" ").over("id", "in_place")
    may_be_said = (pl.col("instead").first().over("id", "in_place") == written).fill_null(False)
    said = said.with_columns(_normalized(said["word"]), missed=~pl.col("heard") & ~may_be_said)
    return said.group_by("word").agg(words=pl.len(), unheard=pl.col("missed").sum())


def summed(by_word: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """What `count_words` gives, of all its recordings together."""
    return pl.concat(by_word).group_by("word").agg(pl.col("words", "unheard").sum())


def telling(counts: pl.DataFrame, by_word: pl.DataFrame) -> Telling:
    """What the counts of all recordings say, those of `count` and of `count_words`, `summed`."""
    hard, written = _hard(by_word), frozenset(part for word in by_word["word"] for part in word.split())
    inside = pl.col("where") == _INSIDE
    voices = counts.group_by(*_VOICE).agg(pl.col("words", "unheard").filter(inside).sum())
    words, unheard = (int(voices[name].sum()) for name in ("words", "unheard"))
    if not words:  # utterances of two words: there is nothing to compare with
        return Telling(frozenset(voices.select(_VOICE).rows()), frozenset((_FIRST, _INSIDE, _LAST)), hard, written)
    voices = voices.with_columns(rate=_rate(unheard / words)).sort("rate", *_VOICE)
    most = _TELLING * voices.filter(pl.col("words").cum_sum() >= _BEST * words)["rate"][0]
    clear = voices.filter(pl.col("rate") <= most)
    of_clear = counts.join(clear.select(_VOICE), on=_VOICE, how="semi", nulls_equal=True)
    places = of_clear.group_by("where").agg(rate=pl.col("unheard").sum() / pl.col("words").sum())
    told = places.filter(inside | (pl.col("rate") <= most))
    return Telling(frozenset(clear.select(_VOICE).rows()), frozenset(told["where"]), hard, written)


def _hard(by_word: pl.DataFrame) -> frozenset[str]:
    words, unheard = (int(by_word[name].sum()) for name in ("words", "unheard"))
    return frozenset(by_word.filter(_rate(min(unheard / max(words, 1), _MOSTLY)) > _MOSTLY)["word"])


def _rate(mean: float) -> pl.Expr:
    """How often words of one kind are not heard; as all are, where there are few."""
    return (pl.col("unheard") + _PRIOR * mean) / (pl.col("words") + _PRIOR)


def _normalized(words: pl.Series) -> pl.Series:
    known = {word: normalize(word) for word in words.unique()}
    return words.replace_strict(known, return_dtype=pl.String)


def with_known_text(utterances: pl.DataFrame, words: pl.DataFrame, tells: Telling) -> pl.DataFrame:
    """The utterances with a column KNOWN_TEXT; those of which nothing is written (`rest`) have it already."""
    clear = [voice in tells.voices for voice in utterances.select(_VOICE).iter_rows()]
    asked = utterances.select("id", clear=pl.Series(clear, dtype=pl.Boolean))
    # Where the aligner was asked what is said instead it has told what was misheard: nothing is left to be reckoned.
    asked_of = pl.col("instead").is_not_null().any().over("id")
    # Then an unheard word inside is left open, and one more is told of.
    told = (pl.col("clear") | asked_of) & ~pl.col("by_sound")
    there = pl.col("where").is_in(tells.places) | asked_of
    words = words.with_columns(_instead(words["instead"], tells))
    table = _placed(words).join(asked, on="id", how="left", maintain_order="left")
    table = table.with_columns(
        known=pl.col("heard") | ~(told & there) | _normalized(table["word"]).is_in(tells.hard),
        more=(pl.col("extra") > 0) & told & (pl.col("heard") | there),
    )
    opened: dict[str, list[Token]] = {}
    wanted = (pl.col("said") & ~pl.col("known")) | pl.col("more")
    of_token = ("word", "said", "known", "more", "heard", "instead")
    for name, *token in table.filter(wanted.any().over("id")).select("id", *of_token).iter_rows():
        opened.setdefault(name, []).append(Token(*token))
    given = utterances[KNOWN_TEXT] if KNOWN_TEXT in utterances.columns else [None] * len(utterances)
    found = [
        known_text(opened[name]) if name in opened else text or (heard and _with_wildcards(heard, tells))
        for (name, text), heard in zip(utterances.select("id", "text").iter_rows(), given, strict=True)
    ]
    return utterances.drop(KNOWN_TEXT, strict=False).with_columns(pl.Series(KNOWN_TEXT, found, pl.String))


def _instead(instead: pl.Series, tells: Telling) -> pl.Series:
    """What is said instead; a wildcard where no transcript has a word of it."""
    known = {
        text: text if all(map(tells.may_be, text.split())) else WILDCARD
        for text in instead.unique()
        if text is not None
    }
    return instead.replace_strict(known, default=None, return_dtype=pl.String)


def _with_wildcards(heard: str, tells: Telling) -> str:
    """What is heard where nothing is written, with wildcards for words that no transcript has."""
    return joined(word if word == WILDCARD or tells.may_be(word) else WILDCARD for word in heard.split())


def known_text(tokens: Iterable[Token]) -> str:
    """What is written; in the place of what is not known what is said instead, or a wildcard.

    What is not said ("--") is left out beside a wildcard.
    """
    words: list[str] = []
    unsaid = 0  # tokens at the end of `words` that are not said
    given = _with_instead(list(tokens))
    for token in given:
        if not token.said:
            if words[-1:] != [WILDCARD]:
                words.append(token.written)
                unsaid += 1
            continue
        if token.known:
            words.append(token.written)
            unsaid = 0
        if token.more or not token.known:
            del words[len(words) - unsaid :]
            unsaid = 0
            words += [WILDCARD] if words[-1:] != [WILDCARD] else []
    return " ".join(words) if any(token.said for token in given) else WILDCARD


def _with_instead(tokens: list[Token]) -> list[Token]:
    """The tokens, with what is said instead in the place of those open places that are clear: where it is what is
    written there, or nothing of the place is known, as what was heard is of the whole."""
    given: list[Token] = []
    place = 0
    while place < len(tokens):
        head, last = tokens[place], place + 1
        if head.instead not in (None, WILDCARD):
            last = _end_of_place(tokens, place)
            said = [token for token in tokens[place:last] if token.said]
            as_written = " ".join(token.written for token in said if not token.heard) == head.instead
            if as_written or all(token.more or not token.known for token in said):
                given += [head._replace(more=False)] if head.heard else []
                given += [Token(word) for word in (head.instead or "").split()]
                place = last
                continue
        given.append(head)
        place += 1
    return given


def _end_of_place(tokens: list[Token], head: int) -> int:
    """Where an open place ends: behind the last of the unheard tokens that follow its head."""
    last = head + 1
    for place in range(head + 1, len(tokens)):
        if tokens[place].said:
            if tokens[place].heard or tokens[place].instead is not None:
                break
            last = place + 1
    return last


def _placed(words: pl.DataFrame) -> pl.DataFrame:
    """With `said`, and `where` in its utterance a said word stands."""
    said = pl.col("start").is_not_null()
    words = words.with_columns(said=said, number=said.cum_sum().over("id"), of=said.sum().over("id"))
    where = pl.when(pl.col("number") == 1).then(pl.lit(_FIRST)).when(pl.col("number") == pl.col("of"))
    return words.with_columns(where=where.then(pl.lit(_LAST)).otherwise(pl.lit(_INSIDE)))
