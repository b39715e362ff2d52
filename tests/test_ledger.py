from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from conftest import SHARD_SETTINGS
from speechmill.cli import main
from speechmill.corpora import import_corpus
from speechmill.corpora.base import RECORDINGS, Limits, drops_table
from speechmill.errors import SpeechmillError
from speechmill.inspection import inspect_ledger
from speechmill.ledger import (
    KEPT,
    OVERLAP,
    UNTRANSCRIBED,
    account,
    faults,
    import_ledger,
    ledger_path,
    read_ledger,
    select_account,
    select_ledger,
    shard_outcomes,
    write_ledger,
)
from speechmill.manifest import read_manifest, write_manifest
from speechmill.select import select_manifest
from speechmill.settings import SelectSettings
from speechmill.shards.write import shard_manifest


def rows(*spans: tuple[str, float, float]) -> pl.DataFrame:
    table = pl.DataFrame(spans, schema={"recording": pl.String, "start": pl.Float64, "end": pl.Float64}, orient="row")
    return table.with_columns(id=pl.int_range(pl.len()).cast(pl.String))


def by_outcome(ledger: pl.DataFrame, recording: str) -> dict[str, float]:
    some = ledger.filter(pl.col("recording") == recording)
    return {outcome: round(seconds, 6) for outcome, seconds in some.select("outcome", "seconds").iter_rows()}


def selected(table: pl.DataFrame, kept: pl.DataFrame, dropped: pl.DataFrame) -> pl.DataFrame:
    lost = dropped.join(table.select("id", "recording"), on="id", how="left")
    return select_ledger(table.lazy(), [select_account(kept, lost)])


def test_an_import_accounts_for_every_second_of_its_recordings() -> None:
    table = rows(("a", 1.0, 3.0), ("a", 3.0, 4.0), ("b", 0.0, 5.0), ("b", 4.0, 6.0))
    drops = drops_table([
        ("A", 4, "too-long", "", 2.5), ("A", 5, "too-short", "", 0.1), ("A", 6, "bad-time", "", None),
        ("B", 9, "too-long", "a wrong time claims an hour", 3600.0), ("C", None, "missing-recording", "", None),
    ])  # fmt: skip
    recordings = pl.DataFrame([("A", "a", 10.0), ("B", "b", 8.0), ("C", "C", None)], schema=RECORDINGS, orient="row")
    ledger = import_ledger(table, drops, recordings)
    assert by_outcome(ledger, "a") == {
        KEPT: 3.0,
        "too-long": 2.5,
        "too-short": 0.1,
        "bad-time": 0.0,
        UNTRANSCRIBED: 4.4,
    }
    assert by_outcome(ledger, "b") == {KEPT: 7.0, OVERLAP: -1.0, "too-long": 2.0, UNTRANSCRIBED: 0.0}
    assert by_outcome(ledger, "C") == {"missing-recording": 0.0}
    assert faults(ledger) == []


def test_a_selection_accounts_for_every_second_of_its_manifest() -> None:
    table = rows(("a", 0.0, 2.0), ("a", 2.0, 5.0), ("b", 0.0, 7.0), ("c", 1.0, 2.5))
    dropped = pl.DataFrame({"id": ["1", "3"], "seconds": [3.0, 1.5], "reason": ["too-long", "excluded"]})
    ledger = selected(table, table[[0, 2]], dropped)
    assert by_outcome(ledger, "a") == {KEPT: 2.0, "too-long": 3.0}
    assert by_outcome(ledger, "b") == {KEPT: 7.0}
    assert by_outcome(ledger, "c") == {"excluded": 1.5}
    assert faults(ledger) == []


def test_a_row_that_neither_is_kept_nor_dropped_is_found() -> None:
    table = rows(("a", 0.0, 2.0), ("a", 2.0, 5.0), ("b", 0.0, 7.0))
    nothing = pl.DataFrame(schema={"id": pl.String, "seconds": pl.Float64, "reason": pl.String})
    assert faults(selected(table, table[[0]], nothing)) == [
        "a: 2.000000 s accounted for, of 5.000000 s", "b: 0.000000 s accounted for, of 7.000000 s"
    ]  # fmt: skip


def test_a_row_that_is_kept_and_dropped_is_found(tmp_path: Path) -> None:
    table = rows(("a", 0.0, 2.0))
    twice = pl.DataFrame({"id": ["0"], "seconds": [2.0], "reason": ["too-long"]})
    ledger = selected(table, table, twice)
    assert faults(ledger) == ["a: 4.000000 s accounted for, of 2.000000 s"]
    with pytest.raises(SpeechmillError, match="the seconds do not add up: a: 4"):
        write_ledger(ledger, tmp_path / "l.parquet")
    assert not (tmp_path / "l.parquet").exists()


def test_seconds_of_a_recording_that_nobody_was_given_are_found() -> None:
    kept = pl.DataFrame({"recording": ["x"], "outcome": [KEPT], "utterances": [1], "seconds": [2.0]})
    source = pl.DataFrame({"recording": ["y"], "source_seconds": [2.0]})
    assert faults(account(source, [kept])) == [
        "x: 2.000000 s accounted for, of an unknown length", "y: 0.000000 s accounted for, of 2.000000 s"
    ]  # fmt: skip


def test_outcomes_of_a_shard_add_up_to_what_was_planned() -> None:
    planned = rows(("a", 0.0, 1.00004), ("a", 1.0, 2.08), ("b", 0.0, 3.0))
    kept = pl.DataFrame({"id": ["0", "1"], "samples": [8000, 8000]})
    dropped = pl.DataFrame({"id": ["2"], "reason": ["missing-recording"]})
    outcomes = shard_outcomes(planned, kept, dropped, 8000)
    found = {(row[0], row[1]): (row[2], round(row[3], 6)) for row in outcomes.iter_rows()}
    assert found == {
        ("a", KEPT): (2, 2.0), ("a", "rounding"): (0, 0.00004), ("a", "clipped"): (0, 0.08),
        ("b", "missing-recording"): (1, 3.0),
    }  # fmt: skip


@pytest.fixture
def stages(tmp_path: Path, corpus: Path) -> dict[str, Path]:
    """Import, select and shard of the corpus with one recording too few and limits that drop rows."""
    copied = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    next((copied / "MEDIA" / "1002").glob("recording.*")).unlink()
    import_corpus("bizspeech", copied, tmp_path / "c.parquet", limits=Limits(0.2, 1.9))
    wish = SelectSettings(min_seconds=0.9, valid_calls=["1008"], test_calls=["1010"], exclude=["1005"])
    select_manifest(tmp_path / "c.parquet", tmp_path / "s.parquet", wish)
    next((copied / "MEDIA" / "1004").glob("recording.*")).write_bytes(b"no sound")
    shard_manifest(tmp_path / "s.parquet", tmp_path / "shards", SHARD_SETTINGS, 1)
    return {"import": tmp_path / "c.parquet", "select": tmp_path / "s.parquet", "shard": tmp_path / "shards"}


def test_every_stage_leaves_a_ledger_whose_sums_hold(
    stages: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    named = {
        "import": {"missing-recording", "too-long", UNTRANSCRIBED},
        "select": {"too-short", "excluded"},
        "shard": {"unreadable-recording", "rounding"},
    }
    for stage, path in stages.items():
        assert main(["inspect", "--ledger", str(path)]) == 0
        shown = capsys.readouterr().out
        assert "every second is accounted for" in shown
        for outcome in {KEPT} | named[stage]:
            assert f"\n{outcome} " in shown, (stage, outcome)
    # What one stage keeps is what the next one is given.
    ledgers = [read_ledger(ledger_path(path)) for path in stages.values()]
    for before, after in pairwise(ledgers):
        kept = before.filter(pl.col("outcome") == KEPT)["seconds"].sum()
        assert after.unique("recording")["source_seconds"].sum() == pytest.approx(kept)


def test_a_manifest_that_lost_a_row_since_is_found(stages: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    table = read_manifest(stages["select"])
    write_manifest(table[1:], stages["select"])
    assert main(["inspect", "--ledger", str(stages["select"])]) == 1
    shown = capsys.readouterr().out
    assert f"{table['recording'][0]}: the ledger keeps" in shown
    assert "1 recordings do not add up" in shown


def test_a_path_without_a_ledger_is_one_clear_line(tmp_path: Path, manifest: Path) -> None:
    shutil.copy(manifest, tmp_path / "m.parquet")
    with pytest.raises(SpeechmillError, match=r"m\.ledger\.parquet: no ledger"):
        inspect_ledger(tmp_path / "m.parquet")
    (tmp_path / "m.ledger.parquet").write_bytes(b"no")
    with pytest.raises(SpeechmillError, match="not a ledger"):
        inspect_ledger(tmp_path / "m.parquet")
    shutil.copy(manifest, tmp_path / "m.ledger.parquet")
    with pytest.raises(SpeechmillError, match="not a ledger; the columns"):
        inspect_ledger(tmp_path / "m.parquet")
