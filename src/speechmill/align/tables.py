"""What one recording gives: rows of utterances, words, sentences and spans, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from speechmill.align import judge
from speechmill.align.ledger import KEPT, SILENCE, SPANS, Span, account, check
from speechmill.align.recording import Aligned, Outcome
from speechmill.align.rest import Rest
from speechmill.align.transcript import Line
from speechmill.align.utterances import Utterance, utterances
from speechmill.corpora.base import LONGEST_ID, identifier
from speechmill.manifest import KNOWN_TEXT, QUIET, SCHEMA
from speechmill.settings import AlignSettings

WORDS: dict[str, pl.DataType] = {
    "id": pl.String(),  # of the utterance
    "place": pl.Int32(),  # in the utterance, from 0
    "word": pl.String(),  # as written
    "start": pl.Float64(),  # seconds in the recording; null where the token is not said ("--")
    "end": pl.Float64(),
    "heard": pl.Boolean(),  # false where something else was understood: a damaged word, or a hard one
    "extra": pl.Int32(),  # words heard after it, up to the next one heard, beyond those written there
    "by_sound": pl.Boolean(),  # its sentence was found by its sound, as a whole: `heard` says nothing then
    # What is said in the place of this word and of the unheard ones after it, or after this word if it was heard: what
    # is written there, where that may well be; other words; a wildcard for what is not clear, or not heard. Null
    # elsewhere, and where the aligner does not tell.
    "instead": pl.String(),
}
SENTENCES: dict[str, pl.DataType] = {
    "id": pl.String(),  # of the manifest's row; of a part of running text "ID_p3"
    "recording": pl.String(),
    "call": pl.String(),
    "place": pl.Int32(),  # in the transcript, from 0
    "text": pl.String(),
    "kept": pl.Boolean(),
    "reason": pl.String(),  # why not; empty where kept
    "confidence": pl.Float64(),
    "start": pl.Float64(),  # seconds; null where not kept
    "end": pl.Float64(),
    "unheard": pl.Int32(),  # words of it that were not heard as written
    "utterance": pl.String(),  # the (first) utterance that it is in; null where not kept
}


@dataclass(frozen=True)
class Tables:
    """The outcome of one recording. `failure` says in one line why it could not be aligned."""

    utterances: pl.DataFrame
    words: pl.DataFrame
    sentences: pl.DataFrame
    spans: pl.DataFrame
    failure: str = ""

    def by_name(self) -> dict[str, pl.DataFrame]:
        """The tables alone."""
        return {
            "utterances": self.utterances, "words": self.words, "sentences": self.sentences, "spans": self.spans,
        }  # fmt: skip


def tables(
    rows: pl.DataFrame, found: Sequence[Line], aligned: Aligned, settings: AlignSettings, rest: Sequence[Rest] = ()
) -> Tables:
    """The tables of a recording whose manifest rows are `rows`; its account is checked."""
    speakers = rows.select("speaker", "session").rows()
    made, left_out = utterances(aligned.outcomes, [speakers[line.row] for line in found], aligned.others, settings)
    names = _names(rows, found, made)
    where: dict[int, str] = {}
    for utterance, name in zip(made, names, strict=True):
        for place in utterance.places:
            where.setdefault(place, name)
    unfit = [(part, judge.TOO_LONG if part.seconds > settings.max_seconds else judge.TOO_SHORT) for part in left_out]
    why = {place: reason for part, reason in unfit for place in part.places}
    reasons = [_reason(outcome, where, why) for outcome in aligned.outcomes]
    recording = rows["recording"][0]
    spans = _spans(aligned, made, unfit, reasons, rest)
    check(recording, aligned.seconds, spans, len(found), reasons)
    return Tables(
        _with_rest(_utterances(rows, found, made, names, _silence(made, spans)), rows, rest, _silence(rest, spans)),
        _words(made, names),
        sentences_table(rows, found, aligned.outcomes, reasons, where),
        spans_table(recording, spans),
    )


def _suffixed(row_id: str, suffix: str) -> str:
    """An id made of a row's, of no more characters than a shard takes."""
    return identifier(row_id)[-(LONGEST_ID - len(suffix)) :] + suffix


def failed(rows: pl.DataFrame, found: Sequence[Line], seconds: float, reason: str, failure: str) -> Tables:
    """The tables of a recording that could not be aligned: all of it is rejected."""
    outcomes = [Outcome(line.sentence.place, reason, 0.0) for line in found]
    spans = account(seconds, [], [(0.0, seconds, reason)], [])
    none = rows.clear().with_columns(*(pl.lit(0.0).alias(name) for name in ("confidence", *QUIET)))
    return Tables(
        _ordered(none),
        pl.DataFrame(schema=WORDS),
        sentences_table(rows, found, outcomes, [reason] * len(found), {}),
        spans_table(rows["recording"][0], spans),
        failure,
    )


def _ordered(table: pl.DataFrame) -> pl.DataFrame:
    """The manifest's columns first, then the others."""
    return table.select([*SCHEMA, *(name for name in table.columns if name not in SCHEMA)])


def _reason(outcome: Outcome, where: dict[int, str], why: dict[int, str]) -> str:
    return why.get(outcome.place, judge.TOO_SHORT) if outcome.kept and outcome.place not in where else outcome.reason


def _names(rows: pl.DataFrame, found: Sequence[Line], made: Sequence[Utterance]) -> list[str]:
    """An utterance has its first sentence's id, with "_pN" of running text and "_cN" where a sentence was cut: what
    no importer puts behind an id."""
    ids = rows["id"].to_list()
    names = []
    for utterance in made:
        line = found[utterance.places[0]]
        of_text = f"_p{line.part}" if line.part else ""
        names.append(_suffixed(ids[line.row], of_text + (f"_c{utterance.part}" if utterance.part else "")))
    return names


def _spans(
    aligned: Aligned, made: Sequence[Utterance], unfit: Sequence[tuple[Utterance, str]], reasons: Sequence[str],
    rest: Sequence[Rest],
) -> list[Span]:  # fmt: skip
    kept = [(utterance.start, utterance.end) for utterance in made]
    rejected = [
        (outcome.start, outcome.end, reason)
        for outcome, reason in zip(aligned.outcomes, reasons, strict=True)
        if reason != judge.KEPT and outcome.start is not None and outcome.end is not None
    ]
    rejected += [(part.start, part.end, reason) for part, reason in unfit]
    if reasons and all(reason in (judge.OTHER, judge.NOTHING_TO_SAY) for reason in reasons):
        whole = judge.OTHER if judge.OTHER in reasons else judge.NOTHING_TO_SAY
        rejected = [(start, end, whole) for start, end in aligned.others]
    heard = [(one.start, one.end) for one in rest]
    return account(aligned.seconds, kept, rejected, aligned.others, heard)


def _utterances(
    rows: pl.DataFrame,
    found: Sequence[Line],
    made: Sequence[Utterance],
    names: Sequence[str],
    silence: Sequence[tuple[float, float]],
) -> pl.DataFrame:
    """Manifest rows of the utterances: what the corpus says of a sentence's row is carried along."""
    first = [found[utterance.places[0]].row for utterance in made]
    table = rows[first].with_columns(
        pl.Series("id", names, pl.String),
        pl.Series("start", [utterance.start for utterance in made], pl.Float64),
        pl.Series("end", [utterance.end for utterance in made], pl.Float64),
        pl.Series("text", [" ".join(token.written for token in u.tokens) for u in made], pl.String),
        pl.Series("confidence", [utterance.confidence for utterance in made], pl.Float64),
        *(pl.Series(name, [one[side] for one in silence], pl.Float64) for side, name in enumerate(QUIET)),
    )
    if "timed" in table.columns:  # the rows had no times of their own; these have
        table = table.with_columns(pl.lit(True).alias("timed"))
    return _ordered(table)


def _with_rest(
    table: pl.DataFrame, rows: pl.DataFrame, rest: Sequence[Rest], silence: Sequence[tuple[float, float]]
) -> pl.DataFrame:
    """The utterances, and in the order of time between them those of which nothing is written: their text is empty, and
    what is heard is the known one. Of the corpus' columns they have what all of the recording's rows have alike; who
    speaks is not known.
    """
    if not rest:
        return table
    given = pl.DataFrame(
        {
            "id": [_suffixed(rows["id"][0], f"_heard-{number}") for number in range(1, len(rest) + 1)],
            "start": [one.start for one in rest],
            "end": [one.end for one in rest],
            "text": [""] * len(rest),
            "session": [""] * len(rest),
            "confidence": [one.confidence for one in rest],
            KNOWN_TEXT: [one.text for one in rest],
            **{name: [one[side] for one in silence] for side, name in enumerate(QUIET)},
            "call": [rows["call"][0]] * len(rest),
        }
    )
    alike = [name for name in rows.columns if name not in (*given.columns, "speaker") and rows[name].n_unique() == 1]
    given = given.with_columns(pl.lit(rows[name][0], rows.schema[name]).alias(name) for name in alike)
    if "timed" in table.columns:
        given = given.with_columns(pl.lit(True).alias("timed"))
    return pl.concat([table, given], how="diagonal_relaxed").sort("start", maintain_order=True)


def _silence(made: Sequence[Utterance | Rest], spans: Sequence[Span]) -> list[tuple[float, float]]:
    """Seconds of silence before and after each utterance; two share what lies between them."""
    before: dict[float, float] = {}
    after: dict[float, float] = {}
    for number, span in enumerate(spans):
        if span.kind == SILENCE:
            kept = [one.kind == KEPT for one in spans[max(0, number - 1) : number + 2] if one is not span]
            length = span.seconds / (2 if len(kept) == 2 and all(kept) else 1)
            before[span.end], after[span.start] = length, length
    return [(before.get(one.start, 0.0), after.get(one.end, 0.0)) for one in made]


def _words(made: Sequence[Utterance], names: Sequence[str]) -> pl.DataFrame:
    rows = [
        (name, place, token.written, token.start, token.end, token.heard, token.extra, token.by_sound, token.instead)
        for utterance, name in zip(made, names, strict=True)
        for place, token in enumerate(utterance.tokens)
    ]
    return pl.DataFrame(rows, schema=WORDS, orient="row")


def sentences_table(
    rows: pl.DataFrame,
    found: Sequence[Line],
    outcomes: Sequence[Outcome],
    reasons: Sequence[str],
    where: dict[int, str],
) -> pl.DataFrame:
    """SENTENCES of a recording, in the order of its transcript."""
    ids, recording, call = rows["id"].to_list(), rows["recording"][0], rows["call"][0]
    given = [
        (
            ids[line.row] + (f"_p{line.part}" if line.part else ""), recording, call, line.sentence.place,
            line.sentence.text, reason == judge.KEPT, "" if reason == judge.KEPT else reason, outcome.confidence,
            outcome.start if reason == judge.KEPT else None, outcome.end if reason == judge.KEPT else None,
            sum(not token.heard for token in outcome.tokens), where.get(line.sentence.place),
        )
        for line, outcome, reason in zip(found, outcomes, reasons, strict=True)
    ]  # fmt: skip
    return pl.DataFrame(given, schema=SENTENCES, orient="row")


def spans_table(recording: str, spans: Sequence[Span]) -> pl.DataFrame:
    """SPANS of a recording, in the order of time."""
    return pl.DataFrame(
        [(recording, span.start, span.end, span.kind, span.reason) for span in spans], schema=SPANS, orient="row"
    )
