"""What each finished shard leaves for the index, until all are there: `.parts`; and the finish, which gathers it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from speechmill.artefact import sha256_file, write_json, write_text, written
from speechmill.errors import SpeechmillError
from speechmill.ledger import account, ledger_path, shard_outcomes, write_ledger
from speechmill.shards.index import INDEX_NAME, SCHEMA, write_index
from speechmill.shards.plan import PLAN_NAME
from speechmill.shards.planned import PLANNED_NAME, planned_seconds, planned_shards
from speechmill.shards.sums import SUMS_NAME, write_sums

PARTS = ".parts"
DROPPED_NAME = "dropped.tsv"
_OUTCOMES: dict[str, Any] = {
    "recording": pl.String,
    "outcome": pl.String,
    "utterances": pl.Int64,
    "seconds": pl.Float64,
}
_DROPS: dict[str, Any] = {"id": pl.String, "seconds": pl.Float64, "reason": pl.String, "detail": pl.String}


@dataclass(frozen=True)
class Part:
    """A finished shard: its rows of the index, its drops (id, seconds, reason, detail) and its TAR's checksum."""

    rows: pl.DataFrame
    dropped: pl.DataFrame
    size: int
    sha256: str
    outcomes: pl.DataFrame  # of its seconds: recording, outcome, utterances, seconds


def make_part(rows: Sequence[dict[str, Any]] | pl.DataFrame, dropped: Sequence[dict[str, Any]] | pl.DataFrame,
              planned: pl.DataFrame, tar: Path, rate: int) -> Part:  # fmt: skip
    """The part of a written TAR. `planned`: its rows of the plan."""
    kept = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows, schema=SCHEMA)
    lost = dropped if isinstance(dropped, pl.DataFrame) else pl.DataFrame(dropped, schema=_DROPS)
    outcomes = shard_outcomes(planned, kept, lost, rate)
    return Part(kept, lost, tar.stat().st_size, sha256_file(tar), outcomes)


def write_part(out: Path, name: str, part: Part) -> None:
    """Write a part; its Arrow file comes last and says that the part is whole."""
    note = {"size": part.size, "sha256": part.sha256, "dropped": part.dropped.rows(), "outcomes": part.outcomes.rows()}
    write_json(out / PARTS / f"{name}.json", note)
    with written(out / PARTS / f"{name}.arrow") as partial:
        part.rows.write_ipc(partial)


def read_part(out: Path, name: str) -> Part:
    note = json.loads((out / PARTS / f"{name}.json").read_text(encoding="utf-8"))
    return Part(
        pl.read_ipc(out / PARTS / f"{name}.arrow"),
        pl.DataFrame(note["dropped"], schema=_DROPS, orient="row"),
        note["size"],
        note["sha256"],
        pl.DataFrame(note["outcomes"], schema=_OUTCOMES, orient="row"),
    )


def is_done(out: Path, name: str) -> bool:
    """The part is published before the TAR: a TAR under its own name is complete and has its part, or the index has."""
    return (out / f"{name}.tar").is_file() and (
        (out / PARTS / f"{name}.arrow").is_file() or (out / INDEX_NAME).is_file()
    )


def finish(out: Path) -> None:
    """Check that every planned shard is there, then write drops, ledger, checksums and, last, the index.

    Raises SpeechmillError where a shard is missing or is not as it was written, and where no utterance is left.
    """
    shards = planned_shards(out)
    names = shards["shard"].to_list()
    missing = shards.filter(~pl.Series([is_done(out, name) for name in names]))
    if not missing.is_empty():
        raise SpeechmillError(
            f"{out}: {missing.height} of {len(names)} shards are not written yet, "
            f"{missing['shard'][0]}.tar the first; run the workers that lack."
        )
    parts = {name: read_part(out, name) for name in names}
    for name, part in parts.items():
        found = (out / f"{name}.tar").stat().st_size
        if found != part.size:
            raise SpeechmillError(
                f"{out / name}.tar: has {found} bytes, {part.size} were written; remove it and run its worker again."
            )
    dropped = pl.concat([part.dropped for part in parts.values()])
    _write_dropped(dropped, out)
    kept = pl.concat([part.rows for part in parts.values()])
    if kept.is_empty():
        _remove_shards(names, out)  # else the next run would take them for finished
        raise SpeechmillError(
            f"{out}: not one utterance could be read; see {out / DROPPED_NAME} (the first: {dropped['detail'][0]})."
        )
    ledger = account(planned_seconds(out), [part.outcomes for part in parts.values()])
    write_ledger(ledger, ledger_path(out))
    write_index(kept, out / PARTS)
    sums = {f"{name}.tar": part.sha256 for name, part in parts.items()}
    sums |= {name: sha256_file(out / name) for name in (PLAN_NAME, PLANNED_NAME, DROPPED_NAME, ledger_path(out).name)}
    write_sums(out, sums | {INDEX_NAME: sha256_file(out / PARTS / INDEX_NAME)})
    with written(out / INDEX_NAME) as partial:
        os.replace(out / PARTS / INDEX_NAME, partial)


def _write_dropped(dropped: pl.DataFrame, out: Path) -> None:
    lines = ["id\tseconds\treason\tdetail"]
    lines += [f"{name}\t{seconds:.3f}\t{reason}\t{detail}" for name, seconds, reason, detail in dropped.iter_rows()]
    write_text(out / DROPPED_NAME, "\n".join(lines) + "\n")


def read_dropped(out: Path) -> pl.DataFrame:
    """`dropped.tsv` as a table; without rows where there is none."""
    path = out / DROPPED_NAME
    lines = path.read_text(encoding="utf-8").splitlines()[1:] if path.is_file() else []
    cells = [line.split("\t", 3) for line in lines]
    rows = [(name, float(seconds), reason, detail) for name, seconds, reason, detail in cells]
    return pl.DataFrame(rows, schema=_DROPS, orient="row")


def _remove_shards(names: list[str], out: Path) -> None:
    for name in (PLAN_NAME, PLANNED_NAME, SUMS_NAME):
        (out / name).unlink(missing_ok=True)
    for name in names:
        (out / f"{name}.tar").unlink()
    shutil.rmtree(out / PARTS)
