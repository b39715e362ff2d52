"""What each search costs and gives: real-time factor and WER of one run's searches, in one process.

    python -m benchmarks.decode demo/run --out benchmarks/results/decode.json

Every search recognizes the same utterances of --split (--utterances of them, drawn; 0: all), --repeat times, the
searches in turn, each time with a language model that remembers nothing; the median counts. The real-time factor is
seconds of work over seconds of sound, features and encoder included, word times left out and told apart (`times_rtf`).
What a search cannot do with the run's kind of model is not tried; a search with a language model needs that of the run.
Records of other recipes stay in --out; each tells its machine and threads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine
from speechmill.artefact import read_json, write_json
from speechmill.evaluate import open_recognizer
from speechmill.ordering import permutation
from speechmill.recognize import Audio, Recognizing
from speechmill.score import score_pairs
from speechmill.settings import CtcSettings, Recipe, SearchSettings
from speechmill.shards.foreign import open_reader
from speechmill.train.data import open_train_index
from speechmill.train.language import LANGUAGE_MODEL_NAME
from speechmill.train.runlog import read_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--split", default="test")
    parser.add_argument("--checkpoint", default="best", help="or best-K, last-K")
    parser.add_argument("--utterances", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/decode.json"))
    args = parser.parse_args()
    records: list[dict[str, Any]] = read_json(args.out)["searches"] if args.out.is_file() else []
    for run in args.runs:
        recipe = read_config(run)
        kept = [record for record in records if record["recipe"] != recipe.name]
        records = [*kept, *measured(run, recipe, args)]
        write_json(args.out, {"searches": records})
    print(json.dumps(records, indent=1))


def searches(recipe: Recipe, order: int) -> dict[str, SearchSettings]:
    """The searches that a recipe's model can do, by name; `order` of the run's n-gram model, 0 where it has none."""
    own = recipe.search
    found = {"greedy": SearchSettings(), "beam": SearchSettings(kind="beam", beam=own.beam)}
    language = {"lm_order": order, "lm_weight": own.lm_weight, "length_bonus": own.length_bonus}
    if order:
        found["beam + n-gram"] = SearchSettings(kind="beam", beam=own.beam, **language)
    if not isinstance(recipe.model, CtcSettings):
        weight = own.ctc_weight or 0.4
        found["beam + CTC"] = SearchSettings(kind="beam", beam=own.beam, ctc_weight=weight)
        if order:
            found["beam + CTC + n-gram"] = SearchSettings(kind="beam", beam=own.beam, ctc_weight=weight, **language)
    if own not in found.values():
        found["the recipe's"] = own
    return found


def measured(run: Path, recipe: Recipe, args: argparse.Namespace) -> list[dict[str, Any]]:
    index = open_train_index(recipe)
    rows = index.rows(args.split).tolist()
    drawn = permutation(len(rows), 0)[: args.utterances or len(rows)]
    rows = [rows[place] for place in sorted(drawn.tolist())]
    reader = open_reader(index)
    audio = [reader.audio(row) for row in rows]
    references = [reader.about(row)["text"] for row in rows]
    seconds = sum(map(len, audio)) / index.sample_rate
    order = recipe.search.lm_order if (run / LANGUAGE_MODEL_NAME).is_file() else 0
    opened = {
        name: open_recognizer(run, recipe, args.checkpoint, search) for name, search in searches(recipe, order).items()
    }
    torch.set_num_threads(args.threads)
    about = {"threads": args.threads, "machine": machine()}
    took: dict[str, list[float]] = {name: [] for name in opened}
    timed: dict[str, float] = {}
    records = {}
    for _ in range(args.repeat):
        for name, recognizing in opened.items():
            spent, hypotheses = recognized(without_memory(replace(recognizing, times=False)), audio)
            took[name].append(spent)
            rates = score_pairs(references, [hypothesis.text for hypothesis in hypotheses])
            caught = [hypothesis.caught for hypothesis in hypotheses if hypothesis.caught]
            records[name] = {
                "recipe": recipe.name, "search": name, "settings": recognizing.search.model_dump(mode="json"),
                "wer": rates.wer, "wer_p": rates.wer_p, "utterances": len(rows), "audio_seconds": seconds,
                "caught": {kind: caught.count(kind) for kind in sorted(set(caught))}, **about,
            }  # fmt: skip
    for name, recognizing in opened.items():
        timed[name] = recognized(without_memory(recognizing), audio)[0]
    for name, record in records.items():
        record["rtf"] = statistics.median(took[name]) / seconds
        record["times_rtf"] = timed[name] / seconds - record["rtf"]
    return list(records.values())


def without_memory(recognizing: Recognizing) -> Recognizing:
    """With a language model as it is opened: what it has scored before it would not have to score again."""
    if recognizing.language_model is not None:
        recognizing.language_model.forget()
    return recognizing


def recognized(recognizing: Recognizing, audio: Sequence[Audio]) -> tuple[float, list[Any]]:
    """Seconds of work, and the hypotheses."""
    since = time.monotonic()
    hypotheses = recognizing.all(audio.__getitem__, [len(samples) for samples in audio])
    return time.monotonic() - since, hypotheses


if __name__ == "__main__":
    main()
