"""Write shards: decode each recording once, cut its utterances, deal them to TARs; then the index."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import polars as pl

from speechmill.artefact import disk_errors, locked, partial_path, publish, sha256_file, write_text, written
from speechmill.audio import decode
from speechmill.errors import SpeechmillError
from speechmill.manifest import read_manifest
from speechmill.progress import Progress
from speechmill.settings import ShardSettings
from speechmill.shards.codecs import check_codec, encode
from speechmill.shards.index import INDEX_NAME, NATIVE_UNKNOWN, open_index, write_index
from speechmill.shards.plan import PLAN_NAME, PlanInfo, plan_info, plan_shards, read_plan_info, write_plan_info
from speechmill.shards.tar import TarWriter
from speechmill.workers import end_with_parent

DROPPED_NAME = "dropped.tsv"
_PARTS = ".parts"  # one index table per finished shard, until the index is written
_END_SLACK = 0.1  # seconds that a row may reach past the recording's end and is clipped
_TO_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True)
_NOT_IN_JSON = {"recording", "group", "shard"}


@dataclass(frozen=True)
class ShardReport:
    folder: Path
    shards: int
    utterances: int
    hours: float
    dropped: int
    already_whole: bool


def shard_manifest(manifest: Path, out: Path, settings: ShardSettings, processes: int) -> ShardReport:
    """Write the shards and the index of a manifest into `out`; finished shards of an interrupted run are kept.

    Raises SpeechmillError when `out` holds shards of another plan, when the disk is full, or when no utterance could
    be read.
    """
    check_codec(settings.codec, settings.sample_rate)
    table = read_manifest(manifest)
    plan = plan_shards(table, settings)
    info = plan_info(plan, settings, sha256_file(manifest))
    _check_folder(out, info)
    whole = (out / INDEX_NAME).is_file()
    if not whole:
        with locked(out):
            with disk_errors(out):
                out.mkdir(parents=True, exist_ok=True)
                (out / _PARTS).mkdir(exist_ok=True)
            write_plan_info(out, info)
            _write_groups(plan, out, settings, processes)
            _finish(plan, out)
    shutil.rmtree(out / _PARTS, ignore_errors=True)
    index = open_index(out)
    seconds = float(index.samples.sum(dtype="int64")) / settings.sample_rate
    return ShardReport(out, info.shards, len(index), seconds / 3600, plan.height - len(index), whole)


def _check_folder(out: Path, info: PlanInfo) -> None:
    if out.exists() and not out.is_dir():
        raise SpeechmillError(f"{out}: is a file, a folder for shards was expected.")
    if (out / PLAN_NAME).is_file():
        if read_plan_info(out).fingerprint != info.fingerprint:
            raise SpeechmillError(
                f"{out}: holds the shards of another manifest or other settings; remove it or choose another folder."
            )
    elif out.is_dir() and any(out.glob("*.tar")):
        raise SpeechmillError(f"{out}: holds TARs but no {PLAN_NAME}; choose an empty folder.")


def _write_groups(plan: pl.DataFrame, out: Path, settings: ShardSettings, processes: int) -> None:
    groups = plan.partition_by("group", maintain_order=True)
    todo = [group for group in groups if any(not _is_done(out, name) for name in group["shard"].unique())]
    seconds = _seconds(plan)
    with Progress("shard", seconds / 3600, "h") as progress:
        progress.resume_at((seconds - sum(_seconds(group) for group in todo)) / 3600)
        if processes == 1 or len(todo) <= 1:
            for group in todo:
                progress.advance(_write_group(group, out, settings) / 3600)
            return
        # Spawned, not forked: Polars holds threads, and a forked lock never opens.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(processes, len(todo)), context, initializer=end_with_parent) as pool:
            futures = [pool.submit(_write_group, group, out, settings) for group in todo]
            try:
                for future in as_completed(futures):
                    progress.advance(future.result() / 3600)
            except BrokenProcessPool as error:
                raise SpeechmillError(
                    f"{out}: a process that wrote shards was killed (out of memory?); run the same command to go on, "
                    f"with fewer processes where memory is short."
                ) from error
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _is_done(out: Path, name: str) -> bool:
    # The part is published before the TAR, so a TAR under its own name is complete and has its part.
    return (out / f"{name}.tar").is_file() and (out / _PARTS / f"{name}.arrow").is_file()


@dataclass
class _OpenShard:
    name: str
    stream: BinaryIO
    tar: TarWriter
    rows: list[dict[str, Any]]
    dropped: list[dict[str, Any]]


def _write_group(group: pl.DataFrame, out: Path, settings: ShardSettings) -> float:
    """Write all shards of one group; returns its seconds of audio as planned."""
    with disk_errors(out), _open_shards(group, out) as shards:
        for (path, call), rows in group.sort("call", "start", "id").group_by("recording", "call", maintain_order=True):
            del call
            _write_recording(Path(str(path)), rows, shards, settings)
        for shard in shards.values():
            _close_shard(shard, out)
    return _seconds(group)


def _seconds(rows: pl.DataFrame) -> float:
    return float((rows["end"] - rows["start"]).sum())


@contextlib.contextmanager
def _open_shards(group: pl.DataFrame, out: Path) -> Iterator[dict[str, _OpenShard]]:
    with contextlib.ExitStack() as stack:
        shards = {}
        for name in group["shard"].unique(maintain_order=True):
            partial = partial_path(out / f"{name}.tar")
            stack.callback(partial.unlink, missing_ok=True)
            stream = stack.enter_context(partial.open("wb"))
            shards[name] = _OpenShard(name, stream, TarWriter(stream), [], [])
        yield shards


def _write_recording(path: Path, rows: pl.DataFrame, shards: dict[str, _OpenShard], settings: ShardSettings) -> None:
    """Decode one recording and add its utterances. What cannot be read is dropped with its reason, never unseen."""
    try:
        audio = decode(path, settings.sample_rate)
    except SpeechmillError as error:
        for row in rows.iter_rows(named=True):
            shards[row["shard"]].dropped.append(_drop(row, "unreadable-recording", str(error)))
        return
    for row in rows.iter_rows(named=True):
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


def _close_shard(shard: _OpenShard, out: Path) -> None:
    shard.tar.finish()
    shard.stream.flush()
    with written(out / _PARTS / f"{shard.name}.json") as partial:
        partial.write_text(json.dumps(shard.dropped))
    with written(out / _PARTS / f"{shard.name}.arrow") as partial:
        pl.DataFrame(shard.rows, schema_overrides={"native": pl.Int8}).write_ipc(partial)
    publish(partial_path(out / f"{shard.name}.tar"), out / f"{shard.name}.tar")


def _finish(plan: pl.DataFrame, out: Path) -> None:
    """Check that every planned shard is there, then write what was dropped and, last, the index."""
    names = plan["shard"].unique().sort()
    missing = [name for name in names if not _is_done(out, name)]
    if missing:
        raise SpeechmillError(f"{out}: {len(missing)} shards are not written yet, {missing[0]}.tar the first.")
    parts = [pl.read_ipc(out / _PARTS / f"{name}.arrow") for name in names]
    table = pl.concat([part for part in parts if not part.is_empty()] or parts, how="diagonal")
    dropped = [drop for name in names for drop in json.loads((out / _PARTS / f"{name}.json").read_text())]
    lines = ["id\tseconds\treason\tdetail"]
    lines += [f"{drop['id']}\t{drop['seconds']:.3f}\t{drop['reason']}\t{drop['detail']}" for drop in dropped]
    write_text(out / DROPPED_NAME, "\n".join(lines) + "\n")
    if table.is_empty():
        _remove_shards(names.to_list(), out)  # else the next run would take them for finished
        first = dropped[0]["detail"]
        raise SpeechmillError(f"{out}: not one utterance could be read; see {out / DROPPED_NAME} (the first: {first}).")
    write_index(table, out)


def _remove_shards(names: list[str], out: Path) -> None:
    (out / PLAN_NAME).unlink()
    for name in names:
        (out / f"{name}.tar").unlink()
    shutil.rmtree(out / _PARTS)
