"""Word times and confidences of a run's hypotheses, against the demo corpus's known word times.

    python -m benchmarks.words demo --out benchmarks/results/words.json

DEMO is a folder that `make demo` left. The test split (or --split) is recognized with the run's own search. Words of
the hypothesis that the alignment pairs with equal words of the reference have true times. Keys: `median_seconds` (of
the absolute errors of starts and ends together; the bar is 0.04), `start_*` and `end_*` each for itself, `timed` (share
of the reference's words that were so compared), and of the confidence: its mean over right and over wrong words, and
`confidence_auc`, the chance that a right word has more than a wrong one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.machine import machine
from speechmill.artefact import write_json
from speechmill.evaluate import open_recognizer
from speechmill.hypothesis import Hypothesis
from speechmill.ordering import permutation
from speechmill.progress import Progress
from speechmill.score.align import align
from speechmill.shards.foreign import open_reader
from speechmill.text import normalize
from speechmill.train.data import open_train_index
from speechmill.train.runlog import read_config

Times = list[tuple[str, float, float]]  # word as written, start and end in seconds from the start of the recording


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--run", type=Path, help="default: DEMO/run")
    parser.add_argument("--split", default="test")
    parser.add_argument("--utterances", type=int, default=0, help="so many, drawn once and for all; 0: all")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/words.json"))
    args = parser.parse_args()
    run = args.run or args.demo / "run"
    recipe = read_config(run)
    index = open_train_index(recipe)
    rows = index.rows(args.split)
    rows = rows[permutation(len(rows), 0)[: args.utterances or len(rows)]].tolist()
    reader = open_reader(index)
    recognizing = open_recognizer(run, recipe, "best")
    with Progress("recognize", len(rows), "utterances") as progress:
        heard = recognizing.all(
            lambda place: reader.audio(rows[place]), [int(index.samples[row]) for row in rows], progress
        )
    search = recognizing.search.model_dump(mode="json")
    record = machine() | {"recipe": recipe.name, "split": args.split, "utterances": len(rows), "search": search}
    record |= compared([index.id(row) for row in rows], heard, args.demo / "selected.parquet")
    write_json(args.out, record)
    print(json.dumps(record, indent=1))


def compared(ids: Sequence[str], hypotheses: Sequence[Hypothesis], manifest: Path) -> dict[str, Any]:
    """The figures, over some utterances."""
    known = {row["id"]: row for row in pl.read_parquet(manifest).iter_rows(named=True)}
    tables: dict[Path, dict[str, Times]] = {}
    starts: list[float] = []
    ends: list[float] = []
    right: list[float] = []
    wrong: list[float] = []
    total = 0
    for name, hypothesis in zip(ids, hypotheses, strict=True):
        about = known[name]
        path = Path(about["recording"]).with_name("words.tsv")
        if path not in tables:
            tables[path] = read_words(path)
        true = single(tables[path][name.rpartition("_")[2]])
        heard = [word for word in hypothesis.words if len(normalize(word.text).split()) == 1]
        total += len(true)
        ours = theirs = 0
        for edit in align([normalize(word) for word, _, _ in true], [normalize(word.text) for word in heard]):
            if edit.op == "=":
                starts.append(heard[theirs].start + about["start"] - true[ours][1])
                ends.append(heard[theirs].end + about["start"] - true[ours][2])
                right.append(heard[theirs].confidence)
            elif edit.op in "SI":
                wrong.append(heard[theirs].confidence)
            ours += edit.op != "I"
            theirs += edit.op != "D"
    return figures(np.array(starts), np.array(ends), total) | confidences(np.array(right), np.array(wrong))


def read_words(path: Path) -> dict[str, Times]:
    """The words of each sentence of a call."""
    found: dict[str, Times] = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        sentence, word, start, end = line.split("\t")
        found.setdefault(sentence, []).append((word, float(start), float(end)))
    return found


def single(words: Times) -> Times:
    """Those that are one word after normalisation too."""
    return [entry for entry in words if len(normalize(entry[0]).split()) == 1]


def figures(starts: np.ndarray, ends: np.ndarray, total: int) -> dict[str, Any]:
    both = np.abs(np.concatenate([starts, ends]))
    record: dict[str, Any] = {"median_seconds": float(np.median(both)), "timed": len(starts) / total, "words": total}
    for name, errors in (("start", starts), ("end", ends)):
        record[f"{name}_median_seconds"] = float(np.median(np.abs(errors)))
        record[f"{name}_p95_seconds"] = float(np.percentile(np.abs(errors), 95))
        record[f"{name}_bias_seconds"] = float(np.median(errors))
    return record


def confidences(right: np.ndarray, wrong: np.ndarray) -> dict[str, Any]:
    more = (right[:, None] > wrong).mean() + 0.5 * (right[:, None] == wrong).mean() if len(wrong) else None
    return {
        "right_words": len(right),
        "wrong_words": len(wrong),
        "confidence_right": float(right.mean()),
        "confidence_wrong": float(wrong.mean()) if len(wrong) else None,
        "confidence_auc": None if more is None else float(more),
    }


if __name__ == "__main__":
    main()
