"""Part `segmentation` of `benchmarks.align`: the package ctc-segmentation beside `ctc:RUN`.

Both work on outputs of the same model (ours in shorter pieces of sound), with the same damaged transcripts.

Kürzinger et al. (2020), "CTC-Segmentation of Large Corpora for German End-to-End Speech Recognition". SpeechBrain's and
ESPnet's integrations wrap this package. It places every sentence of the transcript in order and gives each a score;
which are kept is then a threshold. Here it is the one that rejects 98 % of the false sentences, chosen with the truth
in hand: the best that a threshold can do.
"""

from __future__ import annotations

import importlib.util
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.align_cases import demo_cases, demo_groups, demo_of, once, tallied
from benchmarks.align_tally import Tally, merged
from benchmarks.damage import Said, Written
from speechmill.align.ctc import Ctc, RunEmitter
from speechmill.align.recording import Outcome
from speechmill.align.sound import FRAME, levels, pieces
from speechmill.audio import RATE, Pcm
from speechmill.errors import SpeechmillError
from speechmill.tokenizer import BLANK

_REJECTED = 0.98


def part(args: Namespace) -> dict[str, Any]:
    """Figures of both, over native and non-native calls. Raises SpeechmillError without a run folder."""
    run: Path = args.run or args.work / "bootstrap" / "run"
    if not (run / "config.yaml").exists():
        raise SpeechmillError(f"{run}: no run folder; give one with --run, or do the part bootstrap first.")
    emitter = RunEmitter(run)
    groups = demo_groups(demo_of(args), args.calls)
    there = importlib.util.find_spec("ctc_segmentation") is not None
    found: dict[str, Any] = {} if there else {"ctc-segmentation": "not installed: pip install ctc-segmentation"}
    for group, folders in groups.items():
        cases = list(demo_cases(folders, 20, args.seed))
        folder = args.work / "segmentation"
        ours = [tallied(folder / f"ctc-{group}-{name}.json", Ctc(emitter), case) for name, case in cases]
        found[group] = {"ctc": merged(ours).record()}
        if there:
            theirs = [
                once(folder / f"package-{group}-{name}.json", lambda case=case: segmented(emitter, *case()))
                for name, case in cases
            ]
            found[group]["ctc-segmentation"] = best(theirs)
    return found


def segmented(emitter: RunEmitter, samples: Pcm, written: list[Written]) -> dict[str, Any]:
    """Start, end and score of each sentence by the package, and the seconds of work."""
    import ctc_segmentation as package

    started = time.process_time()
    parts = [emitter.log_probs(samples[a * FRAME : b * FRAME])[0].numpy() for a, b in pieces(levels(samples))]
    log_probs = np.concatenate(parts)
    settings = package.CtcSegmentationParameters()
    settings.char_list = [str(number) for number in range(emitter.tokens)]
    settings.blank = BLANK
    settings.index_duration = len(samples) / RATE / len(log_probs)
    coded = [np.array([t for word in one.text.split() for t in emitter.encode(word)]) for one in written]
    coded = [ids if len(ids) else np.array([1]) for ids in coded]
    truth, begins = package.prepare_token_list(settings, coded)
    times, probs, _ = package.ctc_segmentation(settings, log_probs, truth)
    placed = package.determine_utterance_segments(settings, begins, probs, times, [one.text for one in written])
    rows = [
        (
            float(start),
            float(end),
            float(score),
            *((one.said.start, one.said.end) if one.said else (-1.0, -1.0)),
            one.damaged,
        )
        for one, (start, end, score) in zip(written, placed, strict=True)
    ]
    return {"rows": rows, "work": time.process_time() - started, "seconds": len(samples) / RATE}


def best(calls: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures under the threshold that rejects 98 % of the false sentences."""
    rows = [row for call in calls for row in call["rows"]]
    false = sorted((row[2] for row in rows if row[3] < 0), reverse=True)
    threshold = false[int((1 - _REJECTED) * len(false))] if false else -np.inf
    tally = Tally(seconds=sum(call["seconds"] for call in calls), work=sum(call["work"] for call in calls))
    for start, end, score, true_start, true_end, damaged in rows:
        kept = score > threshold
        said = None if true_start < 0 else Said("", true_start, true_end)
        there = Written("", said, dropped=int(damaged))
        tally.add([there], [Outcome(0, "kept" if kept else "under-the-threshold", score, start, end)])
    return tally.record() | {"threshold": float(threshold)}
