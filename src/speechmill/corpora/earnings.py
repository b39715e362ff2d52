"""Earnings-21 and Earnings-22: earnings calls of an hour, transcribed by Rev.

    media/4482110.mp3                     any audio of that name under the folder: WAV before MP3 before FLAC
    transcripts/nlp_references/4482110.nlp                            token|speaker|ts|endTs|punctuation|case|tags
    transcripts/force_aligned_nlp_references/4482110.aligned.nlp      the same with times (Earnings-22 only)
    metadata.csv                          File ID,Ticker Symbol,Country by Ticker,UN Defined,Major Dialect Family,
                                          Language Family + Area Based,File Length (seconds),Sampling Rate (Hz)
    earnings21-file-metadata.csv          file_id,audio_length,sample_rate,company_name,financial_quarter,sector,..

Files are found by their names wherever they lie. An utterance is a sentence of one speaker, the text as written. Where
fewer than half of a call's words have times, the call is one row: the whole recording, `timed` false, with the path of
its reference as `transcript`.

Earnings-22's native is "the language family of the company's country is English": a property of the country in which
the share is listed, not of the speaker. Earnings-21 says nothing of the kind: unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from speechmill.audio import probe
from speechmill.corpora.base import ImportResult, Limits, Opened, files_under
from speechmill.corpora.rows import items_table, opened_rows
from speechmill.corpora.sentences import Sentence, sentences, timed_units
from speechmill.corpora.tables import UNTIMED_WORDS, column, read_delimited
from speechmill.errors import SpeechmillError
from speechmill.nlp import Nlp, read_nlp

ALIGNED = ".aligned.nlp"
_AUDIO = (".wav", ".mp3", ".flac", ".ogg")  # the first that is there
_ENGLISH = "English"
_TIMED_SHARE = 0.5  # of the words: with fewer, the times of the others are not to be trusted
_LENGTH_SLACK = 1.0  # seconds that a recording may differ from its stated length: the tables round to whole ones


@dataclass(frozen=True)
class Release:
    """How one of the two corpora names its metadata."""

    name: str
    tables: tuple[str, ...]  # the first that is there
    call: str
    length: str
    columns: Mapping[str, str]  # of the manifest -> of the table
    native: str | None = None  # column of the manifest that says the language family


EARNINGS21 = Release(
    "earnings21",
    ("earnings21-file-metadata.csv", "file-metadata.csv", "eval10-file-metadata.csv"),
    "file_id",
    "audio_length",
    {"company": "company_name", "sector": "sector", "quarter": "financial_quarter"},
)
EARNINGS22 = Release(
    "earnings22",
    ("metadata.csv",),
    "File ID",
    "File Length (seconds)",
    {
        "company": "Ticker Symbol",
        "country": "Country by Ticker",
        "region": "UN Defined",
        "dialect_family": "Major Dialect Family",
        "language_family": "Language Family + Area Based",
    },
    "language_family",
)


@dataclass(frozen=True)
class _Call:
    name: str
    reference: Path
    aligned: Path | None
    recording: Path | None


def open_earnings21(source: Path) -> Opened:
    """Raises SpeechmillError where there is no reference."""
    return _open(source, EARNINGS21)


def open_earnings22(source: Path) -> Opened:
    """Raises SpeechmillError where there is no reference."""
    return _open(source, EARNINGS22)


def _open(source: Path, release: Release) -> Opened:
    if not source.is_dir():
        raise SpeechmillError(f"{source}: is a file; the folder of {release.name} was expected.")
    calls = _find_calls(source, release)
    table = next((path for name in release.tables if (path := source / name).is_file()), None)
    metadata, warnings = _metadata(source, table, release)
    rows = items_table(pl.concat([_rows(source, call) for call in calls]))
    items = rows.join(metadata, on="call", how="left", maintain_order="left").drop("native_of", "stated")
    native = rows.select("call").join(metadata, on="call", how="left", maintain_order="left")["native_of"]
    items = items.with_columns(native=native)
    warnings += _unknown(metadata, calls, table, release)
    opened = opened_rows(_read_files(calls, table), source, items, warnings)
    stated = dict(metadata.select("call", "stated").drop_nulls().iter_rows())

    def read(include: set[str] | None, exclude: set[str] | None, limits: Limits) -> ImportResult:
        result = opened.read(include, exclude, limits)
        result.warnings.extend(_lengths(result.table, stated))
        return result

    return Opened(opened.files, read)


def _find_calls(source: Path, release: Release) -> list[_Call]:
    found = files_under(source)
    aligned = {path.name.removesuffix(ALIGNED): path for path in found if path.name.endswith(ALIGNED)}
    audio = {(path.stem, path.suffix.lower()): path for path in found if path.suffix.lower() in _AUDIO}
    # What recognizers made of the calls may lie there too (Earnings-21's `output`), with names like the references'.
    written = [
        path
        for path in found
        if path.suffix == ".nlp"
        and not path.name.endswith(ALIGNED)
        and not any(part.startswith("output") for part in path.relative_to(source).parts[:-1])
    ]
    named = [path for path in written if "references" in path.parent.name]
    references = {path.stem: path for path in named or written}
    for name in sorted(aligned.keys() - references.keys()):
        references[name] = aligned[name]
    if not references:
        raise SpeechmillError(
            f"{source}: no reference in it; {release.name} has transcripts/nlp_references/CALL.nlp (or references/)."
        )
    return [
        _Call(name, path, aligned.get(name), next((audio[name, end] for end in _AUDIO if (name, end) in audio), None))
        for name, path in sorted(references.items())
    ]


def _read_files(calls: list[_Call], table: Path | None) -> list[Path]:
    files = [path for call in calls for path in (call.reference, call.aligned) if path is not None]
    return [*files, *([table] if table else [])]


def _metadata(source: Path, table: Path | None, release: Release) -> tuple[pl.DataFrame, list[str]]:
    """call -> the release's columns, `native_of` and `stated` (seconds); what the table lacks is null, and said."""
    names = ["call", *release.columns]
    schema = dict.fromkeys(names, pl.String()) | {"native_of": pl.Boolean(), "stated": pl.Float64()}
    if table is None:
        missing = f"no {' or '.join(release.tables)} in {source}: {', '.join([*release.columns, 'native'])} are unknown"
        return pl.DataFrame(schema=schema), [missing]
    found = read_delimited(table, ",", (release.call,), quoted=True)
    absent = [name for name in (*release.columns.values(), release.length) if name not in found.columns]
    warnings = [f"{table.name}: no column {name!r}: what it says is unknown" for name in absent]
    if broken := int((found["reason"] != "").sum()):
        warnings.append(
            f"{table.name}: {broken} lines cannot be read: {found.filter(pl.col('reason') != '')['detail'][0]}"
        )
    family = column(found, release.columns[release.native]) if release.native else pl.lit(None, pl.String)
    columns = found.filter(pl.col("reason") == "").select(
        pl.col(release.call).alias("call"),
        *(column(found, theirs).alias(ours) for ours, theirs in release.columns.items()),
        (family == _ENGLISH).alias("native_of"),
        column(found, release.length, pl.Float64).alias("stated"),
    )
    return columns.drop_nulls("call").unique("call", keep="first", maintain_order=True), warnings


def _unknown(metadata: pl.DataFrame, calls: list[_Call], table: Path | None, release: Release) -> list[str]:
    if table is None:
        return []
    warnings = []
    have = {call.name for call in calls}
    known = set(metadata["call"])
    if unknown := sorted(have - known):
        warnings.append(f"{table.name}: {len(unknown)} of {len(calls)} calls are not in it: {', '.join(unknown[:5])}")
    if absent := sorted(known - have):
        warnings.append(
            f"{len(absent)} of the {len(known)} calls of {table.name} have no reference here: {', '.join(absent[:5])}"
            + (", ..." if len(absent) > 5 else "")
        )
    if release.native:
        warnings.append("native: the language family of the company's country is English; it is not the speaker's")
    return warnings


_ROW: dict[str, pl.DataType] = {
    "row": pl.Int64(), "id": pl.String(), "recording": pl.String(), "start": pl.Float64(), "end": pl.Float64(),
    "text": pl.String(), "speaker": pl.String(), "call": pl.String(), "reason": pl.String(), "detail": pl.String(),
    "untimed": pl.Boolean(), "transcript": pl.String(),
}  # fmt: skip


def _rows(source: Path, call: _Call) -> pl.DataFrame:
    """The sentences of a call, or the call as a whole where it has no times."""
    recording = str(call.recording or source / "media" / f"{call.name}.mp3")  # where it should be, for the message
    common = {"recording": recording, "call": call.name, "transcript": str(call.reference)}
    whole = {"id": call.name, "reason": "", "detail": "", "untimed": False} | common
    try:
        reference = read_nlp(call.reference)
        aligned = read_nlp(call.aligned) if call.aligned else reference
    except SpeechmillError as error:
        return _frame([whole | {"reason": _reason(error), "detail": str(error)}])
    if not reference.tokens:
        return _frame([whole | {"reason": "empty-transcript", "detail": f"{call.reference}: a header and no token"}])
    units = timed_units(reference.tokens, aligned.tokens)
    if timed_share(aligned) < _TIMED_SHARE:
        text = " ".join(token.written for token in reference.tokens)
        return _frame([whole | {"text": text, "untimed": True}])
    return _frame([_row(call.name, sentence) | common for sentence in sentences(units)])


def timed_share(nlp: Nlp) -> float:
    """The share of tokens that have a time."""
    return sum(token.ts is not None and token.end_ts is not None for token in nlp.tokens) / max(1, len(nlp.tokens))


def _row(call: str, sentence: Sentence) -> dict[str, object]:
    reason, detail = "", ""
    if sentence.marks:
        reason, detail = "not-understood", " ".join(sentence.marks)
    elif sentence.start is None:
        reason, detail = UNTIMED_WORDS, f"{sentence.untimed} words have no time"
    return {
        "row": sentence.line, "id": f"{call}_{sentence.line:06d}", "start": sentence.start, "end": sentence.end,
        "text": sentence.text, "speaker": f"{call}_{sentence.speaker}", "reason": reason, "detail": detail,
        "untimed": False,
    }  # fmt: skip


def _frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=_ROW)


def _reason(error: SpeechmillError) -> str:
    if "not UTF-8" in str(error):
        return "not-utf8"
    return "missing-column" if "no column" in str(error) else "unreadable-transcript"


def _lengths(table: pl.DataFrame, stated: dict[str, float]) -> list[str]:
    """Recordings whose length is not what the metadata say: the recording is believed."""
    warnings = []
    for call, recording in table.select("call", "recording").unique().sort("call").iter_rows():
        seconds = probe(recording).seconds
        if call in stated and abs(seconds - stated[call]) > _LENGTH_SLACK:
            warnings.append(f"{call}: the recording has {seconds:.1f} s, the metadata say {stated[call]:.1f} s")
    return warnings
