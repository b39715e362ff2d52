"""Kill every stage at random moments, run it again, and compare with a run that nobody disturbed.

    python -m benchmarks.soak --kills 10 --out benchmarks/results/soak.json

A kill is SIGKILL to the stage's whole process group, or to its first process alone (its workers must follow by
themselves, and the next run starts at once); of a stage of several workers, to one of them, while the others go on. In
a third of the trials the resumed run is killed as well. Every other first kill is aimed, and of a stage of several
workers each: it falls between the stage's first write and its end, since most of a short stage is Python's start.

All runs of a stage write to the same path, because manifests hold absolute paths: the undisturbed result is moved away
and becomes the input of the next stage. An interrupted soak goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine
from benchmarks.same import differences
from speechmill.artefact import fingerprint, locked, read_json, sha256_file, write_json
from speechmill.errors import SpeechmillError
from speechmill.progress import Progress

_ROOT = Path(__file__).resolve().parents[1]
_COMMAND = Path(sys.executable).with_name("speechmill")
_CORPUS = ["--calls", "6", "--hours", "0.25"]
_RECIPE = "hparams/demo.yaml"
_SETTINGS = [
    "select.shares={train: 0.6, valid: 0.2, test: 0.2}",
    "shard.shard_seconds=60", "tokenizer.size=150", "features.statistics_batches=4", "model.size=32", "model.layers=1",
    "schedule.target_seconds=20", "schedule.limit_seconds=40", "optim.warmup_updates=10", "train.updates=60",
    "train.checkpoint_every=10", "train.validate_every=30", "train.log_every=5", "train.threads=1",
    "train.loader_workers=1",
]  # fmt: skip
_KINDS = ("group", "parent", "twice")
# Starts "$@" $1 times at once; its status is that of one that failed.
_SEVERAL = """
count=$1; shift; started=""; status=0
for worker in $(seq $count); do "$@" --worker $worker/$count & started="$started $!"; done
for process in $started; do wait $process || status=$?; done
exit $status
"""
_MOST_TRIES = 40  # to hit a stage before its end
_ORPHANS_END = 15.0  # seconds; PyTorch's loader workers look for their parent every five


@dataclass(frozen=True)
class Stage:
    """A command that writes to WORK. `prepare` makes what it expects there; `first` is its first write that matters."""

    name: str
    command: list[str]
    first: str = "**/*"
    prepare: Callable[[], None] | None = None
    workers: int = 0  # the command is started so many times at once, each with its --worker I/N
    same_as: str = ""  # a stage whose undisturbed result must be the same bytes


@dataclass
class Started:
    """A command in a session of its own, and when it was started."""

    process: subprocess.Popen[bytes]
    since: float
    log: Path

    def elapsed(self) -> float:
        return time.monotonic() - self.since


class Soak:
    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.work = folder / "work"
        self.reference = folder / "reference"
        self.state_path = folder / "state.json"
        self.state: dict[str, Any] = read_json(self.state_path) if self.state_path.is_file() else {}

    def stages(self) -> list[Stage]:
        """The pipeline's; each reads what the undisturbed run of those before it left."""
        corpus, manifest = self.of("demo-corpus", "corpus"), self.of("import", "corpus.parquet")
        selected, shards = self.of("select", "selected.parquet"), self.of("shard", "shards")
        tokenizer, work = self.of("tokenizer", "tokenizer.model"), self.work
        data = [f"data.shards={shards}", f"data.tokenizer={tokenizer}"]
        recipe = ["--recipe", _RECIPE, *_SETTINGS]
        return [
            Stage("demo-corpus", ["demo-corpus", f"{work}/corpus", *_CORPUS, "--processes", "2"], "corpus/MEDIA/*"),
            Stage("import", ["import", "bizspeech", f"{corpus}", f"{work}/corpus.parquet"]),
            Stage("select", ["select", f"{manifest}", f"{work}/selected.parquet", *recipe]),
            Stage("shard", ["shard", f"{selected}", f"{work}/shards", "--processes", "2", *recipe], "shards/.parts/*"),
            Stage(
                "shard-workers",
                ["shard", f"{selected}", f"{work}/shards", "--processes", "1", *recipe],
                "shards/.*.tar.partial",
                workers=3,
                same_as="shard",
            ),
            Stage("tokenizer", ["tokenizer", f"{selected}", f"{work}/tokenizer.model", *recipe]),
            Stage("train", ["train", _RECIPE, "--run", f"{work}/run", *_SETTINGS, *data], "run/checkpoints/step_*"),
            Stage("evaluate", ["evaluate", f"{work}/run"], prepare=self.copy_run),
            Stage("compare", ["compare", f"{self.of('evaluate', 'run')}", "--out", f"{work}/report"]),
            Stage("pipeline", ["demo", f"{work}/demo", *_CORPUS, *recipe]),
        ]

    def of(self, stage: str, name: str) -> Path:
        return self.reference / stage / name

    def copy_run(self) -> None:
        shutil.copytree(self.of("train", "run"), self.work / "run")

    def undisturbed(self, stage: Stage) -> dict[str, Any]:
        """Run a stage once in peace and keep what it wrote; its seconds, in all and until its first write."""
        done: dict[str, Any] | None = self.state.get(stage.name)
        if done is not None and (self.reference / stage.name).is_dir():
            return done
        self.clear(stage)
        run = self.start(stage)
        with _ended(run):
            first = self.first_write(run, stage.first)
            status = run.process.wait()
            seconds = run.elapsed()
        if status != 0:
            raise SpeechmillError(f"soak: the undisturbed {stage.name} ended with status {status}: {_tail(run.log)}")
        shutil.rmtree(self.reference / stage.name, ignore_errors=True)
        self.reference.mkdir(parents=True, exist_ok=True)
        self.work.rename(self.reference / stage.name)
        if stage.same_as:
            others = differences(self.reference / stage.same_as, self.reference / stage.name)
            if others:
                raise SpeechmillError(f"soak: {stage.name} is not {stage.same_as}: {'; '.join(others)}")
        return self.keep(stage, {"seconds": seconds, "first_write": first, "trials": []})

    def keep(self, stage: Stage, record: dict[str, Any]) -> dict[str, Any]:
        self.state[stage.name] = record
        write_json(self.state_path, self.state)
        return record

    def trial(self, stage: Stage, number: int) -> dict[str, Any]:
        """Kill, run again, compare. Returns what happened; `failures` is empty where all is as it must be."""
        dice = random.Random(f"{self.seed} {stage.name} {number}")
        kind, aimed = _KINDS[number % len(_KINDS)], number % 2 == 1 or stage.workers > 0
        killed: list[Started] = []
        moments: list[float] = []
        ended_before = files = 0
        while not killed:
            self.clear(stage)
            moment = dice.random()
            run = self.start(stage)
            at = self.kill(stage, run, moment, aimed, alone=kind == "parent")
            if at is not None:
                killed, moments, files = [run], [at], len(self.listing("**/*"))
                continue
            ended_before += 1
            if ended_before == _MOST_TRIES:
                raise SpeechmillError(f"soak: {stage.name} ended before each of {ended_before} kills.")
        if kind == "twice":
            run = self.start(stage)
            at = self.kill(stage, run, dice.random(), aimed=False, alone=dice.random() < 0.5)
            killed.append(run)
            moments += [] if at is None else [at]
        last = self.start(stage)
        with _ended(last):
            status = last.process.wait()
        failures = [] if status == 0 else [f"the resumed run ended with status {status}: {_tail(last.log)}"]
        failures += differences(self.reference / stage.name, self.work, whole_way=stage.name == "pipeline")
        failures += [line for run in [*killed, last] for line in _orphans(run.process.pid)]
        return {
            "kind": "one worker" if kind == "parent" and stage.workers else kind,
            "aim": "writing" if aimed else "any",
            "kills": moments,
            "files_at_kill": files,
            "ended_before": ended_before,
            "resumed_seconds": round(last.elapsed(), 2),
            "failures": failures,
        }

    def kill(self, stage: Stage, run: Started, moment: float, aimed: bool, alone: bool) -> float | None:
        """Kill a run at a moment (0 to 1 of its undisturbed time); the seconds that it had, None where it had ended."""
        with _ended(run):
            seconds, first = self.state[stage.name]["seconds"], self.state[stage.name]["first_write"]
            if aimed:
                self.first_write(run, stage.first)
                wait = moment * (seconds - first)
            else:
                wait = moment * seconds - run.elapsed()
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.process.wait(max(0.0, wait))
            if run.process.poll() is not None:
                return None
            at = run.elapsed()
            if alone and stage.workers:
                workers = _children(run.process.pid)
                if workers:
                    os.kill(workers[int(moment * 1000) % len(workers)], signal.SIGKILL)
                run.process.wait()  # the others do their part
                return at
            if alone:
                run.process.kill()
                run.process.wait()
                return at
        return at

    def clear(self, stage: Stage) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        if stage.prepare is not None:
            stage.prepare()

    def start(self, stage: Stage) -> Started:
        log = self.folder / "log.txt"
        with log.open("wb") as stream:
            command = [str(_COMMAND), *stage.command]
            if stage.workers:
                command = ["sh", "-c", _SEVERAL, "workers", str(stage.workers), *command]
            process = subprocess.Popen(
                command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                start_new_session=True,
            )  # fmt: skip
        (self.folder / "session").write_text(str(process.pid))
        return Started(process, time.monotonic(), log)

    def first_write(self, run: Started, pattern: str) -> float:
        """Wait until a run has written what matches (or has ended); the seconds that this took."""
        before = self.listing(pattern)
        while run.process.poll() is None and self.listing(pattern) == before:
            time.sleep(0.002)
        return run.elapsed()

    def listing(self, pattern: str) -> set[Path]:
        while True:
            try:
                return set(self.work.glob(pattern))
            except FileNotFoundError:  # a folder went while it was read
                continue

    def wait_for_strays(self) -> None:
        """A soak that was killed leaves its last command running: let that end before anything is compared."""
        path = self.folder / "session"
        deadline = time.monotonic() + 300
        while path.is_file() and _session(int(path.read_text())):
            if time.monotonic() > deadline:
                raise SpeechmillError(f"{self.folder}: a command of an earlier soak still runs there; end it first.")
            time.sleep(0.2)


@contextlib.contextmanager
def _ended(run: Started) -> Iterator[None]:
    """Whatever happens in the block, the run and its process group do not outlive it, unless it was waited for."""
    try:
        yield
    finally:
        if run.process.poll() is None:
            os.killpg(run.process.pid, signal.SIGKILL)
            run.process.wait()


def _orphans(session: int) -> list[str]:
    """Processes of an ended command that do not end by themselves; they are ended here."""
    deadline = time.monotonic() + _ORPHANS_END
    while left := _session(session):
        if time.monotonic() > deadline:
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            return [f"{len(left)} worker processes outlived their parent by {_ORPHANS_END:.0f} s"]
        time.sleep(0.05)
    return []


def _session(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found


def _children(parent: int) -> list[int]:
    found = []
    for process in _session(parent):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(process)
    return sorted(found)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace").strip().rpartition("\n")[2][-500:]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10, help="of each stage (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--stages", help="some of them, with commas between (default: all)")
    parser.add_argument("--work", type=Path, help="where it works and keeps what it has done (default: in TMPDIR)")
    args = parser.parse_args(arguments)
    key = fingerprint([args.seed, torch.__version__, sys.version, _sources()])
    folder = (args.work or Path(tempfile.gettempdir()) / "speechmill-soak").resolve() / key
    try:
        with locked(folder):
            return soak(Soak(folder, args.seed), args)
    except SpeechmillError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("soak: interrupted; run the same command to go on.", file=sys.stderr)
        return 130


def soak(work: Soak, args: argparse.Namespace) -> int:
    """All trials that are not done yet; writes the result and returns the exit status."""
    stages = work.stages()
    wanted = _wanted([stage.name for stage in stages], args.stages)
    work.folder.mkdir(parents=True, exist_ok=True)
    work.wait_for_strays()
    with Progress("soak", len(wanted) * args.kills, "kills") as progress:
        for stage in stages:
            if stage.name in wanted or (stage.name != "pipeline" and wanted != ["pipeline"]):
                record = work.undisturbed(stage)  # the input of those that follow, where it is not wanted itself
            for number in range(args.kills if stage.name in wanted else 0):
                if number >= len(record["trials"]):
                    record["trials"].append(work.trial(stage, number))
                    work.keep(stage, record)
                progress.advance(note=stage.name)
            if stage.name == wanted[-1]:
                break
    results = {name: _summary(work.state[name], args.kills) for name in wanted}
    write_json(args.out, {"about": machine(_command(args)), "seed": args.seed, "stages": results})
    failed = 0
    for name, result in results.items():
        for number, trial in enumerate(result["trials"]):
            if trial["failures"]:
                failed += 1
                print(f"{name}, trial {number}: {'; '.join(trial['failures'])}")
    if not failed:
        shutil.rmtree(work.folder)
    print(f"{sum(result['resumed_equal'] for result in results.values())} passed, {failed} failed")
    return 1 if failed else 0


def _command(args: argparse.Namespace) -> list[str]:
    """What to type to have the same again, without where this machine kept it."""
    out = args.out.resolve()
    place = out.relative_to(_ROOT) if out.is_relative_to(_ROOT) else Path(out.name)
    stages = ["--stages", args.stages] if args.stages else []
    seed = ["--seed", str(args.seed)] if args.seed else []
    return ["benchmarks.soak", *stages, "--kills", str(args.kills), *seed, "--out", str(place)]


def _wanted(names: list[str], asked: str | None) -> list[str]:
    if asked is None:
        return names
    unknown = sorted(set(asked.split(",")) - set(names))
    if unknown:
        raise SpeechmillError(f"--stages: no stage {unknown[0]!r}; there is {', '.join(names)}.")
    return [name for name in names if name in asked.split(",")]


def _summary(record: dict[str, Any], kills: int) -> dict[str, Any]:
    trials = record["trials"][:kills]
    return {
        "undisturbed_seconds": round(record["seconds"], 2),
        "first_write_seconds": round(record["first_write"], 2),
        "kills": sum(len(trial["kills"]) for trial in trials),
        "resumed_equal": sum(not trial["failures"] for trial in trials),
        "ended_before_the_kill": sum(trial["ended_before"] for trial in trials),
        "trials": [{**trial, "kills": [round(at, 3) for at in trial["kills"]]} for trial in trials],
    }


def _sources() -> list[str]:
    """What a result depends on: an interrupted soak goes on only where none of it has changed."""
    paths = [*_ROOT.glob("src/speechmill/**/*.py"), *_ROOT.glob("benchmarks/s*.py"), _ROOT / _RECIPE]
    return [sha256_file(path) for path in sorted(paths)]


if __name__ == "__main__":
    raise SystemExit(main())
