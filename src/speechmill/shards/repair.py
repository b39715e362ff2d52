"""Repair a folder of shards: what is broken is written again from the plan, and nothing else is touched."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from speechmill.artefact import disk_errors, locked, publish_all, sha256_file, written
from speechmill.errors import SpeechmillError
from speechmill.progress import track
from speechmill.settings import ShardSettings
from speechmill.shards.index import FOREIGN_NAME, INDEX_NAME, NATIVE_UNKNOWN, open_index
from speechmill.shards.parts import (
    DROPPED_NAME,
    PARTS,
    Part,
    finish,
    is_done,
    make_part,
    part_path,
    read_dropped,
    read_part,
    write_part,
)
from speechmill.shards.plan import read_plan_info
from speechmill.shards.planned import SOURCE, planned_group, planned_shards, source_fault
from speechmill.shards.replan import wrong_plan_files
from speechmill.shards.sums import known_sums
from speechmill.shards.tar import scan
from speechmill.shards.verify import index_is_readable, verify_beside, verify_shards
from speechmill.shards.write import write_shards

_AGAIN = ".repair"  # where shards are written again, until it is known that they are no worse
UNRECORDED = "unrecorded"  # dropped for a reason that went with dropped.tsv
_WHY_NOT = "not in the shard; why was in a dropped.tsv that is gone or damaged"
_RETURNS = ("missing-recording", "changed-recording", UNRECORDED)  # drops that a mended source may undo


@dataclass(frozen=True)
class RepairReport:
    rewritten: list[str]  # shards
    changed: list[str]  # of these, those whose bytes are others than before
    index_written: bool
    problems: list[str]  # what could not be repaired, a line each


def repair(folder: Path, processes: int = 1) -> RepairReport:
    """Find the shards that are missing, damaged or lack utterances whose recording is back; write them again.

    A shard is replaced only where no utterance is lost by it: one whose source is gone stays as it is, and is a
    problem. Index, ledger and checksums follow where something of theirs has changed.
    Raises SpeechmillError where there is no plan to go by.
    """
    if (folder / FOREIGN_NAME).is_file():
        raise SpeechmillError(
            f"{folder}: somebody else wrote these TARs, and only they can write them again; `speechmill shards index` "
            f"writes their index anew."
        )
    if wrong := wrong_plan_files(folder):
        raise SpeechmillError(
            f"{folder / wrong[0]}: is not as it was written, and nothing can be repaired without it; run `speechmill "
            f"shard` with the manifest of these shards, which writes the plan again and nothing else."
        )
    settings = ShardSettings.model_validate(read_plan_info(folder).settings)
    shards = planned_shards(folder)
    with locked(folder):
        # Only a finished folder is repaired: an unfinished one goes on with `shard`, which knows its parts.
        if (folder / PARTS).is_dir() and not (folder / INDEX_NAME).is_file():
            raise SpeechmillError(f"{folder}: is not finished yet; run `speechmill shard` to go on.")
        shutil.rmtree(folder / PARTS, ignore_errors=True)  # of a repair that was killed
        try:
            report = _repair(folder, shards, settings, processes)
        except BaseException:
            if (folder / INDEX_NAME).is_file():  # else `shard` goes on with the parts
                shutil.rmtree(folder / PARTS, ignore_errors=True)
            raise
        finally:
            shutil.rmtree(folder / _AGAIN, ignore_errors=True)
        with disk_errors(folder):
            shutil.rmtree(folder / PARTS, ignore_errors=True)
    return report


def _repair(folder: Path, shards: pl.DataFrame, settings: ShardSettings, processes: int) -> RepairReport:
    beside = verify_beside(folder)
    dropped = _known_drops(folder)
    broken = _broken(folder, shards["shard"].to_list(), processes)
    lacking = _returned(folder, shards, broken, dropped)
    again = [name for name in shards["shard"] if name in broken or name in lacking]
    problems, rewritten, changed = _rewrite(folder, shards, again, settings, dropped)
    stale = bool(changed or beside or not index_is_readable(folder))
    if stale and not problems:
        _finish_anew(folder, shards, dropped)
    return RepairReport(rewritten, changed, stale and not problems, problems)


def _known_drops(folder: Path) -> pl.DataFrame | None:
    """What is known to have been dropped; None where `dropped.tsv` is gone, damaged, or not as it was written."""
    path = folder / DROPPED_NAME
    expected = known_sums(folder).get(DROPPED_NAME)
    if not path.is_file() or (expected is not None and sha256_file(path) != expected):
        return None
    try:
        return read_dropped(folder)
    except SpeechmillError:
        return None  # then they are what the plan has and the TARs have not


def _broken(folder: Path, names: Sequence[str], processes: int) -> set[str]:
    if index_is_readable(folder):
        index = open_index(folder, shards_there=False)
        found = {name for name, lines in verify_shards(index, processes).items() if lines}
        # A shard none of whose utterances could be read has no row.
        return found | {name for name in names if not (folder / f"{name}.tar").is_file()}
    sums = known_sums(folder)
    checked = track(names, "verify", len(names), "shards")
    return {name for name in checked if not _is_as_written(folder / f"{name}.tar", sums)}


def _is_as_written(tar: Path, sums: dict[str, str]) -> bool:
    return tar.is_file() and tar.name in sums and sha256_file(tar) == sums[tar.name]


def _returned(folder: Path, shards: pl.DataFrame, broken: set[str], dropped: pl.DataFrame | None) -> set[str]:
    """Shards that lack utterances of recordings which were gone, or others, and are as planned now.

    Where it is not known why they lack them, any whose recordings are as planned: writing them again tells.
    """
    found = set()
    back: dict[str, bool] = {}
    for group, part in _by_group(shards, [name for name in shards["shard"] if name not in broken]):
        rows = planned_group(folder, group, part)
        if dropped is None:
            there = {name for shard in part for name in _ids_in(folder / f"{shard}.tar")}
            rows = rows.filter(~pl.col("id").is_in(list(there)))
        else:
            rows = rows.join(dropped.filter(pl.col("reason").is_in(_RETURNS)), on="id", how="semi")
        for name, recording, planned in rows.select("shard", "recording", SOURCE).iter_rows():
            if recording not in back:
                back[recording] = source_fault(Path(recording), planned) is None
            if back[recording]:
                found.add(name)
    return found


def _ids_in(tar: Path) -> set[str]:
    """The utterances that a TAR holds, as far as it can be read."""
    found = set()
    with contextlib.suppress(SpeechmillError, OSError):  # who asks knows that it is broken, or gone
        for member in scan(tar):
            found.add(member.name.rpartition(".")[0])
    return found


def _by_group(shards: pl.DataFrame, names: Sequence[str]) -> list[tuple[int, list[str]]]:
    chosen = shards.filter(pl.col("shard").is_in(names)).group_by("group", maintain_order=True).agg("shard")
    return [(group, part) for group, part in chosen.iter_rows()]


def _rewrite(
    folder: Path, shards: pl.DataFrame, names: Sequence[str], settings: ShardSettings, dropped: pl.DataFrame | None
) -> tuple[list[str], list[str], list[str]]:
    """Write shards again, put in place those that lose nothing: (problems, put in place, of these with new bytes)."""
    again = folder / _AGAIN
    sums = known_sums(folder)
    problems, rewritten, changed = [], [], []
    with disk_errors(folder):
        shutil.rmtree(again, ignore_errors=True)
        (again / PARTS).mkdir(parents=True)
        (folder / PARTS).mkdir(exist_ok=True)
    for group, part_names in _by_group(shards, names):
        write_shards(planned_group(folder, group, part_names), again, settings)
        for name in part_names:
            part = read_part(again, name)
            lost = part.dropped
            if dropped is None:
                lost = lost.filter(pl.col("id").is_in(list(_ids_in(folder / f"{name}.tar"))))
            else:
                lost = lost.join(dropped, on="id", how="anti")
            if not lost.is_empty():
                problems.append(
                    f"{folder / name}.tar: cannot be written again without losing {lost.height} utterances "
                    f"({lost['reason'][0]}: {lost['detail'][0]}); bring the source back."
                )
                continue
            rewritten.append(name)
            if sums.get(f"{name}.tar") != part.sha256:
                changed.append(name)
    if problems:  # shards of other bytes need another index, and that needs all of them
        problems += [
            f"{folder / name}.tar: has other bytes when written again, and waits for those" for name in changed
        ]
        rewritten, changed = [name for name in rewritten if name not in changed], []
    publish_all([(part_path(again, name), part_path(folder, name)) for name in rewritten])
    publish_all([(again / f"{name}.tar", folder / f"{name}.tar") for name in rewritten])
    return problems, rewritten, changed


def _finish_anew(folder: Path, shards: pl.DataFrame, dropped: pl.DataFrame | None) -> None:
    """Write index, ledger and checksums from the shards that are there."""
    for group, names in _by_group(shards, shards["shard"].to_list()):
        left = [name for name in names if not part_path(folder, name).is_file()]
        if not left:
            continue
        rows = planned_group(folder, group, left)
        for name in left:
            planned = rows.filter(pl.col("shard") == name)
            with written(part_path(folder, name)) as partial:
                write_part(partial, part_of_tar(folder / f"{name}.tar", planned, dropped))
    (folder / INDEX_NAME).unlink(missing_ok=True)
    assert all(is_done(folder, name) for name in shards["shard"])
    finish(folder)


def part_of_tar(tar: Path, planned: pl.DataFrame, dropped: pl.DataFrame | None) -> Part:
    """The part of a shard of ours, read back from its TAR.

    `dropped`: the drops that are known. A planned utterance that is neither there nor among them is dropped for the
    reason `unrecorded`. Raises SpeechmillError where the TAR is damaged.
    """
    rows, audio = [], None
    with tar.open("rb") as stream:
        for member in scan(tar):
            if not member.name.endswith(".json"):
                audio = member
                continue
            stream.seek(member.offset)
            about: dict[str, Any] = json.loads(stream.read(member.size))
            if audio is None or audio.name.rpartition(".")[0] != about["id"]:
                raise SpeechmillError(f"{tar}: {member.name!r} has no audio before it; write this shard again.")
            rows.append(index_row(about, tar.stem, (audio.offset, audio.size), (member.offset, member.size)))
    there = {row["id"] for row in rows}
    absent = planned.filter(~pl.col("id").is_in(list(there)))
    lost = absent.select(
        "id", seconds=pl.col("end") - pl.col("start"), reason=pl.lit(UNRECORDED), detail=pl.lit(_WHY_NOT)
    )
    if dropped is not None:
        lost = pl.concat([lost.join(dropped, on="id", how="anti"), dropped.join(absent, on="id", how="semi")])
    return make_part(rows, lost, tar.stat().st_size, sha256_file(tar))


def index_row(
    about: dict[str, Any], shard: str, audio: tuple[int, int], note: tuple[int, int]
) -> dict[str, Any]:  # fmt: skip
    """The row of the index of an utterance, out of its JSON and the (offset, size) of both its members."""
    native = about.get("native")
    return {
        "id": about["id"], "shard": shard, "offset": audio[0], "size": audio[1], "json_offset": note[0],
        "json_size": note[1], "samples": about["samples"], "characters": len(about["text"]), "split": about["split"],
        "call": about["call"], "speaker": about["speaker"] or "", "session": about["session"] or "",
        "native": NATIVE_UNKNOWN if native is None else int(native),
    }  # fmt: skip
