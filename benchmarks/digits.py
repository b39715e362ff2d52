"""Real people reading digits: WER on test calls, and on each speaker when trained on the other four.

    python -m benchmarks.digits --source ../shared/data/digit_calls --out benchmarks/results/digits.json

Six runs of `speechmill pipeline`, two at a time with a thread each; what is finished under --work is not repeated.
As `make digits` does, they train on synthetic voices too (--script digits); --without-voices leaves them out.
With --only, the others keep what --out says of them; every run's updates stand beside its rates.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from speechmill.artefact import read_json, write_json
from speechmill.corpora import import_corpus
from speechmill.manifest import read_manifest
from speechmill.metrics import read_metrics

RECIPE = "hparams/digits.yaml"
AT_ONCE = 2
VOICES = ("--script", "digits", "--calls", "300", "--hours", "1.7")  # as in the Makefile
WEIGHT = 0.15  # passes over the voices in each pass over the recordings: about half of the audio heard is synthetic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("../shared/data/digit_calls"))
    parser.add_argument("--work", type=Path, default=Path("digits/speakers"), help="run folders")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/digits.json"))
    parser.add_argument("--without-voices", action="store_true", help="train on the real recordings alone")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="calls, or speakers")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    args = parser.parse_args()
    if not args.without_voices:
        subprocess.run([speechmill(), "demo-corpus", str(args.work / "voices"), *VOICES], check=True)
    manifest = import_corpus("bizspeech", args.source, args.work / "corpus.parquet").manifest
    speakers = sorted(read_manifest(manifest, ["speaker"])["speaker"].unique())
    splits = {"calls": ["select.shares={train: 0.75, valid: 0.1, test: 0.15}"]} | {
        speaker: [f"select.test_where={{speaker: [{speaker}]}}", "select.shares={train: 0.9, valid: 0.1, test: 0.0}"]
        for speaker in speakers
    }
    names = args.only or list(splits)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(zip(names, pool.map(lambda name: one_run(args, name, splits[name]), names), strict=True))
    if args.only:
        before = read_json(args.out)
        found = {"calls": before["test_calls"], **before["speaker_left_out"], **found}
    calls = found["calls"]
    results = {speaker: found[speaker] for speaker in speakers}
    errors, words = (sum(result[key] for result in results.values()) for key in ("errors", "words"))
    record = machine() | {
        "test_calls": calls,
        "speaker_left_out": results,
        "speaker_left_out_mean_wer": sum(result["wer"] for result in results.values()) / len(results),
        "speaker_left_out_pooled_wer": errors / words,
    }
    write_json(args.out, record)
    print(json.dumps(record, indent=1))


def one_run(args: argparse.Namespace, name: str, split: list[str]) -> dict[str, Any]:
    """Train and score in a folder of its own, by the command that users have."""
    folder = args.work / name
    command = [speechmill(), "pipeline", "bizspeech", str(args.source), str(folder), "--recipe", RECIPE]
    if not args.without_voices:
        command += ["--also", f"bizspeech:{args.work / 'voices'}:{WEIGHT}"]
    command += [*split, "train.threads=1", *args.overrides]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    scores = read_json(folder / "scores.json")
    kept = {key: scores["test"][key] for key in ("wer", "errors", "words", "utterances", "wer_p", "cer")}
    kept["voices"] = not args.without_voices
    return kept | {"updates": read_metrics(folder / "run")[-1]["update"], "seconds": scores["seconds"]}


def speechmill() -> str:
    return str(Path(sys.executable).with_name("speechmill"))


if __name__ == "__main__":
    main()
