"""Real people reading digits: WER on test calls, and on each speaker when trained on the other four.

python -m benchmarks.digits --source ../shared/data/digit_calls --out benchmarks/results/digits.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from speechmill.artefact import read_json, write_json
from speechmill.config import load_recipe
from speechmill.manifest import read_manifest
from speechmill.pipeline import pipeline

RECIPE = Path("hparams/digits.yaml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("../shared/data/digit_calls"))
    parser.add_argument("--work", type=Path, default=Path("digits-speakers"), help="finished runs there are kept")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/digits.json"))
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    args = parser.parse_args()
    test_calls = one_run(args, "calls", ["select.shares={train: 0.75, valid: 0.1, test: 0.15}"])
    speakers = sorted(read_manifest(args.work / "calls" / "corpus.parquet")["speaker"].unique())
    by_speaker = {
        speaker: one_run(
            args, speaker,
            [f"select.test_where={{speaker: [{speaker}]}}", "select.shares={train: 0.9, valid: 0.1, test: 0.0}"],
        )
        for speaker in speakers
    }  # fmt: skip
    errors, words = (sum(result[key] for result in by_speaker.values()) for key in ("errors", "words"))
    write_json(
        args.out,
        machine()
        | {
            "test_calls": test_calls,
            "speaker_left_out": by_speaker,
            "speaker_left_out_mean_wer": sum(result["wer"] for result in by_speaker.values()) / len(by_speaker),
            "speaker_left_out_pooled_wer": errors / words,
        },
    )
    print(json.dumps(read_json(args.out), indent=1))


def one_run(args: argparse.Namespace, name: str, overrides: list[str]) -> dict[str, Any]:
    """Train and score in a folder of its own."""
    folder = args.work / name
    print(pipeline("bizspeech", args.source, folder, load_recipe(RECIPE, [*overrides, *args.overrides])))
    scores = read_json(folder / "scores.json")
    kept = {key: scores["test"][key] for key in ("wer", "errors", "words", "utterances", "wer_p", "cer")}
    return kept | {"seconds": scores["seconds"]}


if __name__ == "__main__":
    main()
