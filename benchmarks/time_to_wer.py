"""Seconds of training until a validation WER is reached: ours, and SpeechBrain's modules under its `Brain`.

    python -m benchmarks.time_to_wer --work time_to_wer --out benchmarks/results/time_to_wer.json

Both train the demo's attention recipe from the same weights, with the same optimizer, learning rates, statistics of the
features and number of updates, on the same utterances of the demo corpus, one after the other on all cores. What each
does with that is its own: ours is `speechmill train` as a user calls it; theirs is a `Brain` with SpeechBrain's
dataset, its DynamicBatchSampler with batches of the same size, and its precision (--precision). Their audio are loose
WAVs, cut and resampled before the clock runs. Both are validated after as many updates by the same program (ours,
greedy search, on their weights and running averages); that takes no time of the clock.

`target` is the error rate that both have come to; `ratio` is our seconds over theirs until then.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import soundfile
import speechbrain as sb
import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import DynamicBatchSampler

from benchmarks.brain import EDGE, AttentionBrain, build_brain, give_back, give_weights
from benchmarks.lab import prepared, speechmill
from benchmarks.machine import machine
from speechmill.artefact import read_json, write_json
from speechmill.config import load_recipe
from speechmill.group import ALONE
from speechmill.metrics import read_metrics
from speechmill.models.crdnn import CrdnnRecognizer
from speechmill.settings import Recipe
from speechmill.shards.index import open_index
from speechmill.shards.read import ShardReader
from speechmill.tokenizer import load_tokenizer
from speechmill.train.optim import learning_rate
from speechmill.train.prepare import prepare
from speechmill.train.signals import StopRequest
from speechmill.train.validation import validation

OUT = Path("benchmarks/results/time_to_wer.json")
RECIPE = Path("hparams/demo_aed.yaml")
Curve = list[tuple[int, float, float]]  # update, seconds of training, WER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("time_to_wer"), help="corpus, run folder, their WAVs")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"], help="of theirs")
    parser.add_argument("--order", default="random", choices=["random", "ascending"], help="of their batches")
    parser.add_argument("--side", choices=["ours", "theirs"], help="one alone; the other's curve is that of --out")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="for both sides")
    args = parser.parse_args()
    if args.overrides and args.out == OUT:
        parser.error(f"with settings of its own a trial needs an --out of its own: {OUT} holds runs of the recipe")
    data = prepared("demo", "all", args.work, RECIPE, args.overrides)
    places = [f"data.shards={data / 'shards'}", f"data.tokenizer={args.work / 'tokenizer.model'}"]
    recipe = load_recipe(RECIPE, [*args.overrides, *places])
    known = read_json(args.out) if args.out.is_file() else {}
    sides = {
        "ours": lambda: our_curve(args.work / "run", [*args.overrides, *places]),
        "theirs": lambda: their_curve(recipe, args.work, args.precision, args.order),
    }
    for side, curve in sides.items():
        if args.side in (None, side):
            known[side] = curve()
            write_json(args.out, known)
    if {"ours", "theirs"} <= known.keys():
        known |= compared(known["ours"], known["theirs"])
    known |= {"machine": machine(), "precision": {"ours": recipe.train.precision, "theirs": args.precision},
              "order": {"ours": recipe.schedule.order, "theirs": args.order}}  # fmt: skip
    write_json(args.out, known)
    print(json.dumps(known, indent=1))


def compared(ours: Curve, theirs: Curve) -> dict[str, float]:
    """The time of each to the worse of the two best error rates."""
    target = max(min(wer for _, _, wer in curve) for curve in (ours, theirs))
    found = {
        side: min(seconds for _, seconds, wer in curve if wer <= target)
        for side, curve in (("ours", ours), ("theirs", theirs))
    }
    return {
        "target": target,
        "seconds_ours": found["ours"],
        "seconds_theirs": found["theirs"],
        "ratio": round(found["ours"] / found["theirs"], 3),
    }


def our_curve(run: Path, settings: list[str]) -> Curve:
    speechmill("train", RECIPE, "--run", run, *settings)
    curve, aside = [], 0.0
    for line in read_metrics(run):
        if line["event"] == "valid":
            aside += line["valid_seconds"]
            curve.append((line["update"], round(line["seconds"] - aside, 1), line["wer"]))
    return curve


class _Over(Exception):
    """All updates are done."""


class Timed(AttentionBrain):
    """Has our learning rates, and validates without the clock."""

    recipe: Recipe
    model: CrdnnRecognizer
    validate: Any
    curve: Curve
    seconds: float
    since: float
    done: int

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        del batch, should_step
        rate = learning_rate(self.recipe.optim, self.done, self.recipe.train.updates, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Any, should_step: bool) -> None:
        del batch, outputs, loss, should_step
        self.done += 1
        if self.done % self.recipe.train.validate_every and self.done != self.recipe.train.updates:
            return
        self.seconds += time.perf_counter() - self.since
        self.curve.append((self.done, round(self.seconds, 1), self.validate(self)))
        print(f"theirs: {self.curve[-1]}", file=sys.stderr)
        if self.done == self.recipe.train.updates:
            raise _Over
        self.since = time.perf_counter()


def their_curve(recipe: Recipe, work: Path, precision: str, order: str) -> Curve:
    index, tokenizer = open_index(recipe.data.shards), load_tokenizer(recipe.data.tokenizer)
    leaky = recipe.model_copy(update={"model": recipe.model.model_copy(update={"mask_padding": False})})
    # The weights and statistics that ours begins with: they depend on the seed alone.
    model = prepare(leaky, work / "start", ALONE).strategy.standing()
    brain = build_brain(recipe, len(tokenizer), precision, kind=Timed)
    assert isinstance(model, CrdnnRecognizer)
    assert isinstance(brain, Timed)
    give_weights(model, brain)

    def validate(now: AttentionBrain) -> float:
        give_back(now, model)
        return float(validation(model.eval(), tokenizer, index, leaky, ALONE, StopRequest())[0]["wer"])

    brain.recipe, brain.model, brain.validate = recipe, model, validate
    brain.curve, brain.seconds, brain.done = [], 0.0, 0
    dataset = their_dataset(work / "wavs", index, tokenizer)
    sampler = DynamicBatchSampler(
        dataset, max_batch_length=recipe.schedule.target_seconds, num_buckets=100, shuffle=True, batch_ordering=order,
        length_func=lambda row: row["duration"], seed=recipe.schedule.seed,
    )  # fmt: skip
    loader = sb.dataio.dataloader.make_dataloader(dataset, batch_sampler=sampler, num_workers=0)
    brain.since = time.perf_counter()
    with contextlib.suppress(_Over):
        brain.fit(range(1, 1000), loader, progressbar=False)
    return brain.curve


def their_dataset(folder: Path, index: Any, tokenizer: Any) -> DynamicItemDataset:
    """The train split as loose WAVs, which are written where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    reader, rows = ShardReader(index), {}
    for row in index.rows("train").tolist():
        path = folder / f"{index.id(row)}.wav"
        if not path.is_file():
            soundfile.write(path, reader.audio(row), index.sample_rate, subtype="PCM_16")
        rows[index.id(row)] = {
            "wav": str(path), "duration": float(index.samples[row]) / index.sample_rate,
            "text": reader.about(row)["text"],
        }  # fmt: skip

    @sb.utils.data_pipeline.takes("wav")
    @sb.utils.data_pipeline.provides("sig")
    def audio(wav: str) -> torch.Tensor:
        return sb.dataio.dataio.read_audio(wav)

    @sb.utils.data_pipeline.takes("text")
    @sb.utils.data_pipeline.provides("tokens", "tokens_bos", "tokens_eos")
    def text(text: str) -> Any:
        tokens = tokenizer.encode(text)
        yield torch.tensor(tokens, dtype=torch.long)
        yield torch.tensor([EDGE, *tokens], dtype=torch.long)
        yield torch.tensor([*tokens, EDGE], dtype=torch.long)

    keys = ["id", "sig", "tokens", "tokens_bos", "tokens_eos"]
    return DynamicItemDataset(rows, [audio, text], keys)


if __name__ == "__main__":
    main()
