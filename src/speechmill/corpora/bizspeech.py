"""The BizSpeech layout: one folder per earnings call, one time-aligned transcript in each.

    MEDIA/<call>/recording.wav                    or .mp3, .flac
    MEDIA/<call>/transcript_timealigned.txt       tab-separated, no quoting:

        SentenceID  SpeakerID  Session       SentenceTimeGen  Sentence
        S0000       101        presentation  00:00:00.400     Good morning, and welcome to the call.
        S0001       102        q-and-a       00:00:03.150     Thank you. What drove the margin?

    metadata/BizSpeech_MetaData.json    {"<call>": {"partition": 5, "ceoID": "102", "company": .., "country": ..}}

An utterance ends where the next row starts; the last row only closes. Partition 5 holds the native speakers' calls.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from speechmill.artefact import read_json, read_text
from speechmill.audio import AudioInfo, probe
from speechmill.corpora.base import (
    RECORDINGS,
    CallResult,
    ImportResult,
    Limits,
    Opened,
    checked,
    drops_table,
    empty_rows,
    find_recording,
    identifier,
    unknown_calls,
    with_unique_ids,
)
from speechmill.corpora.tables import BAD_TIME
from speechmill.errors import SpeechmillError
from speechmill.manifest import SCHEMA, TIMED
from speechmill.progress import track

TRANSCRIPT = "transcript_timealigned.txt"
METADATA = Path("metadata") / "BizSpeech_MetaData.json"
COLUMNS = ("SentenceID", "SpeakerID", "Session", "SentenceTimeGen", "Sentence")
SESSIONS = ("presentation", "q-and-a")
EXTRA: dict[str, pl.DataType] = {
    "ceo": pl.Boolean(),  # null where the metadata do not say
    "company": pl.String(),
    "country": pl.String(),
    "samplerate": pl.Int64(),  # Hz, of the recording
}
_NATIVE = 5
_SLACK = 0.1  # seconds past the recording's end that are clipped: rounding of the closing row
_THREADS = 8  # the work is waiting for a file system
_TIME = re.compile(r"([0-9]{1,3}):([0-5]?[0-9]):([0-5]?[0-9](?:\.[0-9]*)?)")


class Row(NamedTuple):
    """One line of a transcript. `time` is null where it could not be read; `fault` is why the row is unusable."""

    line: int
    sentence: str
    speaker: str
    session: str
    time: float | None  # seconds
    text: str
    fault: tuple[str, str] | None  # reason, detail


class _Failure(Exception):
    """A call that cannot be read: it is dropped with its reason, the others go on."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def open_bizspeech(source: Path) -> Opened:
    """Raises SpeechmillError where `source` is not in this layout."""
    files = [source / METADATA]
    for call in list_calls(source):
        folder = source / "MEDIA" / call
        files += [folder / TRANSCRIPT, _recording_of(folder)]
    return Opened(
        files,
        lambda include, exclude, limits: import_bizspeech(source, include=include, exclude=exclude, limits=limits),
    )


def _recording_of(folder: Path) -> Path:
    try:
        return find_recording(folder) or folder
    except OSError:  # no permission to look: the importer says so of the call
        return folder


def import_bizspeech(
    source: Path,
    *,
    include: set[str] | None = None,
    exclude: set[str] | None = None,
    limits: Limits | None = None,
) -> ImportResult:
    """Read a corpus in the BizSpeech layout; `include` and `exclude` are names of calls (the folders under MEDIA).

    Dropped rows are counted by reason: bad-row, bad-time, end-before-start, empty-text, too-short, too-long,
    past-recording-end, unknown-end; all rows of a call by missing-recording, unreadable-recording. Calls whose rows are
    not known are counted once: missing-transcript, unreadable-transcript, not-utf8, missing-column, empty-transcript.
    Raises SpeechmillError where nothing can be imported: no such folder, no calls, no call readable, no row kept.
    """
    calls = list_calls(source)
    metadata = read_metadata(source)
    chosen = [call for call in calls if (include is None or call in include) and call not in (exclude or set())]
    warnings = unknown_calls("include", include, calls) + unknown_calls("exclude", exclude, calls)
    if not chosen:
        raise SpeechmillError(f"{source / 'MEDIA'}: none of its {len(calls)} calls is left by include and exclude.")

    def read(call: str) -> CallResult:
        return read_call(source / "MEDIA" / call, metadata.get(call, {}), limits or Limits())

    with ThreadPoolExecutor(_THREADS) as pool:
        results = list(track(pool.map(read, chosen), "import", len(chosen), "calls"))
    gathered = _gathered(source, results, len(calls) - len(chosen), warnings)
    if limits and limits.ignore_times:
        return replace(gathered, table=gathered.table.with_columns(pl.lit(False).alias(TIMED)))
    return gathered


def list_calls(source: Path) -> list[str]:
    """The folders under MEDIA, sorted. Raises SpeechmillError where there are none."""
    media = source / "MEDIA"
    if not source.is_dir():
        raise SpeechmillError(f"{source}: no such folder; the folder that holds MEDIA was expected.")
    if not media.is_dir():
        raise SpeechmillError(f"{source}: has no folder MEDIA; the layout is MEDIA/<call>/recording.wav.")
    calls = sorted(entry.name for entry in media.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not calls:
        raise SpeechmillError(f"{media}: the corpus is empty; a folder for each call was expected.")
    return calls


def read_metadata(source: Path) -> dict[str, dict[str, Any]]:
    """Call -> what is known of it; empty where there is no metadata file (then `native` and `ceo` are null)."""
    path = source / METADATA
    if not path.exists():
        return {}
    metadata = read_json(path)
    if not isinstance(metadata, dict) or not all(isinstance(value, dict) for value in metadata.values()):
        raise SpeechmillError(f'{path}: expected an object of objects, {{"<call>": {{"partition": 5, ...}}}}.')
    return metadata


def read_call(folder: Path, metadata: dict[str, Any], limits: Limits) -> CallResult:
    """Read one call; one that cannot be read is a CallResult with a `failure`."""
    call = folder.name
    rows: list[Row] = []
    try:
        rows = read_transcript(folder / TRANSCRIPT)
        recording, info = _read_recording(folder)
    except _Failure as failure:
        # With a transcript, each of its utterances is lost; the closing row is one where it has a sentence.
        lines: list[int | None] = [row.line for row in rows if row.text or row is not rows[-1]]
        drops = drops_table([(call, line, failure.reason, failure.detail, None) for line in lines or [None]])
        return CallResult(call, empty_rows(EXTRA), drops, None, f"{call}: {failure.reason}: {failure.detail}")
    kept, drops_found = judge(rows, info.seconds, limits)
    table = _table(call, recording, info, metadata, rows, kept)
    return CallResult(call, table, drops_table([(call, *drop) for drop in drops_found]), info.seconds)


def read_transcript(path: Path) -> list[Row]:
    """Parse a transcript, by the names in its header, in any order; columns that it adds are passed over."""
    try:
        if not path.is_file():
            raise _Failure("missing-transcript", f"{path}: no such file.")
        lines = read_text(path).split("\n")  # not splitlines(): U+2028 and form feeds are part of a sentence
    except SpeechmillError as error:
        raise _Failure("not-utf8" if "not UTF-8" in str(error) else "unreadable-transcript", str(error)) from error
    except OSError as error:
        raise _Failure("unreadable-transcript", f"{path}: cannot be read ({error.strerror}).") from error
    numbered = [(number, line.rstrip("\r")) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise _Failure("empty-transcript", f"{path}: the file is empty, a header was expected.")
    first, header = numbered[0]
    names = [name.strip() for name in header.split("\t")]
    for name in COLUMNS:
        if name not in names:
            raise _Failure("missing-column", f"{path}, line {first}: no column {name!r}; found {', '.join(names)}.")
    if len(numbered) < 3:
        raise _Failure("empty-transcript", f"{path}: no utterance; at least one row and a closing one were expected.")
    places = [names.index(name) for name in COLUMNS]
    rows = [_row(number, line.split("\t"), len(names), places) for number, line in numbered[1:-1]]
    number, line = numbered[-1]
    # The closing row gives a time and need not have a sentence.
    closing = line.split("\t")
    return [*rows, _row(number, closing + [""] * (len(names) - len(closing)), len(names), places)]


def _row(line: int, cells: list[str], width: int, places: Sequence[int]) -> Row:
    sentence, speaker, session, clock, text = (cells[p].strip() if p < len(cells) else "" for p in places)
    time = parse_time(clock)
    fault = None
    if len(cells) != width:
        fault = ("bad-row", f"{len(cells)} columns, the header has {width}")
    elif time is None:
        fault = (BAD_TIME, f"{clock!r} is not hh:mm:ss.fff")
    return Row(line, sentence, speaker, session.lower(), time, text, fault)


def parse_time(text: str) -> float | None:
    """'00:01:02.500' -> 62.5 seconds; None for anything else."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def judge(
    rows: list[Row], recording_seconds: float, limits: Limits
) -> tuple[list[tuple[int, float, float]], list[tuple[int, str, str, float | None]]]:
    """Decide about every row but a closing one that has no sentence: kept (its index, start, end) or dropped (line,
    reason, ...)."""
    if limits.ignore_times:
        return _evenly(rows, recording_seconds)
    kept: list[tuple[int, float, float]] = []
    dropped: list[tuple[int, str, str, float | None]] = []
    ordered = in_order([row.time for row in rows])
    for index, (row, following) in enumerate(pairwise(rows)):
        start, end = row.time, following.time
        if row.fault:
            dropped.append((row.line, *row.fault, None))
        elif start is None or end is None:
            dropped.append((row.line, "unknown-end", f"line {following.line}, where it would end, has no time", None))
        elif not (ordered[index] and ordered[index + 1]):
            detail = f"from {start:.3f} s to {end:.3f} s: the times around it do not go forwards"
            dropped.append((row.line, "end-before-start", detail, None))
        else:
            clipped = min(end, recording_seconds) if end <= recording_seconds + _SLACK else end
            fault = _fault(row, start, clipped, recording_seconds, limits)
            if fault:
                dropped.append((row.line, *fault, max(0.0, round(end - start, 3))))
            else:
                kept.append((index, start, clipped))
    if rows[-1].text:
        dropped.append((rows[-1].line, "unknown-end", "the last row only closes, and this one has a sentence", None))
    return kept, dropped


def _evenly(
    rows: list[Row], recording_seconds: float
) -> tuple[list[tuple[int, float, float]], list[tuple[int, str, str, float | None]]]:
    """Like `judge`, of all rows, by their text alone; the kept ones share the recording."""
    faults = [row.fault if row.fault and row.fault[0] != BAD_TIME else None for row in rows]
    there = [index for index, row in enumerate(rows) if row.text and not faults[index]]
    share = recording_seconds / max(len(there), 1)
    kept = [(index, place * share, (place + 1) * share) for place, index in enumerate(there)]
    closing = len(rows) - 1
    lost = {index for index, row in enumerate(rows) if index < closing or row.text} - set(there)
    return kept, [(rows[index].line, *(faults[index] or ("empty-text", "")), None) for index in sorted(lost)]


def _fault(row: Row, start: float, end: float, recording_seconds: float, limits: Limits) -> tuple[str, str] | None:
    if end > recording_seconds or start >= recording_seconds:
        return "past-recording-end", f"{start:.3f} s to {end:.3f} s, the recording ends at {recording_seconds:.3f} s"
    if not row.text:
        return "empty-text", ""
    if end - start < limits.min_seconds:
        return "too-short", f"{end - start:.3f} s, at least {limits.min_seconds} s"
    if end - start > limits.max_seconds:
        return "too-long", f"{end - start:.3f} s, at most {limits.max_seconds} s"
    return None


def in_order(times: Sequence[float | None]) -> list[bool]:
    """Mark the rows of the longest series whose times never go backwards.

    One wrong time, too early or too late, so costs its row and the one that ends there, and not all that follow.
    Longest non-decreasing subsequence by patience sorting (Schensted 1961). Unknown times are marked False.
    """
    tails: list[float] = []  # the smallest last time of a series of each length
    ends: list[int] = []  # and the row that has it
    before: list[int] = []
    for index, time in enumerate(times):
        place = bisect_right(tails, time) if time is not None else 0
        before.append(ends[place - 1] if place else -1)
        if time is not None:
            tails[place : place + 1] = [time]
            ends[place : place + 1] = [index]
    marked = [False] * len(times)
    index = ends[-1] if ends else -1
    while index >= 0:
        marked[index] = True
        index = before[index]
    return marked


def _read_recording(folder: Path) -> tuple[Path, AudioInfo]:
    try:
        recording = find_recording(folder)
        if recording is None:
            raise _Failure("missing-recording", f"{folder}: no recording.wav, .mp3 or .flac.")
        return recording.resolve(), probe(recording)
    except SpeechmillError as error:
        raise _Failure("unreadable-recording", str(error)) from error
    except OSError as error:
        raise _Failure("unreadable-recording", f"{folder}: cannot be read ({error.strerror}).") from error


def _table(
    call: str,
    recording: Path,
    info: AudioInfo,
    metadata: dict[str, Any],
    rows: list[Row],
    kept: list[tuple[int, float, float]],
) -> pl.DataFrame:
    partition, ceo = metadata.get("partition"), metadata.get("ceoID")
    used = [rows[index] for index, _, _ in kept]
    return pl.DataFrame(
        {
            "id": [identifier(f"{call}_{row.sentence or row.line}") for row in used],
            "recording": [str(recording)] * len(used),
            "start": [start for _, start, _ in kept],
            "end": [end for _, _, end in kept],
            "text": [row.text for row in used],
            "speaker": [row.speaker for row in used],
            "call": [call] * len(used),
            "session": [row.session for row in used],
            "native": [None if partition is None else str(partition) == str(_NATIVE)] * len(used),
            "split": [""] * len(used),
            "ceo": [None if ceo is None else row.speaker == str(ceo) for row in used],
            "company": [_string(metadata.get("company"))] * len(used),
            "country": [_string(metadata.get("country"))] * len(used),
            "samplerate": [info.samplerate] * len(used),
        },
        schema=SCHEMA | EXTRA,
    )


def _string(value: Any) -> str | None:
    return None if value is None else str(value)


def _recordings(source: Path, results: list[CallResult]) -> pl.DataFrame:
    rows = [(result.call, *_measured(source / "MEDIA" / result.call, result)) for result in results]
    return pl.DataFrame(rows, schema=RECORDINGS, orient="row")


def _measured(folder: Path, result: CallResult) -> tuple[str, float | None]:
    """A call's recording and its length, also where the transcript was to blame that nothing of it is kept."""
    if len(result.rows):
        return str(result.rows["recording"][0]), result.seconds
    try:
        recording, info = _read_recording(folder)
    except _Failure:
        return result.call, None
    return str(recording), info.seconds


def _gathered(source: Path, results: list[CallResult], left_out: int, warnings: list[str]) -> ImportResult:
    failures = [result.failure for result in results if result.failure]
    if len(failures) == len(results):
        raise SpeechmillError(f"{source}: none of {len(results)} calls can be read; the first: {failures[0]}")
    table = with_unique_ids(pl.concat([result.rows for result in results]))
    odd = ~pl.col("session").is_in(SESSIONS)
    if count := int(table.select(odd.sum()).item()):
        values = ", ".join(table.filter(odd)["session"].unique().sort().head(3))
        warnings.append(f"session: {count} rows have neither presentation nor q-and-a ({values}); it is left empty")
        table = table.with_columns(pl.when(odd).then(pl.lit("")).otherwise(pl.col("session")).alias("session"))
    gathered = ImportResult(
        table=table,
        drops=pl.concat([result.drops for result in results]),
        calls_read=len(results) - len(failures),
        calls_left_out=left_out,
        seconds=sum(result.seconds or 0.0 for result in results),
        recordings=_recordings(source, results),
        failures=failures,
        warnings=warnings,
    )
    return checked(gathered, source)
