"""Write shards: decode each recording once, cut its utterances, deal them to TARs; then the index."""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import polars as pl

from speechmill.artefact import disk_errors, locked, partial_path, publish_all, sha256_file
from speechmill.audio import decode
from speechmill.errors import SpeechmillError
from speechmill.manifest import KNOWN_TEXT, scan_manifest
from speechmill.progress import Progress
from speechmill.settings import ShardSettings
from speechmill.shards.codecs import check_codec, encode
from speechmill.shards.index import INDEX_NAME, NATIVE_UNKNOWN, open_index
from speechmill.shards.parts import PARTS, finish, is_done, make_part, part_path, write_part
from speechmill.shards.plan import (
    NO_SPLIT,
    PLAN_NAME,
    earlier_fingerprints,
    plan_fingerprint,
    plan_info,
    plan_manifest,
    planned_pieces,
    read_plan_info,
    write_plan_info,
)  # fmt: skip
from speechmill.shards.planned import (
    PLANNED_NAME,
    SOURCE,
    planned_group,
    planned_shards,
    source_fault,
    write_planned,
)  # fmt: skip
from speechmill.shards.replan import write_plan_again, wrong_plan_files
from speechmill.shards.tar import TarWriter
from speechmill.workers import ALONE, Worker, end_with_parent

_BUFFER = 1 << 20  # bytes: an utterance has three pieces, and each write of its own costs
_PLANNING = 3600.0  # seconds that a worker waits for another that plans or finishes; nine million rows take a minute
_ORPHANS = 60.0  # seconds that a group's writer may take to see that its command was killed
_LOOK = 0.5  # seconds between two looks at how far the processes are
_END_SLACK = 0.1  # seconds that a row may reach past the recording's end and is clipped
Groups = list[tuple[int, list[str]]]  # number, names of the shards that are to be written

_TO_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True)
_NOT_IN_JSON = {"recording", "group", "shard", SOURCE, KNOWN_TEXT}


@dataclass(frozen=True)
class ShardReport:
    """What a folder of shards holds once it is whole."""

    folder: Path
    shards: int
    utterances: int
    hours: float
    dropped: int
    already_whole: bool
    selected: bool  # whether the manifest had splits


@dataclass(frozen=True)
class WorkerReport:
    """A worker has done its part, and others have not."""

    folder: Path
    worker: Worker
    missing: int  # shards that other workers still have to write


def shard_manifest(manifest: Path, out: Path, settings: ShardSettings, processes: int) -> ShardReport:
    """Write the shards and the index of a manifest into `out`; finished shards of an interrupted run are kept.

    Raises SpeechmillError when `out` holds shards of another plan, when the disk is full, or when no utterance could
    be read.
    """
    whole = _is_whole(manifest, out, settings)
    if not whole:
        with locked(out):
            _make_plan(manifest, out, settings)
            _write_groups(out, settings, processes, ALONE)
            finish(out)
    return _report(out, whole)


def shard_worker(
    manifest: Path, out: Path, settings: ShardSettings, processes: int, worker: Worker
) -> ShardReport | WorkerReport:
    """Write one worker's part of the shards; who finds that it was the last writes the index.

    Bytes do not depend on the number of workers. Raises SpeechmillError as `shard_manifest` does, and where the same
    worker runs already.
    """
    whole = _is_whole(manifest, out, settings)
    if not whole:
        with locked(out / PLAN_NAME, wait=_PLANNING):  # one plans, the others read it
            _make_plan(manifest, out, settings)
        with locked(out / PARTS / f"worker-{worker.number % worker.count}-of-{worker.count}"):
            _write_groups(out, settings, processes, worker)
        missing = _missing(out)
        if not missing.is_empty():
            return WorkerReport(out, worker, missing.height)
        _finish_once(out)
    return _report(out, whole)


def finish_shards(manifest: Path, out: Path, settings: ShardSettings) -> ShardReport:
    """Check that all workers have written their shards and write the index."""
    whole = _is_whole(manifest, out, settings)
    if not whole:
        if not (out / PLANNED_NAME).is_file():
            raise SpeechmillError(f"{out}: nothing to finish: no shard has been written there.")
        _finish_once(out)
    return _report(out, whole)


def _is_whole(manifest: Path, out: Path, settings: ShardSettings) -> bool:
    """Whether the shards are there already; a damaged plan of theirs is then written again.

    Raises SpeechmillError where they are another manifest's.
    """
    check_codec(settings.codec, settings.sample_rate)
    scan_manifest(manifest)
    if out.exists() and not out.is_dir():
        raise SpeechmillError(f"{out}: is a file, a folder for shards was expected.")
    if (out / INDEX_NAME).is_file() and wrong_plan_files(out):
        write_plan_again(manifest, out, settings, _PLANNING)
    if (out / PLAN_NAME).is_file():
        _check_plan(manifest, out, settings)
    elif out.is_dir() and any(out.glob("*.tar")):
        raise SpeechmillError(f"{out}: holds TARs but no {PLAN_NAME}; choose an empty folder.")
    return (out / INDEX_NAME).is_file()


def _check_plan(manifest: Path, out: Path, settings: ShardSettings) -> None:
    found, sha256 = read_plan_info(out).fingerprint, sha256_file(manifest)
    if found == plan_fingerprint(settings, sha256):
        return
    if found not in earlier_fingerprints(settings, sha256):
        raise SpeechmillError(
            f"{out}: holds the shards of another manifest or other settings; remove it or choose another folder."
        )
    if not (out / INDEX_NAME).is_file():
        raise SpeechmillError(
            f"{out}: was begun by an earlier version, whose shards have other bytes, and is not finished; remove it, "
            f"or finish it with that version."
        )


def _make_plan(manifest: Path, out: Path, settings: ShardSettings) -> None:
    """Write the plan, where it is not there; its lock is held. A manifest that cannot be planned leaves no folder."""
    there = (out / PLAN_NAME).is_file() and (out / PLANNED_NAME).is_file()
    if (out / PLAN_NAME).is_file():  # perhaps another worker's, started with other settings, that came in between
        _check_plan(manifest, out, settings)
    plan = None if there else plan_manifest(manifest, settings)
    with disk_errors(out):
        (out / PARTS).mkdir(parents=True, exist_ok=True)
    if plan is None:
        return
    with disk_errors(out):
        write_planned(planned_pieces(manifest, plan, out / PARTS / "plan"), out)
    write_plan_info(out, plan_info(plan, settings, sha256_file(manifest)))


def _report(out: Path, whole: bool) -> ShardReport:
    shutil.rmtree(out / PARTS, ignore_errors=True)
    index = open_index(out)
    info = read_plan_info(out)
    seconds = float(index.samples.sum(dtype="int64")) / info.sample_rate
    dropped, selected = info.utterances - len(index), NO_SPLIT not in index.names("split")
    return ShardReport(out, info.shards, len(index), seconds / 3600, dropped, whole, selected)


def _missing(out: Path) -> pl.DataFrame:
    shards = planned_shards(out)
    return shards.filter(pl.Series([not is_done(out, name) for name in shards["shard"]], dtype=pl.Boolean))


def _finish_once(out: Path) -> None:
    """Two workers may see at the same time that all is there: the second finds the index."""
    with locked(out, wait=_PLANNING):
        if not (out / INDEX_NAME).is_file():
            finish(out)


def _write_groups(out: Path, settings: ShardSettings, processes: int, worker: Worker) -> None:
    """Write what a worker's groups lack."""
    shards = planned_shards(out)
    shards = shards.filter(pl.Series([worker.takes(group) for group in shards["group"]], dtype=pl.Boolean))
    todo = shards.filter(pl.Series([not is_done(out, name) for name in shards["shard"]], dtype=pl.Boolean))
    groups: Groups = list(todo.group_by("group", maintain_order=True).agg("shard").iter_rows())
    with Progress("shard", float(shards["seconds"].sum()) / 3600, "h") as progress:
        progress.resume_at((float(shards["seconds"].sum()) - float(todo["seconds"].sum())) / 3600)
        if processes == 1 or len(groups) <= 1:
            for group, names in groups:
                _write_group(out, group, names, settings, lambda seconds: progress.advance(seconds / 3600))
        else:
            _write_in_processes(out, groups, settings, min(processes, len(groups)), progress)


def _write_in_processes(out: Path, groups: Groups, settings: ShardSettings, processes: int, progress: Progress) -> None:
    # Spawned, not forked: Polars holds threads, and a forked lock never opens.
    context = multiprocessing.get_context("spawn")
    # Each process writes a place of its own, without a lock: one that is killed holds up nobody.
    seconds = context.RawArray("d", len(groups))
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(seconds,)) as pool:
        futures = [
            pool.submit(_write_counted, out, group, names, settings, place)
            for place, (group, names) in enumerate(groups)
        ]
        try:
            left, shown = set(futures), 0.0
            while left:
                done, left = wait(left, timeout=_LOOK, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                now = sum(seconds)
                progress.advance((now - shown) / 3600)
                shown = now
        except BrokenProcessPool as error:
            raise SpeechmillError(
                f"{out}: a process that wrote shards was killed (out of memory?); run the same command to go on, "
                f"with fewer processes where memory is short."
            ) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


_done_seconds: Any = None  # in a process of the pool: seconds done of each group


def _begin(seconds: Any) -> None:
    global _done_seconds
    _done_seconds = seconds
    end_with_parent()


def _write_counted(out: Path, group: int, names: list[str], settings: ShardSettings, place: int) -> None:
    def tell(seconds: float) -> None:
        _done_seconds[place] += seconds

    _write_group(out, group, names, settings, tell)


@dataclass
class _OpenShard:
    name: str
    stream: BinaryIO
    tar: TarWriter
    rows: list[dict[str, Any]]
    dropped: list[dict[str, Any]]


def _write_group(
    out: Path, group: int, names: list[str], settings: ShardSettings, tell: Callable[[float], None]
) -> None:
    """Write some shards of one group that are not there; `tell` hears the seconds of each recording when it is done."""
    # A process of a killed command may still have it for a moment; another worker has it where N was changed.
    with locked(out / PARTS / f"group-{group:06d}", wait=_ORPHANS):
        todo = [name for name in names if not is_done(out, name)]
        write_shards(planned_group(out, group, todo), out, settings, tell)


def write_shards(
    rows: pl.DataFrame, out: Path, settings: ShardSettings, tell: Callable[[float], None] = lambda _: None
) -> None:
    """Write whole shards of one group and their parts into `out`; `rows`: all that the plan has for them."""
    with disk_errors(out), _open_shards(rows, out) as shards:
        # Rows as dictionaries: a table for each recording costs as much as encoding an utterance of it.
        ordered = rows.sort("call", "start", "id").iter_rows(named=True)
        for (path, _), of_recording in itertools.groupby(ordered, key=lambda row: (row["recording"], row["call"])):
            utterances = list(of_recording)
            _write_recording(Path(path), utterances, shards, settings)
            tell(sum(row["end"] - row["start"] for row in utterances))
        _close_shards(list(shards.values()), out)


@contextlib.contextmanager
def _open_shards(group: pl.DataFrame, out: Path) -> Iterator[dict[str, _OpenShard]]:
    with contextlib.ExitStack() as stack:
        shards = {}
        for name in group["shard"].unique(maintain_order=True):
            partial = partial_path(out / f"{name}.tar")
            stack.callback(partial.unlink, missing_ok=True)
            stack.callback(partial_path(part_path(out, name)).unlink, missing_ok=True)
            stream = stack.enter_context(partial.open("wb", buffering=_BUFFER))
            shards[name] = _OpenShard(name, stream, TarWriter(stream), [], [])
        yield shards


def _write_recording(
    path: Path, rows: list[dict[str, Any]], shards: dict[str, _OpenShard], settings: ShardSettings
) -> None:
    """Decode one recording and add its utterances. What cannot be read is dropped with its reason, never unseen."""
    lost = source_fault(path, rows[0][SOURCE])
    if lost is None:
        try:
            audio = decode(path, settings.sample_rate)
        except SpeechmillError as error:
            lost = "unreadable-recording", str(error)
    if lost is not None:
        for row in rows:
            shards[row["shard"]].dropped.append(_drop(row, *lost))
        return
    for row in rows:
        shard = shards[row["shard"]]
        if fault := _fault(row, len(audio) / settings.sample_rate):
            shard.dropped.append(_drop(row, fault, f"{path}: {len(audio) / settings.sample_rate:.3f} s long"))
            continue
        samples = cut(audio, row["start"], row["end"], settings.sample_rate)
        if not len(samples):
            shard.dropped.append(_drop(row, "no-sample", f"{path}: {row['start']} s to {row['end']} s holds no sample"))
            continue
        _add_utterance(shard, row, samples, settings)


def _fault(row: dict[str, Any], seconds: float) -> str | None:
    if not 0 <= row["start"] < row["end"]:
        return "bad-time"
    return "past-recording-end" if row["end"] > seconds + _END_SLACK else None


def cut(audio: npt.NDArray[np.int16], start: float, end: float, rate: int) -> npt.NDArray[np.int16]:
    """The samples of [start, end) seconds, both rounded to the nearest sample."""
    return audio[round(start * rate) : round(end * rate)]


def _add_utterance(
    shard: _OpenShard, row: dict[str, Any], samples: npt.NDArray[np.int16], settings: ShardSettings
) -> None:
    about = {key: value for key, value in row.items() if key not in _NOT_IN_JSON} | {"samples": len(samples)}
    audio = shard.tar.add(f"{row['id']}.{settings.codec}", encode(settings.codec, samples, settings.sample_rate))
    note = shard.tar.add(f"{row['id']}.json", _TO_JSON.encode(about).encode())
    native = NATIVE_UNKNOWN if row["native"] is None else int(row["native"])
    shard.rows.append(
        {"id": row["id"], "shard": shard.name, "offset": audio.offset, "size": audio.size, "json_offset": note.offset,
         "json_size": note.size, "samples": len(samples), "characters": len(row["text"]), "split": row["split"],
         "call": row["call"], "speaker": row["speaker"] or "", "session": row["session"] or "", "native": native}
    )  # fmt: skip


def _drop(row: dict[str, Any], reason: str, detail: str) -> dict[str, Any]:
    return {"id": row["id"], "seconds": row["end"] - row["start"], "reason": reason, "detail": detail}


def _close_shards(shards: list[_OpenShard], out: Path) -> None:
    """Publish the shards of a group, their parts first: a TAR under its own name has its part."""
    for shard in shards:
        shard.tar.finish()
        shard.stream.flush()
        part = make_part(shard.rows, shard.dropped, shard.tar.position, shard.tar.sha256)
        write_part(partial_path(part_path(out, shard.name)), part)
    parts, tars = [part_path(out, shard.name) for shard in shards], [out / f"{shard.name}.tar" for shard in shards]
    publish_all([(partial_path(path), path) for path in (*parts, *tars)])
