"""Workers that know of each other only by the folder: any number, in any order, killed, give the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from conftest import SHARD_SETTINGS
from speechmill.artefact import locked, sha256_file
from speechmill.errors import SpeechmillError
from speechmill.shards import write
from speechmill.shards.planned import planned_shards
from speechmill.shards.tar import scan
from speechmill.shards.write import (
    ShardReport,
    WorkerReport,
    finish_shards,
    shard_manifest,
    shard_worker,
)
from speechmill.workers import Worker

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = [f"shard.sample_rate={SHARD_SETTINGS.sample_rate}", f"shard.shard_seconds={SHARD_SETTINGS.shard_seconds}",
            f"shard.group_shards={SHARD_SETTINGS.group_shards}",
            f"features.sample_rate={SHARD_SETTINGS.sample_rate}"]  # fmt: skip


def sums(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in folder.iterdir() if not path.name.startswith("tokens-")}


def command(manifest: Path, out: Path, *options: str) -> list[str]:
    code = "import sys; from speechmill.cli import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", code, "shard", str(manifest), str(out), *options, *SETTINGS]


@pytest.mark.parametrize("text", ["0/3", "1/3", "2/3", "3/3"])
def test_a_worker_is_counted_from_zero_or_from_one(text: str) -> None:
    worker = Worker.parse(text)
    assert [group for group in range(6) if worker.takes(group)] == [int(text[0]) % 3, int(text[0]) % 3 + 3]


@pytest.mark.parametrize("text", ["4/3", "0/0", "1", "a/b", "-1/2", "1/2/3", ""])
def test_what_is_no_worker_is_one_clear_line(text: str) -> None:
    with pytest.raises(SpeechmillError, match=r"I/N was expected"):
        Worker.parse(text)


@pytest.mark.parametrize("count", [2, 3, 9])
def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path, shards: Path, manifest: Path, count: int) -> None:
    out = tmp_path / "s"
    reports = [
        shard_worker(manifest, out, SHARD_SETTINGS, 1, Worker(number, count)) for number in reversed(range(count))
    ]
    assert [report.missing for report in reports if isinstance(report, WorkerReport)] == sorted(
        (report.missing for report in reports if isinstance(report, WorkerReport)), reverse=True
    )
    last = next(report for report in reports if isinstance(report, ShardReport))
    assert (last.shards, last.utterances, last.already_whole) == (6, 72, False)
    assert sums(out) == sums(shards)


def test_each_group_is_written_by_the_worker_that_the_plan_says(tmp_path: Path, manifest: Path) -> None:
    shard_worker(manifest, tmp_path / "s", SHARD_SETTINGS, 1, Worker(1, 2))
    planned = planned_shards(tmp_path / "s")
    there = {path.stem for path in (tmp_path / "s").glob("*.tar")}
    assert there == set(planned.filter(pl.col("group") % 2 == 1)["shard"])
    assert there


def test_finish_checks_that_all_is_there_and_writes_the_index(tmp_path: Path, shards: Path, manifest: Path) -> None:
    out = tmp_path / "s"
    with pytest.raises(SpeechmillError, match="nothing to finish"):
        finish_shards(manifest, out, SHARD_SETTINGS)
    shard_worker(manifest, out, SHARD_SETTINGS, 1, Worker(0, 2))
    with pytest.raises(SpeechmillError, match=r"of 6 shards are not written yet, .*\.tar the first"):
        finish_shards(manifest, out, SHARD_SETTINGS)
    assert not (out / "index.arrow").exists()
    shard_worker(manifest, out, SHARD_SETTINGS, 1, Worker(1, 2))
    assert finish_shards(manifest, out, SHARD_SETTINGS).already_whole
    assert sums(out) == sums(shards)


def test_a_shard_cut_behind_our_back_is_not_indexed(tmp_path: Path, manifest: Path) -> None:
    out = tmp_path / "s"
    shard_worker(manifest, out, SHARD_SETTINGS, 1, Worker(0, 2))
    path = next(out.glob("*.tar"))
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(SpeechmillError, match=rf"{path.name}: has \d+ bytes, \d+ were written"):
        shard_worker(manifest, out, SHARD_SETTINGS, 1, Worker(1, 2))
    assert not (out / "index.arrow").exists()


def test_the_same_worker_twice_at_a_time_is_told(tmp_path: Path, manifest: Path) -> None:
    out = tmp_path / "s"
    code = (
        "import sys\nfrom pathlib import Path\nfrom speechmill.artefact import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    (out / ".parts").mkdir(parents=True)
    lock = out / ".parts" / "worker-0-of-2"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(SpeechmillError, match="another command is working on it"):
            shard_worker(manifest, out, SHARD_SETTINGS, 1, Worker(0, 2))
        process.kill()
    shard_worker(manifest, out, SHARD_SETTINGS, 1, Worker(0, 2))
    with locked(out, wait=1.0):
        pass


SLOW = """
import sys, time
from speechmill.shards import write
encode = write.encode
write.encode = lambda *given: (time.sleep(0.05), encode(*given))[1]
from speechmill.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("victim", range(3))
def test_a_worker_killed_while_it_writes_and_run_again_gives_the_same_bytes(
    tmp_path: Path, shards: Path, manifest: Path, victim: int
) -> None:
    """One of three is killed in the middle of a TAR, the others go on. 50 random moments are in benchmarks.soak."""
    out = tmp_path / "s"
    planned = planned_shards(shards)
    own = planned.filter(pl.Series([Worker(victim, 3).takes(group) for group in planned["group"]]))["shard"].to_list()
    running = []
    for number in range(3):
        words = command(manifest, out, "--worker", f"{number}/3", "--processes", "1")
        words[2] = SLOW if number == victim else words[2]
        running.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
    begun = [out / f".{name}.tar.partial" for name in own]
    deadline = time.monotonic() + 100
    while not any(path.exists() and path.stat().st_size for path in begun) and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(running[victim].pid, signal.SIGKILL)
    for process in running:
        process.communicate(timeout=120)
    assert [process.returncode for process in running] == [-9 * (number == victim) for number in range(3)]
    left = [path.name for path in begun if path.exists()]
    assert left, "it was writing when it was killed"
    assert not any((out / f"{name}.tar").exists() for name in own if f".{name}.tar.partial" in left)
    assert not (out / "index.arrow").exists()
    subprocess.run(
        command(manifest, out, "--worker", f"{victim}/3", "--processes", "1"), check=True, capture_output=True
    )
    assert sums(out) == sums(shards)
    assert list(out.glob(".*")) == []


def test_a_worker_with_other_settings_that_comes_at_the_same_time_is_refused(
    tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both look when nothing is there yet; the second finds the first one's plan when it has the lock."""
    out = tmp_path / "s"
    looks = write._is_whole

    def and_then_another_plans(*args: Any) -> bool:
        found = looks(*args)
        monkeypatch.setattr(write, "_is_whole", looks)
        shard_worker(manifest, out, SHARD_SETTINGS, 1, Worker(0, 2))
        return found

    other = SHARD_SETTINGS.model_copy(update={"codec": "wav"})
    for start in (lambda: shard_worker(manifest, out, other, 1, Worker(1, 2)),
                  lambda: shard_manifest(manifest, out, other, 1)):  # fmt: skip
        shutil.rmtree(out, ignore_errors=True)
        monkeypatch.setattr(write, "_is_whole", and_then_another_plans)
        with pytest.raises(SpeechmillError, match="holds the shards of another manifest or other settings"):
            start()
        names = {member.name.rpartition(".")[2] for path in out.glob("*.tar") for member in scan(path)}
        assert names == {"flac", "json"}


def test_an_older_folder_without_the_rows_of_its_plan_is_whole(tmp_path: Path, shards: Path, manifest: Path) -> None:
    out = Path(shutil.copytree(shards, tmp_path / "s"))
    for name in ("plan.parquet", "SHA256SUMS", "ledger.parquet"):
        (out / name).unlink()
    assert shard_manifest(manifest, out, SHARD_SETTINGS, 1).already_whole
