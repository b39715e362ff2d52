"""What `align` keeps of damaged transcripts, how near its times are, how fast it is, what is learned from its output.

    python -m benchmarks.align --quick --seed 3 --json -        20 % damage, one recording: the keys below
    python -m benchmarks.align --work align --out benchmarks/results/align.json         every part
    python -m benchmarks.align --parts levels traps --work align --out ...              some of them

Keys: `kept_true` (share of the true sentences kept, those with damaged words among them), `rejected_false`,
`boundary_median_seconds`, `boundary_p95_seconds` and `boundary_max_seconds` (of kept sentences whose words are whole
and that begin within 3 s of where they were said; the others are `misplaced`, and count as not kept), `realtime`
(seconds of sound per second of one core's work: all passes, but not the decoding of the file and the start).

Parts: `levels` (0 to 30 % damage on clips, and on native and non-native calls of a demo corpus), `confidence` (what
`levels` gave, as reliability and as hours against word errors, with a picture beside --out), `traps` (transcripts of
other calls, short ones of others, late starts, cut recordings, repeated passages), `speed` (settings of PocketSphinx
against hours kept), `memory` (two hours in one piece), `processes` (one against two), `bootstrap` (a ctc model trained
on what pocketsphinx found, and its alignment), `training` (on aligned calls against true times), `segmentation` (the
package ctc-segmentation beside ctc:). The outcome of each recording and step is kept under --work and not computed
again: a killed part goes on; other questions, and code that changed, need another --work. --out keeps what the parts
not asked for gave before.
"""

from __future__ import annotations

import argparse
import json
from argparse import Namespace
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import align_curves, align_segmentation, align_speed, align_train, align_traps
from benchmarks.align_cases import clip_cases, demo_cases, demo_groups, demo_of, one_recording, rows_of, tallied
from benchmarks.align_tally import Tally, merged
from benchmarks.damage import LEVELS, clips, damaged
from benchmarks.machine import machine
from speechmill.align.aligners import open_aligner
from speechmill.align.base import Aligner
from speechmill.artefact import read_json, write_json

CORPUS = Path("../shared/data/ljspeech_part")
QUICK = 95  # clips: half of the folder, ten minutes


def quick(aligner: Aligner, corpus: Path, seed: int) -> dict[str, Any]:
    """20 % damage on the first half of a folder."""
    rows = rows_of(corpus)
    last = min(QUICK, max(1, len(rows) // 2))
    samples, said = clips(corpus, 0, last)
    tally = Tally()
    one_recording(aligner, samples, damaged(said, [row[1] for row in rows[last:]], 20, seed), tally)
    return tally.record()


def leveled(args: Namespace) -> dict[str, dict[int, Tally]]:
    """Tallies of each group at each level of damage."""
    aligner = _opened(args.aligner)
    folder = args.work / "levels" / args.aligner.replace(":", "_").replace("/", "_")
    found: dict[str, dict[int, Tally]] = {}
    spoken = set(args.groups) - {"clips"}
    calls = demo_groups(demo_of(args), args.calls) if spoken else {}
    groups = {name: paths for name, paths in calls.items() if name in spoken}
    for percent in args.levels:
        cases = {name: list(demo_cases(paths, percent, args.seed)) for name, paths in groups.items()}
        if "clips" in args.groups:
            cases["clips"] = list(clip_cases(args.corpus, percent, args.seed))
        for group, some in cases.items():
            made = [
                tallied(folder / f"{group}-{percent}-seed{args.seed}-{name}.json", aligner, case) for name, case in some
            ]
            found.setdefault(group, {})[percent] = merged(made)
    return found


@cache
def _opened(name: str) -> Aligner:
    return open_aligner(name)


def levels(args: Namespace) -> dict[str, Any]:
    return {
        group: {str(percent): tally.record() for percent, tally in by.items()} for group, by in leveled(args).items()
    }


def confidence(args: Namespace) -> dict[str, Any]:
    groups = {group: merged(by.values()).judged for group, by in leveled(args).items()}
    return align_curves.part(groups, args.out)


PARTS: dict[str, Callable[[Namespace], dict[str, Any]]] = {
    "levels": levels,
    "confidence": confidence,
    "traps": lambda args: align_traps.part(_opened(args.aligner), args),
    "speed": align_speed.part,
    "memory": align_speed.memory,
    "processes": align_speed.processes,
    "bootstrap": align_train.bootstrap,
    "training": align_train.training,
    "segmentation": align_segmentation.part,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 %% damage, one recording of ten minutes")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="a folder in the shape of ljspeech_part")
    parser.add_argument("--demo", type=Path, help="a demo corpus (default: one is made under --work)")
    parser.add_argument("--demo-calls", type=int, default=280, help="of the demo corpus that is made, 3 minutes each")
    parser.add_argument("--calls", type=int, default=6, help="native and non-native calls for levels and segmentation")
    parser.add_argument("--levels", type=int, nargs="+", default=list(LEVELS), metavar="PERCENT")
    groups = ["clips", "native", "non-native"]
    parser.add_argument("--groups", nargs="+", choices=groups, default=groups, help="of levels and confidence")
    parser.add_argument("--first-calls", type=int, default=120, help="native calls of the first pass of training")
    parser.add_argument(
        "--first-updates", type=int, default=2000, help="of the model trained on it, whatever --set says"
    )
    parser.add_argument(
        "--next-updates", type=int, default=6000, help="of the models that align next but the first, likewise"
    )
    parser.add_argument("--seeds", type=int, default=1, help="of the first and last models that training compares")
    parser.add_argument(
        "--hear-rest",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="in the passes of training from the third on",
    )
    parser.add_argument("--aligner", default="pocketsphinx")
    parser.add_argument("--run", type=Path, help="the ctc model of segmentation (default: the one of bootstrap)")
    parser.add_argument("--work", type=Path, default=Path("align"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", metavar="FILE", help="write the figures there; - is standard output")
    parser.add_argument("--set", dest="overrides", nargs="*", default=[], metavar="key.path=value", help="for training")
    args = parser.parse_args()
    if not args.quick and (other := other_outcomes(args)):
        parser.error(other)
    record = quick(_opened(args.aligner), args.corpus, args.seed) if args.quick else in_parts(args)
    text = json.dumps(record, indent=1)
    if args.json and args.json != "-":
        Path(args.json).write_text(text + "\n", encoding="utf-8")
    elif args.json or not args.out:
        print(text)


def other_outcomes(args: Namespace) -> str:
    """What speaks against going on under --work: what is kept there is of another corpus, aligner or seed."""
    names = ("corpus", "demo", "demo_calls", "calls", "seed", "aligner", "run", "first_calls", "first_updates",
             "next_updates", "seeds", "hear_rest", "overrides")  # fmt: skip
    asked = {name: str(getattr(args, name)) for name in names}
    path = args.work / "asked.json"
    before = read_json(path) if path.exists() else asked
    write_json(path, before)
    differ = [f"{name} {before.get(name)}" for name in names if before.get(name) != asked[name]]
    return f"{args.work} holds outcomes of {', '.join(differ)}; give another --work" if differ else ""


def in_parts(args: Namespace) -> dict[str, Any]:
    """The parts that are asked for, beside what --out has of the others; written after each."""
    record: dict[str, Any] = read_json(args.out) if args.out and args.out.exists() else {}
    for name in args.parts:
        made = PARTS[name](args)
        record[name] = {"machine": machine(), "seed": args.seed, "aligner": args.aligner, **made}
        if args.out:
            write_json(args.out, record)
    return record


if __name__ == "__main__":
    main()
