"""The text of utterances as far as it is known: words that were not heard as written are left open, where that tells of
the transcript and not of who listened.

A written word that was not heard was not said, or it was hard to hear. How often words of one kind are not heard tells
which: transcripts are as wrong for all voices, so what a voice has beyond those that are heard best is not theirs. The
same goes for words at the edges of utterances. To leave them open would keep a model that is trained on the text from
ever learning what it hears badly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from speechmill.manifest import KNOWN_TEXT
from speechmill.text import WILDCARD

# An unheard word is left open where at least one in so many of its kind is not said as written: where it is not heard
# at most so many times as often as words inside utterances of the voices that are heard best, which have this share of
# all words.
_TELLING, _BEST = 4.0, 0.1
_PRIOR = 20.0  # words: a voice with fewer is judged rather as all are
_VOICE = ("recording", "speaker")
_FIRST, _INSIDE, _LAST = "first", "inside", "last"

Voice = tuple[str, str | None]


@dataclass(frozen=True)
class Telling:
    """Where an unheard word tells of the transcript: of these voices, at these places in an utterance."""

    voices: frozenset[Voice]
    places: frozenset[str]


def count(words: pl.DataFrame, utterances: pl.DataFrame) -> pl.DataFrame:
    """`recording, speaker, place, words, unheard` of one or more recordings: of the words that are said.

    Args:
        words: the columns of `tables.WORDS`, utterance by utterance.
    """
    said = _said(words).join(utterances.select("id", *_VOICE), on="id", how="left")
    heard_out = said.filter(~pl.col("by_sound"))  # of others it was not asked
    return heard_out.group_by(*_VOICE, "where").agg(words=pl.len(), unheard=(~pl.col("heard")).sum())


def telling(counts: pl.DataFrame) -> Telling:
    """What the counts of all recordings say."""
    rate = pl.col("unheard").sum() / pl.col("words").sum()
    inside = counts.filter(pl.col("where") == _INSIDE)
    if inside.is_empty():  # utterances of two words: all that can be said is that they were not heard
        return Telling(frozenset(counts.select(_VOICE).rows()), frozenset((_FIRST, _INSIDE, _LAST)))
    mean = inside.select(rate).item()
    voices = inside.group_by(*_VOICE).agg(pl.col("words", "unheard").sum())
    voices = voices.with_columns(
        rate=(pl.col("unheard") + _PRIOR * mean) / (pl.col("words") + _PRIOR)
    ).sort("rate", *_VOICE)  # fmt: skip
    best = voices.filter(pl.col("words").cum_sum() >= _BEST * pl.col("words").sum())["rate"][0]
    most = _TELLING * best
    deaf = voices.filter(pl.col("rate") > most)
    clear = counts.join(deaf, on=_VOICE, how="anti", nulls_equal=True)
    places = clear.group_by("where").agg(rate=rate).filter((pl.col("rate") <= most) | (pl.col("where") == _INSIDE))
    return Telling(frozenset(clear.select(_VOICE).rows()), frozenset(places["where"]))


def with_known_text(utterances: pl.DataFrame, words: pl.DataFrame, tells: Telling) -> pl.DataFrame:
    """The utterances with a column KNOWN_TEXT."""
    rows: dict[str, list[tuple[str, bool, bool, bool]]] = {}
    voices = {name: (recording, speaker) for name, recording, speaker in utterances.select("id", *_VOICE).iter_rows()}
    table = _placed(words).select("id", "word", "said", "where", "heard", "by_sound", "extra")
    for name, word, said, where, heard, by_sound, extra in table.iter_rows():
        open_ = voices[name] in tells.voices and where in tells.places and not by_sound
        rows.setdefault(name, []).append((word, said, heard or not open_, bool(extra) and open_))
    found = [known_text(rows.get(name, ())) for name in utterances["id"]]
    return utterances.with_columns(pl.Series(KNOWN_TEXT, found, pl.String))


def known_text(tokens: Iterable[tuple[str, bool, bool, bool]]) -> str:
    """What is written, a wildcard in the place of words that are left open, and where unwritten ones were heard.

    What is not said ("--") is left out beside a wildcard.

    Args:
        tokens: as written; whether it is said, and as written; whether more was said behind it.
    """
    words: list[str] = []
    unsaid = 0  # tokens at the end of `words` that are not said
    for written, said, known, more in tokens:
        if not said:
            if words[-1:] != [WILDCARD]:
                words.append(written)
                unsaid += 1
            continue
        if known:
            words.append(written)
            unsaid = 0
        if more or not known:
            del words[len(words) - unsaid :]
            unsaid = 0
            words += [WILDCARD] if words[-1:] != [WILDCARD] else []
    return " ".join(words)


def _placed(words: pl.DataFrame) -> pl.DataFrame:
    """With `said`, and `where` in its utterance a said word stands."""
    said = pl.col("start").is_not_null()
    words = words.with_columns(said=said, number=said.cum_sum().over("id"), of=said.sum().over("id"))
    where = pl.when(pl.col("number") == 1).then(pl.lit(_FIRST)).when(pl.col("number") == pl.col("of"))
    return words.with_columns(where=where.then(pl.lit(_LAST)).otherwise(pl.lit(_INSIDE)))


def _said(words: pl.DataFrame) -> pl.DataFrame:
    return _placed(words).filter("said")
