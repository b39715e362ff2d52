"""What `align` keeps and rejects of damaged transcripts, how near its times are, and how fast it is.

    python -m benchmarks.align --quick --seed 3 --json -        20 % damage, one recording: the keys below
    python -m benchmarks.align --demo DEMO --out benchmarks/results/align.json      all levels, LJSpeech and demo corpus

Keys: `kept_true` (share of the true sentences kept, those with damaged words among them), `rejected_false`,
`boundary_median_seconds`, `boundary_p95_seconds` and `boundary_max_seconds` (of kept sentences whose words are whole),
`realtime` (seconds of sound per second of one core's work, all passes, decoding and start included).
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.damage import LEVELS, Said, Written, clips, damaged, demo_call
from benchmarks.machine import machine
from speechmill.align.aligners import open_aligner
from speechmill.align.base import Aligner, Sentence
from speechmill.align.recording import Outcome, align_recording
from speechmill.artefact import read_json, write_json
from speechmill.audio import RATE, Pcm, decode

CORPUS = Path("../shared/data/ljspeech_part")
QUICK = 95  # clips: half of the folder, ten minutes
FAR = 3.0  # seconds from where it was said at which a kept sentence counts as not kept
BINS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)


@dataclass
class Tally:
    """Counts over recordings; `rows` is one entry per kept sentence: confidence, right, errors."""

    true: int = 0
    kept_true: int = 0
    false: int = 0
    kept_false: int = 0
    harmed: int = 0
    kept_harmed: int = 0
    marked: int = 0  # harmed words marked as not heard
    marks: int = 0  # words so marked in all, of harmed sentences
    harmed_words: int = 0
    seconds: float = 0.0
    work: float = 0.0
    edges: list[float] = field(default_factory=list)
    words: list[float] = field(default_factory=list)
    confidences: list[tuple[float, bool]] = field(default_factory=list)
    harmed_confidences: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, written: Sequence[Written], outcomes: Sequence[Outcome]) -> None:
        """Compare what was found with what is true."""
        for one, outcome in zip(written, outcomes, strict=True):
            self.reasons[outcome.reason] += 1
            if one.said is None:
                self.false += 1
                self.kept_false += outcome.kept
                if outcome.kept:
                    self.confidences.append((outcome.confidence, False))
                continue
            right = outcome.kept and abs((outcome.start or 0.0) - one.said.start) < FAR
            self.true += 1
            self.kept_true += right
            if outcome.kept:
                self.confidences.append((outcome.confidence, right))
            if one.damaged:
                self.harmed += 1
                self.kept_harmed += right
                self._marks(one, outcome)
            elif right:
                self.edges += [abs((outcome.start or 0.0) - one.said.start), abs((outcome.end or 0.0) - one.said.end)]
                self._words(one.said, outcome)

    def _marks(self, one: Written, outcome: Outcome) -> None:
        if not outcome.kept:
            return
        self.harmed_confidences.append(outcome.confidence)
        unheard = {place for place, token in enumerate(outcome.tokens) if not token.heard}
        self.harmed_words += len(one.harmed)
        self.marked += len(unheard & set(one.harmed))
        self.marks += len(unheard)

    def _words(self, said: Said, outcome: Outcome) -> None:
        if len(said.words) == len(outcome.tokens):
            for (_, start, end), token in zip(said.words, outcome.tokens, strict=True):
                if token.start is not None and token.end is not None:
                    self.words += [abs(token.start - start), abs(token.end - end)]

    def record(self) -> dict[str, Any]:
        """The figures."""
        edges, words = np.array(self.edges or [np.nan]), np.array(self.words or [np.nan])
        return {
            "kept_true": self.kept_true / max(self.true, 1),
            "rejected_false": 1 - self.kept_false / max(self.false, 1),
            "boundary_median_seconds": float(np.median(edges)),
            "boundary_p95_seconds": float(np.percentile(edges, 95)),
            "boundary_max_seconds": float(edges.max()),
            "realtime": self.seconds / self.work if self.work else None,
            "true": self.true,
            "false": self.false,
            "kept_harmed": self.kept_harmed / self.harmed if self.harmed else None,
            "harmed": self.harmed,
            "harmed_words_marked": self.marked / self.harmed_words if self.harmed_words else None,
            "marks_that_are_right": self.marked / self.marks if self.marks else None,
            "word_median_seconds": float(np.median(words)) if self.words else None,
            "word_p95_seconds": float(np.percentile(words, 95)) if self.words else None,
            "hours": self.seconds / 3600,
            "reasons": dict(self.reasons.most_common()),
        }

    def reliability(self) -> list[dict[str, float]]:
        """Confidence against the share of kept sentences that are true and in their place."""
        rows = []
        for low, high in itertools.pairwise(BINS):
            last = high == BINS[-1]
            inside = [right for sure, right in self.confidences if low <= sure < high or (last and sure == high)]
            if inside:
                rows.append({"from": low, "to": high, "sentences": len(inside), "right": sum(inside) / len(inside)})
        return rows


def sentences(aligner: Aligner, written: Sequence[Written]) -> list[Sentence]:
    """A transcript as the aligner takes it."""
    return [Sentence(place, one.text, tuple(aligner.read(one.text)), one.speaker) for place, one in enumerate(written)]


def one_recording(aligner: Aligner, samples: Pcm, written: Sequence[Written], tally: Tally) -> tuple[Outcome, ...]:
    """Align, and add to a tally."""
    started = time.process_time()
    found = align_recording(aligner, samples, sentences(aligner, written))
    tally.work += time.process_time() - started
    tally.seconds += len(samples) / RATE
    tally.add(written, found.outcomes)
    return found.outcomes


def halves(corpus: Path) -> Iterator[tuple[Pcm, list[Said], list[str]]]:
    """A folder of clips as two recordings; what is inserted into one's transcript was said in the other."""
    rows = [line for line in (corpus / "metadata.csv").read_text(encoding="utf-8").splitlines() if line]
    middle = len(rows) // 2
    texts = [row.split("|")[1] for row in rows]
    yield *clips(corpus, 0, middle), texts[middle:]
    yield *clips(corpus, middle, None), texts[:middle]


def on_clips(aligner: Aligner, corpus: Path, percent: int, seed: int) -> Tally:
    """One level of damage on a folder of clips."""
    tally = Tally()
    for number, (samples, said, others) in enumerate(halves(corpus)):
        one_recording(aligner, samples, damaged(said, others, percent, 10 * seed + number), tally)
    return tally


def demo_groups(demo: Path, calls: int) -> dict[str, list[Path]]:
    """The first calls of a demo corpus, native and not."""
    metadata = read_json(demo / "metadata" / "BizSpeech_MetaData.json")
    groups: dict[str, list[Path]] = {"native": [], "non-native": []}
    for event, row in metadata.items():
        group = groups["native" if row["partition"] == 5 else "non-native"]
        if len(group) < calls:
            group.append(demo / "MEDIA" / event)
    return groups


def on_demo(aligner: Aligner, folders: Sequence[Path], percent: int, seed: int) -> Tally:
    """One level of damage on calls of the demo corpus; what is inserted comes from the next call."""
    tally = Tally()
    said_of = [demo_call(folder) for folder in folders]
    for number, (recording, said) in enumerate(said_of):
        spoken = {one.text for one in said}
        others = [one.text for one in said_of[(number + 1) % len(said_of)][1] if one.words and one.text not in spoken]
        written = damaged(said, others, percent, 1000 * seed + number)
        one_recording(aligner, decode(recording), written, tally)
    return tally


def quick(aligner: Aligner, corpus: Path, seed: int) -> dict[str, Any]:
    """20 % damage on the first half of a folder."""
    rows = [line.split("|") for line in (corpus / "metadata.csv").read_text(encoding="utf-8").splitlines() if line]
    last = min(QUICK, max(1, len(rows) // 2))
    samples, said = clips(corpus, 0, last)
    tally = Tally()
    one_recording(aligner, samples, damaged(said, [row[1] for row in rows[last:]], 20, seed), tally)
    return tally.record()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 %% damage, one recording of ten minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="a folder in the shape of ljspeech_part")
    parser.add_argument("--demo", type=Path, help="a demo corpus (speechmill demo-corpus)")
    parser.add_argument("--calls", type=int, default=6, help="native and non-native calls of it")
    parser.add_argument("--levels", type=int, nargs="+", default=list(LEVELS), metavar="PERCENT")
    parser.add_argument("--aligner", default="pocketsphinx")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", metavar="FILE", help="write the figures there; - is standard output")
    args = parser.parse_args()
    aligner = open_aligner(args.aligner)
    if args.quick:
        record: dict[str, Any] = quick(aligner, args.corpus, args.seed)
    else:
        record = machine() | full(aligner, args)
    if args.out:
        write_json(args.out, record)
    text = json.dumps(record, indent=1)
    if args.json and args.json != "-":
        Path(args.json).write_text(text + "\n", encoding="utf-8")
    elif args.json or not args.out:
        print(text)


def full(aligner: Aligner, args: argparse.Namespace) -> dict[str, Any]:
    """All levels on clips, and on the demo corpus where one is given."""
    record: dict[str, Any] = {"seed": args.seed, "aligner": args.aligner, "clips": {}, "demo": {}}
    sure: list[tuple[float, bool]] = []
    for percent in args.levels:
        tally = on_clips(aligner, args.corpus, percent, args.seed)
        record["clips"][percent] = tally.record()
        sure += tally.confidences
        print(f"clips {percent} %: {json.dumps(tally.record())}", file=sys.stderr)
    for name, folders in demo_groups(args.demo, args.calls).items() if args.demo else ():
        record["demo"][name] = {}
        for percent in args.levels:
            tally = on_demo(aligner, folders, percent, args.seed)
            record["demo"][name][percent] = tally.record()
            sure += tally.confidences
            print(f"demo {name} {percent} %: {json.dumps(tally.record())}", file=sys.stderr)
    record["reliability"] = Tally(confidences=sure).reliability()
    record["memory_megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return record


if __name__ == "__main__":
    main()
