"""From transcript rows to manifest rows: look at each recording once, judge each row, account for those that fall.

What every importer but BizSpeech's (whose rows end where the next begins) has in common.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from speechmill.audio import probe
from speechmill.corpora.base import (
    DROPS,
    LONGEST_ID,
    RECORDINGS,
    ImportResult,
    Limits,
    Opened,
    checked,
    unknown_calls,
    with_unique_ids,
)
from speechmill.corpora.tables import BAD_TIME, MARKS, NO_AUDIO, UNTIMED_WORDS, marked
from speechmill.errors import SpeechmillError
from speechmill.manifest import SCHEMA, TIMED
from speechmill.progress import track

# One row of a transcript, as an importer reads it. Columns that it adds are carried into the manifest.
ITEMS: dict[str, pl.DataType] = {
    "row": pl.Int64(),  # line in the transcript; null where there is none
    "id": pl.String(),  # any text; made fit for a file name and unique here
    "recording": pl.String(),  # path of the audio file
    "start": pl.Float64(),  # seconds; null: from the recording's start
    "end": pl.Float64(),  # seconds; null: to the recording's end
    "text": pl.String(),
    "speaker": pl.String(),
    "call": pl.String(),
    "session": pl.String(),
    "native": pl.Boolean(),
    "reason": pl.String(),  # why the row is unusable; "" for a good one
    "detail": pl.String(),
    "untimed": pl.Boolean(),  # the transcript of a whole recording, whatever its length
}
_DEFAULTS: dict[str, object] = {
    "row": None, "start": None, "end": None, "speaker": "", "session": "", "native": None, "reason": "", "detail": "",
    "untimed": False,
}  # fmt: skip
_SLACK = 0.1  # seconds past the recording's end that are clipped: rounding
_THREADS = 8  # the work is waiting for a file system
_NAMED = 20  # calls that an error names
MISSING = "no such recording"


def items_table(columns: pl.DataFrame) -> pl.DataFrame:
    """Complete a table to ITEMS: columns that it lacks have their defaults, its own are kept behind them."""
    missing = [pl.lit(_DEFAULTS[name], kind).alias(name) for name, kind in ITEMS.items() if name not in columns.columns]
    table = columns.with_columns(missing).cast(ITEMS)  # type: ignore[arg-type]
    filled = [pl.col(name).fill_null("") for name in ("speaker", "session", "call", "id", "reason", "detail")]
    return table.with_columns(filled).select(*ITEMS, pl.exclude(*ITEMS))


def import_rows(
    source: Path,
    items: pl.DataFrame,
    *,
    include: set[str] | None = None,
    exclude: set[str] | None = None,
    limits: Limits | None = None,
    warnings: Iterable[str] = (),
) -> ImportResult:
    """Judge ITEMS into manifest rows and drops.

    Drops are counted by the importer's own reasons, then missing-recording, unreadable-recording, no-audio, bad-time,
    past-recording-end, empty-text, too-short, too-long; the first that applies. A row that is a whole recording and
    longer than `limits.max_seconds` is kept with `timed` false, to be aligned later. With `limits.ignore_times` no row
    falls for its times, and `limits` has no other say.
    Raises SpeechmillError where no recording can be read or no row is kept.
    """
    limits = limits or Limits()
    calls = items.filter(pl.col("call") != "")["call"].unique().sort().to_list()
    told = [*warnings, *unknown_calls("include", include, calls), *unknown_calls("exclude", exclude, calls)]
    chosen = [call for call in calls if (include is None or call in include) and call not in (exclude or set())]
    if items.is_empty():
        raise SpeechmillError(f"{source}: has no rows.")
    if calls and not chosen:
        raise SpeechmillError(f"{source}: none of its {len(calls)} calls is left by include and exclude.")
    items = _without_times(items) if limits.ignore_times else items
    nameless = pl.col("call") == ""  # a line that could not be read
    items = items.filter(pl.col("call").is_in(chosen) | (nameless if include is None else False))
    recordings = _probed(items.filter(reason="")["recording"])
    judged = _judged(items.join(recordings, on="recording", how="left", maintain_order="left"), limits)
    failures = _failures(judged)
    if recordings["length"].null_count() == recordings.height:
        raise SpeechmillError(f"{source}: {_none_readable(failures, judged)}")
    result = ImportResult(
        table=_manifest(judged, limits),
        drops=_drops(judged, limits),
        calls_read=len(chosen) - len(failures),
        calls_left_out=len(calls) - len(chosen),
        seconds=float(recordings["length"].sum()),
        recordings=_recordings(judged),
        failures=[f"{call}: {reason}: {detail}" for call, reason, detail in failures],
        warnings=told,
    )
    if not limits.ignore_times:
        result.warnings.extend(_untimed_warning(result.table))
    return checked(result, source)


def _probed(paths: pl.Series) -> pl.DataFrame:
    """Of each recording: `length` (seconds), `samplerate`, `lost` and `why` it cannot be read."""
    names = paths.drop_nulls().unique(maintain_order=True).to_list()

    def look(name: str) -> tuple[str, float | None, int | None, str, str]:
        try:
            info = probe(name)
        except SpeechmillError as error:
            lost = "missing-recording" if MISSING in str(error) else "unreadable-recording"
            return name, None, None, lost, str(error)
        return name, info.seconds, info.samplerate, "", ""

    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(track(pool.map(look, names), "import", len(names), "recordings"))
    schema = {"recording": pl.String, "length": pl.Float64, "samplerate": pl.Int64, "lost": pl.String, "why": pl.String}
    return pl.DataFrame(found, schema=schema, orient="row")


def _recordings(judged: pl.DataFrame) -> pl.DataFrame:
    """RECORDINGS: those that were looked at, and those of which no row can be used."""
    named = judged.filter(pl.col("recording").is_not_null()).unique("recording", keep="first", maintain_order=True)
    rest = _probed(named.filter(pl.col("lost").is_null())["recording"]).select("recording", also="length")
    named = named.join(rest, on="recording", how="left", maintain_order="left")
    return named.select("call", "recording", seconds=pl.coalesce("length", "also")).cast(RECORDINGS)  # type: ignore[arg-type]


def _judged(rows: pl.DataFrame, limits: Limits) -> pl.DataFrame:
    """Add the clipped times, `timed`, and a reason to every row that falls."""
    length, start, end = pl.col("length"), pl.col("start"), pl.col("end")
    has_text = pl.col("text").fill_null("").str.strip_chars() != ""
    usable = (pl.col("reason") == "") & has_text & length.is_not_null()
    if not limits.ignore_times:  # those that have no times and share a file: none of them is all of it
        usable &= start.is_null() & end.is_null()
        usable &= pl.col("text").filter(usable).n_unique().over("recording") > 1
        rows = rows.with_columns(untimed=pl.col("untimed") | usable)
    rows = _evenly(rows, usable)
    given = pl.col("reason") == ""  # of what its importer found unusable, a missing end says nothing
    rows = rows.with_columns(start=start.fill_null(0.0), end=end.fill_null(pl.when(given).then(length)))
    rows = rows.with_columns(end=pl.when(end.is_between(length, length + _SLACK)).then(length).otherwise(end))
    seconds = end - start
    is_whole = (start <= 0) & (end >= length - _SLACK) & (seconds > limits.max_seconds)
    untimed = pl.col("untimed") | is_whole.fill_null(False)
    span = pl.format("{} s to {} s", start.round(3), end.round(3))
    too_short, too_long = seconds < limits.min_seconds, seconds > limits.max_seconds
    of_limits = f"{{}} s; {limits.min_seconds:g} to {limits.max_seconds:g} s are kept"
    rules: list[tuple[str | pl.Expr, pl.Expr, pl.Expr]] = [  # reason, detail, where it applies
        (pl.col("reason"), pl.col("detail"), pl.col("reason") != ""),
        (pl.col("lost"), pl.col("why"), pl.col("lost") != ""),
        # Comparisons with null apply nowhere: from here on a length is known, and so an end.
        (NO_AUDIO, pl.lit("the row names no recording"), pl.col("recording").is_null() | length.is_null()),
        (BAD_TIME, span, ~(start.is_finite() & end.is_finite() & (start >= 0) & (end > start))),
        (
            "past-recording-end",
            pl.format("{}, the recording ends at {} s", span, length.round(3)),
            (end > length) | (start >= length),
        ),
        ("empty-text", pl.lit(""), ~has_text),
        ("too-short", pl.format(of_limits, seconds.round(3)), ~untimed & too_short),
        ("too-long", pl.format(of_limits, seconds.round(3)), ~untimed & too_long),
    ]
    reasons = [pl.when(wrong).then(pl.lit(name) if isinstance(name, str) else name) for name, _, wrong in rules]
    details = [pl.when(wrong).then(detail) for _, detail, wrong in rules]
    return rows.with_columns(
        untimed.not_().alias(TIMED), reason=pl.coalesce(*reasons, pl.lit("")), detail=pl.coalesce(*details, pl.lit(""))
    )


def _without_times(items: pl.DataFrame) -> pl.DataFrame:
    """The items as if nothing was known of their times."""
    reason = pl.col("reason")
    reason = pl.when(reason.is_in([BAD_TIME, UNTIMED_WORDS])).then(pl.lit("")).otherwise(reason)
    nothing = pl.lit(None, pl.Float64)
    return items.with_columns(reason.alias("reason"), start=nothing, end=nothing, untimed=pl.lit(True))


def _evenly(rows: pl.DataFrame, usable: pl.Expr) -> pl.DataFrame:
    """The rows, the usable ones sharing their recording in the order of the transcript."""
    share = pl.col("length") / usable.sum().over("recording")
    after = share * usable.cum_sum().over("recording")
    return rows.with_columns(
        start=pl.when(usable).then(after - share).otherwise("start"), end=pl.when(usable).then(after).otherwise("end")
    )


def _failures(judged: pl.DataFrame) -> list[tuple[str, str, str]]:
    """Calls of which no recording could be read: (call, reason, detail), of its recording rather than of a row."""
    lost = judged.group_by("call").agg(
        pl.col("length").is_null().all().alias("unread"),
        pl.coalesce(pl.col("lost").drop_nulls().first(), pl.col("reason").first()).alias("reason"),
        pl.coalesce(pl.col("why").drop_nulls().first(), pl.col("detail").first()).alias("detail"),
    )
    return lost.filter("unread", pl.col("call") != "").select("call", "reason", "detail").sort("call").rows()


def _none_readable(failures: list[tuple[str, str, str]], judged: pl.DataFrame) -> str:
    if not failures:  # not a line of the transcripts says where its audio is
        return f"no line of {len(judged)} can be used; the first: {judged['reason'][0]}: {judged['detail'][0]}"
    call, reason, detail = failures[0]
    message = f"none of {len(failures)} calls can be read; {call}: {reason}: {detail}"
    if others := [name for name, _, _ in failures[1:_NAMED]]:
        message += f" Likewise {', '.join(others)}{', ...' if len(failures) > _NAMED else ''}."
    return message


def _manifest(judged: pl.DataFrame, limits: Limits) -> pl.DataFrame:
    kept = judged.filter(reason="").with_columns(
        pl.col("id").str.replace_all("[^A-Za-z0-9_-]", "-").str.tail(LONGEST_ID - 8),  # room for a number behind it
        pl.col("text").str.strip_chars(),
        split=pl.lit(""),
    )
    extra = [name for name in kept.columns if name not in {*ITEMS, *SCHEMA, "length", "lost", "why"}]
    # A transcript without times is one in the order of its recording, whatever calls its rows name.
    by = ("recording", "start") if limits.ignore_times else ("call", "recording", "start", "row")
    kept = kept.sort(by, maintain_order=True)
    return with_unique_ids(kept.select(*SCHEMA, *extra))


def _drops(judged: pl.DataFrame, limits: Limits) -> pl.DataFrame:
    # A tab or a line break in a detail would break the table of drops.
    plain = pl.col("detail").str.replace_all(r"\s+", " ")
    spoken = pl.col("end") - pl.col("start")
    known = pl.col("length").is_not_null() & spoken.is_finite() & (spoken > 0)
    fallen = judged.filter(pl.col("reason") != "")
    known &= not limits.ignore_times
    seconds = pl.when(known).then(spoken.round(3)).alias("seconds")
    place = pl.coalesce("recording", "call")
    return fallen.select("call", "row", "reason", plain, seconds, place).cast(DROPS)  # type: ignore[arg-type]


def _untimed_warning(table: pl.DataFrame) -> list[str]:
    untimed = table.filter(~pl.col(TIMED))
    alone = pl.len().over("recording") == 1
    whole, shared = untimed.filter(alone), untimed.filter(~alone)
    notes = []
    if not whole.is_empty():
        notes.append(
            f"{len(whole)} recordings of {whole['call'].n_unique()} calls have no times and are imported whole (timed: "
            f"false), to be aligned later; select leaves them out: {_few(whole['call'])}"
        )
    if not shared.is_empty():
        notes.append(
            f"{len(shared)} rows without times share {shared['recording'].n_unique()} recordings (timed: false), to be "
            f"aligned later (`speechmill align`; import with --ignore-times where other rows' times are wrong); select "
            f"leaves them out: {_few(shared['call'])}"
        )
    return notes


def _few(calls: pl.Series) -> str:
    names = calls.unique().sort()
    return ", ".join(names.head(5)) + (", ..." if len(names) > 5 else "")


def with_audio(table: pl.DataFrame, name: str) -> pl.DataFrame:
    """The column of the audio's paths as text; rows where it is blank have null there, and the reason no-audio."""
    path = pl.col(name).cast(pl.String)
    table = table.with_columns(pl.when(path.str.strip_chars() != "").then(path).alias(name))
    return marked(table, NO_AUDIO, pl.lit(f"no path of an audio file in {name}"), pl.col(name).is_null())


def is_seconds(number: pl.Expr) -> pl.Expr:
    """Whether a cell is a time: a finite number."""
    return number.is_finite().fill_null(False)


def placed(path: pl.Expr, folder: Path) -> pl.Expr:
    """Paths as absolute ones; those that are relative are meant from `folder`."""
    return pl.when(path.str.starts_with("/")).then(path).otherwise(pl.lit(f"{folder}/") + path)


def carried(table: pl.DataFrame, used: Iterable[str]) -> tuple[pl.DataFrame, list[str]]:
    """The columns that an importer does not know, for the manifest; `split` becomes `subset`, as `select` makes splits.

    Returns them, and a warning about those whose names are the manifest's own.
    """
    known = set(used)
    own = {*ITEMS, *SCHEMA, TIMED, "length", "lost", "why", "samplerate"} - {"split"}
    names = [name for name in table.columns if name not in known and name not in own]
    taken = [name for name in table.columns if name not in known and name in own - set(MARKS)]
    renamed = {"split": "subset"} if "split" in names and "subset" not in names else {}
    warnings = [f"the columns {', '.join(taken)} have names of the manifest's own and are left out"] if taken else []
    return table.select(names).rename(renamed), warnings


def opened_rows(files: Iterable[Path], source: Path, items: pl.DataFrame, warnings: Iterable[str] = ()) -> Opened:
    """A corpus whose transcripts have been read; its recordings are looked at when it is imported."""
    recordings = items["recording"].drop_nulls().unique(maintain_order=True)
    told = list(warnings)

    def read(include: set[str] | None, exclude: set[str] | None, limits: Limits) -> ImportResult:
        return import_rows(source, items, include=include, exclude=exclude, limits=limits, warnings=told)

    return Opened([*files, *map(Path, recordings)], read)
