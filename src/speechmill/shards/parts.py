"""What each finished shard leaves for the index, until all are there: `.parts`; and the finish, which gathers it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.ipc

from speechmill.artefact import read_text, sha256_file, write_text, written_together
from speechmill.errors import SpeechmillError
from speechmill.ledger import account, ledger_path, shard_outcomes, write_ledger_into
from speechmill.shards.index import INDEX_NAME, SCHEMA, write_index
from speechmill.shards.plan import PLAN_NAME, read_plan_info
from speechmill.shards.planned import PLANNED_NAME, planned_shards, planned_times, source_seconds
from speechmill.shards.sums import SUMS_NAME, sums_text

PARTS = ".parts"
DROPPED_NAME = "dropped.tsv"
_NOTE = "speechmill"
_DROPS: dict[str, Any] = {"id": pl.String, "seconds": pl.Float64, "reason": pl.String, "detail": pl.String}


@dataclass(frozen=True)
class Part:
    """A finished shard: its rows of the index, its drops (id, seconds, reason, detail), its TAR's size and checksum."""

    rows: pl.DataFrame
    dropped: pl.DataFrame
    size: int
    sha256: str


def make_part(
    rows: Sequence[dict[str, Any]], dropped: Sequence[dict[str, Any]] | pl.DataFrame, size: int, sha256: str
) -> Part:
    lost = dropped if isinstance(dropped, pl.DataFrame) else pl.DataFrame(dropped, schema=_DROPS)
    return Part(pl.DataFrame(rows, schema=SCHEMA), lost, size, sha256)


def part_path(out: Path, name: str) -> Path:
    return out / PARTS / f"{name}.part"


def write_part(path: Path, part: Part) -> None:
    """One Arrow file: the rows, and what else there is as its metadata. Not fsynced: who publishes it does that."""
    note = {"size": part.size, "sha256": part.sha256, "dropped": part.dropped.rows()}
    table = part.rows.to_arrow().replace_schema_metadata({_NOTE: json.dumps(note)})
    with pa.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_part(out: Path, name: str) -> Part:
    table = pyarrow.ipc.open_file(pa.memory_map(str(part_path(out, name)))).read_all()
    note = json.loads(table.schema.metadata[_NOTE.encode()])
    dropped = pl.DataFrame(note["dropped"], schema=_DROPS, orient="row")
    return Part(pl.DataFrame(pl.from_arrow(table)), dropped, note["size"], note["sha256"])


def is_done(out: Path, name: str) -> bool:
    """The part is published before the TAR: a TAR under its own name is complete and has its part, or the index has."""
    return (out / f"{name}.tar").is_file() and (part_path(out, name).is_file() or (out / INDEX_NAME).is_file())


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
    kept = pl.concat([part.rows for part in parts.values()])
    if kept.is_empty():
        write_text(out / DROPPED_NAME, _dropped_text(dropped))
        _remove_shards(names, out)  # else the next run would take them for finished
        raise SpeechmillError(
            f"{out}: not one utterance could be read; see {out / DROPPED_NAME} (the first: {dropped['detail'][0]})."
        )
    planned = planned_times(out)
    ledger = account(source_seconds(planned), [shard_outcomes(planned, kept, dropped, read_plan_info(out).sample_rate)])
    del planned
    sums = {f"{name}.tar": part.sha256 for name, part in parts.items()}
    sums |= {name: sha256_file(out / name) for name in (PLAN_NAME, PLANNED_NAME)}
    beside = [out / DROPPED_NAME, ledger_path(out), out / INDEX_NAME]
    with written_together(*beside[:2], out / SUMS_NAME, beside[2]) as (drops_file, ledger_file, sums_file, index_file):
        drops_file.write_text(_dropped_text(dropped), encoding="utf-8")
        write_ledger_into(ledger_file, ledger, ledger_path(out))
        write_index(kept, index_file)
        sums |= {
            path.name: sha256_file(file)
            for path, file in zip(beside, (drops_file, ledger_file, index_file), strict=True)
        }
        sums_file.write_text(sums_text(sums), encoding="utf-8")


def _dropped_text(dropped: pl.DataFrame) -> str:
    lines = ["id\tseconds\treason\tdetail"]
    lines += [f"{name}\t{seconds:.3f}\t{reason}\t{detail}" for name, seconds, reason, detail in dropped.iter_rows()]
    return "\n".join(lines) + "\n"


def read_dropped(out: Path) -> pl.DataFrame:
    """`dropped.tsv` as a table. Raises SpeechmillError where it is not one."""
    path = out / DROPPED_NAME
    lines = read_text(path).splitlines()
    try:
        rows = [(name, float(seconds), reason, detail) for name, seconds, reason, detail in map(_cells, lines[1:])]
    except ValueError as error:
        raise SpeechmillError(
            f"{path}: not a list of drops ({error}); `speechmill shards repair` writes it."
        ) from error
    if not lines:
        raise SpeechmillError(f"{path}: is empty; `speechmill shards repair` writes it again.")
    return pl.DataFrame(rows, schema=_DROPS, orient="row")


def _cells(line: str) -> list[str]:
    return line.split("\t", 3)


def _remove_shards(names: list[str], out: Path) -> None:
    for name in (PLAN_NAME, PLANNED_NAME, SUMS_NAME):
        (out / name).unlink(missing_ok=True)
    for name in names:
        (out / f"{name}.tar").unlink()
    shutil.rmtree(out / PARTS)
