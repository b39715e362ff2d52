"""Kill processes of a training at random moments; it must go on by itself and end as if nobody had.

    python -m benchmarks.soak_train --kills 30 --out benchmarks/results/soak_train.json

`single` and `ddp` with 2 and 4 processes run under torchrun's launcher: one rank is killed with SIGKILL, all start
again from the last checkpoint, and the run folder must be that of an undisturbed run, bit for bit. Under Hogwild one of
two workers is killed: the other must go on, and every update be done or counted as lost.

Each trial is written to a file beside --out as it ends; a call that was cut off goes on from there.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.same import differences
from benchmarks.scaling import make_data
from speechmill.artefact import read_json, sha256, write_json
from speechmill.metrics import read_metrics
from speechmill.progress import Progress
from speechmill.train.checkpoint import checkpoints, read_state

_ROOT = Path(__file__).resolve().parents[1]
_UPDATES = 60
_SETTINGS = [
    "model.size=32", "model.layers=1", "schedule.target_seconds=20", "schedule.limit_seconds=40", "schedule.lanes=4",
    "schedule.batches_per_update=4", "optim.warmup_updates=10", f"train.updates={_UPDATES}",
    "train.checkpoint_every=10", "train.validate_every=30", "train.log_every=2", "train.threads=1",
    "train.loader_workers=0", "train.timeout=120", "features.statistics_batches=4", "train.precision=float32",
    "train.device=cpu",
]  # fmt: skip
_KINDS = {
    "single": ["train.strategy=single"],
    "ddp2": ["train.strategy=ddp", "train.processes=2"],
    "ddp4": ["train.strategy=ddp", "train.processes=4"],
    "hogwild2": ["train.strategy=hogwild", "train.processes=2"],
}
_PATIENCE = 600.0  # seconds for a run


class Soak:
    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.data = make_data(folder, 10)
        self.run = folder / "work" / "run"

    def command(self, kind: str) -> list[str]:
        train = ["train", "hparams/demo.yaml", "--run", str(self.run), *_SETTINGS, *self.data, *_KINDS[kind]]
        if kind == "single":  # nothing else would start it again
            torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "1", "--max-restarts", "3"]
            return [sys.executable, "-m", *torchrun, "-m", "--", "speechmill", *train]
        return [sys.executable, "-m", "speechmill", *train]

    def start(self, kind: str) -> subprocess.Popen[bytes]:
        shutil.rmtree(self.run.parent, ignore_errors=True)
        self.run.parent.mkdir(parents=True)
        with (self.folder / "log.txt").open("wb") as log:
            return subprocess.Popen(self.command(kind), cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def undisturbed(self, kind: str) -> Path:
        process = self.start(kind)
        if process.wait(_PATIENCE):
            raise SystemExit(f"soak_train: the undisturbed {kind} failed: {self.tail()}")
        reference = self.folder / f"reference-{kind}"
        shutil.rmtree(reference, ignore_errors=True)
        return self.run.rename(reference)

    def trial(self, kind: str, number: int, reference: Path) -> dict[str, Any]:
        dice = random.Random(f"{self.seed} {kind} {number}")
        update, later = dice.randrange(2, _UPDATES - 4), dice.random() * 0.3
        process = self.start(kind)
        killed = False
        while process.poll() is None and not killed:
            if any(record["update"] >= update for record in read_metrics(self.run)):
                time.sleep(later)
                victims = _training_processes(process.pid)
                if len(victims) == (1 if kind == "single" else int(kind[-1])):
                    os.kill(dice.choice(victims), signal.SIGKILL)
                    killed = True
            time.sleep(0.005)
        try:
            status = process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            return {"at_update": update, "killed": killed, "failures": ["it hung"]}
        failures = [] if status == 0 else [f"ended with status {status}: {self.tail()}"]
        if not killed:
            failures.append("it ended before the kill: nothing was tried")
        elif not failures:
            failures = self.lost(reference) if kind == "hogwild2" else differences(reference, self.run)
        return {"at_update": update, "killed": killed, "failures": failures}

    def lost(self, reference: Path) -> list[str]:
        """Every update is done or counted as lost, and what was heard tells that the count is true."""
        state, whole = (read_state(checkpoints(run)[-1]) for run in (self.run, reference))
        heard_all = state.samples == whole.samples
        ok = state.update == _UPDATES and state.lost <= 1 and heard_all == (not state.lost)
        return [] if ok else [f"{state.update} updates, {state.lost} lost, {state.samples} of {whole.samples} samples"]

    def tail(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace").strip()[-300:]


def _training_processes(command: int) -> list[int]:
    """The ranks or workers that a command has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            line = (path / "cmdline").read_text().split("\0")
        except OSError:
            continue
        ours = int(fields[1]) == command and fields[0] not in "ZX"
        if ours and ("speechmill" in line or "speechmill.train.worker" in line or "--multiprocessing-fork" in line):
            found.append(int(path.name))
    return sorted(found)


def _sources() -> str:
    """A name for the code that is put to the test."""
    return sha256(b"".join(path.read_bytes() for path in sorted((_ROOT / "src").rglob("*.py"))))[:12]


def _begun(partial: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The trials of a call that was cut off, if they are of this seed and this code."""
    found = read_json(partial) if partial.is_file() else {"kinds": {}}
    same = all(found.get(name) == about[name] for name in ("seed", "updates", "sources"))
    if found["kinds"] and not same:
        print(f"{partial}: is of other code or another seed; all kills are done anew", file=sys.stderr)
    return dict(found["kinds"]) if same else {}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.soak_train", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=30, help="of each kind (default: %(default)s)")
    parser.add_argument("--kinds", default=",".join(_KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    args = parser.parse_args(arguments)
    kinds = args.kinds.split(",")
    if unknown := [kind for kind in kinds if kind not in _KINDS]:
        parser.error(f"no kind {', '.join(unknown)}; there are {', '.join(_KINDS)}")
    partial = args.out.with_name(args.out.name + ".partial")
    about = {"about": machine(), "seed": args.seed, "updates": _UPDATES, "sources": _sources()}
    results = _begun(partial, about)
    with (
        tempfile.TemporaryDirectory(prefix="speechmill-soak-train-") as folder,
        Progress("soak_train", len(kinds) * args.kills, "kills") as progress,
    ):
        work = Soak(Path(folder), args.seed)
        for kind in kinds:
            trials = results.get(kind, {"trials": []})["trials"]
            progress.advance(len(trials), note=kind)
            if len(trials) >= args.kills:
                continue
            reference = work.undisturbed(kind)
            for number in range(len(trials), args.kills):
                trials.append(work.trial(kind, number, reference))
                if trials[-1]["failures"]:
                    print(f"{kind}, kill {number}: {trials[-1]['failures']}", file=sys.stderr)
                progress.advance(note=kind)
                results[kind] = {
                    "passed": sum(not trial["failures"] for trial in trials),
                    "killed": sum(trial["killed"] for trial in trials),
                    "trials": trials,
                }
                write_json(partial, about | {"kinds": results})
    write_json(args.out, about | {"kinds": results})
    partial.unlink(missing_ok=True)
    failed = [(kind, trial) for kind, result in results.items() for trial in result["trials"] if trial["failures"]]
    for kind, trial in failed:
        print(f"{kind}, killed at update {trial['at_update']}: {'; '.join(trial['failures'])}")
    passed = sum(result["passed"] for result in results.values())
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed or not passed else 0  # --kills 0 has tried nothing


if __name__ == "__main__":
    raise SystemExit(main())
