"""`speechmill align`: all recordings of a manifest, by one process or many, and what they give in one place.

OUT.parquet              the utterances: a manifest with `confidence`
OUT.words.parquet        word times
OUT.sentences.parquet    what became of every sentence
OUT.spans.parquet        what became of every second, span by span
OUT.ledger.parquet       the same in sums, as every stage leaves them
OUT.align.json           sums, by reason; of each recording what it was made of, and how many rows it has
OUT.parts/               one folder per recording, until all are there and merged
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from speechmill.align import judge, ledger
from speechmill.align.aligners import open_aligner
from speechmill.align.base import Aligner
from speechmill.align.known import count, count_words, summed, telling, with_known_text
from speechmill.align.opened import hear_open_places, with_whole_words
from speechmill.align.recording import align_recording
from speechmill.align.rest import hear_rest
from speechmill.align.tables import Tables, failed, tables
from speechmill.align.transcript import lines, recordings
from speechmill.artefact import (
    disk_errors,
    fingerprint,
    locked,
    read_json,
    sha256,
    sha256_file,
    tidy,
    write_json,
    written,
    written_folder,
)
from speechmill.audio import decode, probe
from speechmill.corpora.base import identifier
from speechmill.errors import SpeechmillError, StorageError
from speechmill.ledger import KEPT, OVERLAP, account, ledger_path, write_ledger
from speechmill.manifest import as_written, check_named, scan_manifest, write_manifest
from speechmill.progress import Progress, track
from speechmill.settings import AlignSettings
from speechmill.workers import ALONE, Worker, cores, end_with_parent

_VERSION = 20  # of what align does: raise it where the same input would give other rows
_TOGETHER = 500  # recordings whose words are counted before they are added up: each has a thousand different ones
_MERGING_VERSION = 7  # the same, of what is made of all recordings together: then they need not be aligned again
_TABLES = ("utterances", "words", "sentences", "spans")
_KILLED = 4  # recordings in a row at each of which a process is killed: that is the machine
_MERGING = 3600.0  # seconds that a worker waits for another one's merging
_NAME = 80  # characters of a call's name in that of its folder


@dataclass(frozen=True)
class AlignReport:
    """The outcome of `align_manifest`; `report` is OUT.align.json, empty where other workers are not done."""

    manifest: Path
    done: int  # recordings that are aligned, by all workers
    of: int
    done_before: bool
    report: dict[str, Any]
    again: int = 0  # of these, recordings that failed, which the same command tries again

    def text(self) -> str:
        """A few lines for the terminal."""
        if not self.report:
            return f"{self.manifest}: {self.done} of {self.of} recordings aligned; merged when the others are there"
        found = self.report
        before = " (already there, nothing to do)" if self.done_before else ""
        counts = found["sentences"]
        rest = {**found["hours"]}
        kept = rest.pop("kept", 0.0)
        lines_ = [
            f"{self.manifest}: {found['utterances']} utterances, {kept:.2f} of {found['hours_in']:.2f} h, "
            f"{counts.get('kept', 0)} of {sum(counts.values())} sentences{before}",
            "hours: " + (", ".join(f"{name} {value:.2f}" for name, value in rest.items()) or "all kept"),
        ]
        if others := ", ".join(f"{name} {count}" for name, count in counts.items() if name != "kept"):
            lines_.append(f"sentences left out: {others}; listed in {_beside(self.manifest, 'sentences')}")
        lines_ += [f"not aligned: {failure}" for failure in found["failures"][:10]]
        if len(found["failures"]) > 10:
            lines_.append(f"not aligned: {len(found['failures']) - 10} recordings more")
        return "\n".join(lines_)


@dataclass(frozen=True)
class _Job:
    """One recording: its rows, where its part goes, the fingerprint of all that it depends on."""

    rows: pl.DataFrame
    folder: Path
    name: str
    aligner: str
    settings: AlignSettings


def align_manifest(
    manifest: Path,
    out: Path,
    settings: AlignSettings,
    aligner: str = "pocketsphinx",
    worker: Worker = ALONE,
    processes: int | None = None,
) -> AlignReport:
    """Align every recording of `manifest` that is this worker's; when all workers' are done, merge them into `out`.

    A recording that is done is not done again, as long as its rows, its file, the aligner and the settings are the
    same, whatever else the manifest has had before. One that cannot be aligned is rejected with its reason, the others
    go on; where the reason was a fault of the aligner, or a process that was killed, the next call tries it again.
    `processes` are those beside this one; None: this one aligns, and ends where a library ends it.
    Raises SpeechmillError where the manifest has no rows, or several of one id, where the aligner cannot be had, or the
    output is the input.
    """
    table = as_written(scan_manifest(manifest)).collect()
    if table.is_empty():
        raise SpeechmillError(f"{manifest}: the manifest has no rows.")
    check_named(table, manifest)
    ids = pl.Series([identifier(name) for name in table["id"]])
    if repeated := ids.filter(ids.is_duplicated()).head(1).to_list():  # before hours of work, not behind them
        raise SpeechmillError(
            f"{manifest}: several rows are named {repeated[0]!r}; give each another id (import numbers those that "
            f"repeat)."
        )
    if manifest.resolve() == out.resolve():
        raise SpeechmillError(f"{out}: align would overwrite the manifest that it reads; choose another output.")
    if processes is not None and processes < 1:
        raise SpeechmillError(f"align: {processes} processes; at least 1 is needed.")
    opened = open_aligner(aligner)
    if settings.hear_rest and opened.hear(np.zeros(0, np.int16)) is None:
        raise SpeechmillError(
            f"align.hear_rest: {aligner} hears only what the transcript says, or does not write as transcripts do; it "
            f"takes --aligner ctc:RUN with a run that was trained with tokenizer.text=as_written."
        )
    jobs = _jobs(table, out, settings, aligner, opened.version)
    whole = fingerprint([_MERGING_VERSION, *(job.name for job in jobs)])
    if report := _finished(out, whole):
        tidy(out)
        shutil.rmtree(out.with_suffix(".parts"), ignore_errors=True)  # of a process that was killed after merging
        return AlignReport(out, len(jobs), len(jobs), True, report)
    mine = [job for number, job in enumerate(jobs) if worker.takes(number)]
    _take_over(mine, out)
    for job in mine:
        if _is_done(job) and _state(job)["again"]:
            shutil.rmtree(job.folder)
    _align_all([job for job in mine if not _is_done(job)], len(mine), processes)
    done = sum(_is_done(job) for job in jobs)
    merged: dict[str, Any] | None = None
    if done == len(jobs) or _merged(out, whole):
        with locked(out, _MERGING):
            merged = _finished(out, whole)  # by another worker that was last, too
            if merged:
                shutil.rmtree(out.with_suffix(".parts"), ignore_errors=True)
            else:
                _take_over(jobs, out)  # what was merged with failures that have been tried again since
                done = sum(_is_done(job) for job in jobs)
                merged = _merge(jobs, out, whole) if done == len(jobs) else None
    states = merged["recordings"] if merged else [_state(job) for job in mine]
    again = sum(bool(one.get("again")) for one in states)
    return AlignReport(out, len(jobs) if merged else done, len(jobs), False, merged or {}, again)


def _jobs(table: pl.DataFrame, out: Path, settings: AlignSettings, aligner: str, version: str) -> list[_Job]:
    parts = out.with_suffix(".parts")
    base = [_VERSION, aligner, version, settings.model_dump(mode="json")]
    jobs = []
    for rows in recordings(table):
        path = Path(rows["recording"][0])
        try:
            size = [path.stat().st_size, path.stat().st_mtime_ns]
        except OSError:
            size = [-1, -1]
        name = fingerprint([base, size, sha256(rows.write_ndjson().encode())])
        folder = parts / f"{identifier(rows['call'][0])[-_NAME:]}-{fingerprint(str(path))[:8]}"
        jobs.append(_Job(rows, folder, name, aligner, settings))
    return jobs


def _state(job: _Job) -> dict[str, Any]:
    path = job.folder / "state.json"
    try:
        return dict(read_json(path))
    except SpeechmillError:
        if path.is_file():
            raise
        return {}  # not done, or merged and taken away just now


def _is_done(job: _Job) -> bool:
    return _state(job).get("fingerprint") == job.name


def _take_over(jobs: Sequence[_Job], out: Path) -> None:
    """Make parts of what a merged output has of these recordings, which was of a manifest with others beside them."""
    if not (report := _merged(out)):
        return
    wanted = {job.name: job for job in jobs if not _is_done(job)}
    sources = {table: pl.scan_parquet(out if table == "utterances" else _beside(out, table)) for table in _TABLES}
    at = dict.fromkeys(_TABLES, 0)
    for one in report["recordings"]:
        job = wanted.get(one["fingerprint"])
        if job is not None and not one["again"]:
            state = {name: one[name] for name in ("fingerprint", "failure", "again")}
            _write_part(job, state, {t: sources[t].slice(at[t], one["rows"][t]).collect() for t in _TABLES})
        for table in _TABLES:
            at[table] += one["rows"][table]


def _align_all(todo: Sequence[_Job], total: int, processes: int | None) -> None:
    with Progress("align", total, "recordings") as progress:
        progress.resume_at(total - len(todo))
        if processes is None:
            for job in todo:
                _align_one(job)
                progress.advance()
            return
        left, killed = list(todo), 0
        while left:
            left = _until_one_dies(left, processes, progress)
            for job in left[:processes]:  # they are taken in order: one of these it was
                killed = killed + 1 if _until_one_dies([job], 1, progress) else 0
                if killed >= _KILLED:
                    raise SpeechmillError(
                        f"align: the processes of {killed} recordings in a row were killed, each alone, the last at "
                        f"{job.rows['recording'][0]} (out of memory?); run the same command to go on where more is."
                    )
                if killed:
                    _write_failed(job, "its process was killed (out of memory?); the same command tries it again.")
                    progress.advance()
            left = left[processes:]


def _until_one_dies(jobs: Sequence[_Job], processes: int, progress: Progress) -> list[_Job]:
    """Align recordings in processes; those that are not done when one of these is killed, which ends all of them."""
    context = multiprocessing.get_context("spawn")  # not forked: Polars holds threads
    processes = min(processes, len(jobs))
    threads = max(1, cores() // processes)
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(threads,)) as pool:
        try:
            for future in as_completed([pool.submit(_align_one, job) for job in jobs]):
                future.result()
                progress.advance()
        except BrokenProcessPool:
            return [job for job in jobs if not _is_done(job)]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return []


def _begin(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # of PyTorch, which an aligner may load
    end_with_parent()


_OPEN: dict[str, Aligner] = {}  # the aligners of this process: a model is loaded once


def _align_one(job: _Job) -> None:
    if job.aligner not in _OPEN:
        _OPEN[job.aligner] = open_aligner(job.aligner)
    try:
        with disk_errors(job.folder):  # a full disk is no recording's fault
            made = align_rows(job.rows, _OPEN[job.aligner], job.settings)
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever a recording does to an aligner, the others go on
        del _OPEN[job.aligner]  # nobody knows in what state it is
        place = traceback.extract_tb(error.__traceback__)[-1]
        name = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        _write_failed(job, f"{name}: {error}; the same command tries it again. Please report this.")
        return
    _write_part(job, {"fingerprint": job.name, "failure": made.failure, "again": False}, made.by_name())


def _write_failed(job: _Job, why: str) -> None:
    path = job.rows["recording"][0]
    found = lines(job.rows["text"].to_list(), job.rows["speaker"].to_list(), lambda _: [])
    made = failed(job.rows, found, _seconds(path), judge.FAILED, " ".join(f"{path}: {why}".split()))
    _write_part(job, {"fingerprint": job.name, "failure": made.failure, "again": True}, made.by_name())


def _write_part(job: _Job, state: dict[str, Any], found: dict[str, pl.DataFrame]) -> None:
    with locked(job.folder), written_folder(job.folder) as folder:
        for name, table in found.items():
            table.write_parquet(folder / f"{name}.parquet", compression="zstd")
        write_json(folder / "state.json", state | {"rows": {name: len(table) for name, table in found.items()}})


def align_rows(rows: pl.DataFrame, aligner: Aligner, settings: AlignSettings) -> Tables:
    """Align one recording; one that cannot be read or has no transcript is rejected whole, with its reason."""
    path = rows["recording"][0]
    found = lines(rows["text"].to_list(), rows["speaker"].to_list(), aligner.read)
    if not any(token.readings != ((),) for line in found for token in line.sentence.tokens):
        return failed(rows, found, _seconds(path), judge.NOTHING_TO_SAY, f"{path}: its transcript has no words.")
    try:
        samples = decode(path)
    except SpeechmillError as error:
        return failed(rows, found, _seconds(path), judge.UNREADABLE, str(error))
    aligned = align_recording(aligner, samples, [line.sentence for line in found])
    whole = with_whole_words(aligner, samples, aligned.outcomes)
    outcomes = tuple(hear_open_places(aligner, samples, outcome) for outcome in whole)
    is_heard = settings.hear_rest and any(outcome.kept for outcome in outcomes)
    rest, unclear = hear_rest(aligner, samples, outcomes, settings) if is_heard else ([], [])
    aligned = replace(aligned, outcomes=outcomes, others=(*aligned.others, *unclear))
    return tables(rows, found, aligned, settings, rest)


def _seconds(path: str) -> float:
    """What the header says; 0 of a file that cannot be read."""
    try:
        return probe(path).seconds
    except SpeechmillError:
        return 0.0


def _beside(out: Path, name: str) -> Path:
    return out.with_suffix(f".{name}.parquet")


def report_path(out: Path) -> Path:
    """Where the sums are kept, beside the manifest."""
    return out.with_suffix(".align.json")


def _merged(out: Path, name: str = "") -> dict[str, Any] | None:
    """The report of a whole output, of the jobs that `name` names where it is given."""
    beside = [out, report_path(out), *(_beside(out, table) for table in ("words", "sentences", "spans", "ledger"))]
    if not all(path.is_file() for path in beside):
        return None
    report: dict[str, Any] = read_json(report_path(out))
    whole = "recordings" in report and report.get("manifest_sha256") == sha256_file(out)
    return report if whole and name in ("", report.get("fingerprint")) else None


def _finished(out: Path, name: str) -> dict[str, Any] | None:
    """The same, where nothing is to be tried again."""
    report = _merged(out, name)
    return report if report and not any(one["again"] for one in report["recordings"]) else None


def _merge(jobs: Sequence[_Job], out: Path, name: str) -> dict[str, Any]:
    """All parts in the order of the manifest; streamed, but for the utterances."""
    report_path(out).unlink(missing_ok=True)  # until all is replaced nothing says that the output is whole
    folders = [job.folder for job in jobs]
    for table in ("words", "sentences", "spans"):
        with written(_beside(out, table)) as partial:
            pl.scan_parquet([folder / f"{table}.parquet" for folder in folders]).sink_parquet(
                partial, compression="zstd", maintain_order=True
            )
    utterances = _utterances(folders)
    write_manifest(utterances, out)
    spans, sentences = (pl.scan_parquet(_beside(out, table)) for table in ("spans", "sentences"))
    write_ledger(_ledger(spans, sentences, utterances), ledger_path(out))
    made = [_state(job) for job in jobs]
    failures = [one["failure"] for one in made if one["failure"]]
    about = {"fingerprint": name, "manifest_sha256": sha256_file(out), "recordings": made}
    report = _sums(out, utterances, failures) | about
    write_json(report_path(out), report)
    shutil.rmtree(out.with_suffix(".parts"), ignore_errors=True)
    return report


def _utterances(folders: Sequence[Path]) -> pl.DataFrame:
    """Of all recordings: how well each voice was understood beside the others tells what of its text is known."""

    def words(folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "words.parquet")

    found = [(folder, pl.read_parquet(folder / "utterances.parquet")) for folder in folders]
    by_voice: list[pl.DataFrame] = []
    by_word: list[pl.DataFrame] = []
    for folder, table in found:
        said = words(folder)
        by_voice.append(count(said, table))
        by_word.append(count_words(said))
        if len(by_word) == _TOGETHER:
            by_word = [summed(by_word)]
    tells = telling(pl.concat(by_voice), summed(by_word))
    known = [
        with_known_text(table, words(folder), tells)
        for folder, table in track(found, "merge", len(found), "recordings")
    ]
    return pl.concat(known, how="vertical")


def _ledger(spans: pl.LazyFrame, sentences: pl.LazyFrame, utterances: pl.DataFrame) -> pl.DataFrame:
    """The spans in sums for each recording; rejected seconds under their reasons. Of a recording that cannot be read
    the length is not known."""
    seconds = (pl.col("end") - pl.col("start")).sum().alias("seconds")
    outcome = pl.when(pl.col("kind") == ledger.REJECTED).then("reason").otherwise("kind").alias("outcome")
    sums = spans.group_by("recording", outcome).agg(seconds).with_columns(utterances=0).collect()
    rows = utterances.with_columns(outcome=pl.lit(KEPT)).group_by("recording", "outcome")
    kept = rows.agg(seconds, pl.len().alias("utterances"))
    spanned = sums.filter(pl.col("outcome") == ledger.KEPT).select("recording", spanned="seconds")
    overlap = kept.join(spanned, on="recording").select(
        "recording", outcome=pl.lit(OVERLAP), utterances=0, seconds=pl.col("spanned") - pl.col("seconds")
    )
    source = spans.group_by("recording").agg(pl.col("end").max().alias("source_seconds")).collect()
    others = sums.filter(pl.col("outcome") != ledger.KEPT)
    lost = sentences.group_by("recording").agg(pl.col("reason").first().alias("outcome")).collect()
    lost = lost.join(source, on="recording", how="anti").with_columns(utterances=0, seconds=0.0)
    return account(source, [kept, overlap.filter(pl.col("seconds").abs() > 1e-6), others, lost])


def _sums(out: Path, utterances: pl.DataFrame, failures: list[str]) -> dict[str, Any]:
    """Hours by kind and reason, sentences by reason; raises SpeechmillError where the hours do not add up."""
    length = pl.col("end") - pl.col("start")
    kind = pl.when(pl.col("reason") == "").then("kind").otherwise(pl.format("{}: {}", "kind", "reason"))
    spans = pl.scan_parquet(_beside(out, "spans"))
    hours = spans.group_by(kind.alias("what")).agg(length.sum() / 3600).sort("what").collect()
    total = spans.select((pl.col("end") - pl.col("start")).sum()).collect().item()
    ends = spans.group_by("recording").agg(pl.col("end").max()).select(pl.col("end").sum()).collect().item()
    if abs(total - ends) > 1e-3 * max(1, len(utterances)):
        raise SpeechmillError(f"{out}: the spans have {total:.3f} of {ends:.3f} s; please report this.")
    what = pl.when("kept").then(pl.lit("kept")).otherwise("reason")
    counts = pl.scan_parquet(_beside(out, "sentences")).group_by(what.alias("what")).len().sort("what").collect()
    return {
        "utterances": len(utterances),
        "hours_in": round(total / 3600, 6),
        "hours": {name: round(value, 6) for name, value in hours.iter_rows()},
        "sentences": dict(counts.iter_rows()),
        "failures": failures,
    }
