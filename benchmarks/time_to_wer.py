"""Seconds of training until a validation WER is reached: ours, and SpeechBrain's modules under its `Brain`.

    python -m benchmarks.time_to_wer theirs ours --out benchmarks/results/time_to_wer.json
    python -m benchmarks.time_to_wer theirs --precision bf16        one more record

Both train the demo's attention recipe from the same weights, with the same optimizer, learning rates, statistics of the
features, number of updates and size of batches, on the same utterances of the demo corpus, on all cores, one after the
other. The rest is their own: ours is `speechmill train` as a user calls it; theirs is a `Brain` with SpeechBrain's
dataset and its DynamicBatchSampler. Theirs has each --precision and --order that is asked for; `curriculum` is what our
recipe has, short utterances first in the first epoch. Their audio are loose WAVs, cut and resampled before the clock
runs. Both are validated after as many updates on the same utterances by the same program (ours, greedy), theirs with
its running averages in the batch normalisation; that is no time of the clock, the statistics that ours computes for it
included. Checkpoints, which theirs does not write, are.

--out has one record for each run. `ratio_of_seed`: our seconds until --target over those of their fastest run; null
where one side has not come to it. `ratio`: their median, told only where every seed has one and theirs was run in the
same ways (`theirs_of_seed`) on each; `note` says why it is null. `at_targets` has the same for other error rates.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile
import speechbrain as sb
import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import DynamicBatchSampler
from torch.utils.data import DataLoader

from benchmarks.brain import EDGE, AttentionBrain, build_brain, give_back, give_weights
from benchmarks.lab import prepared, speechmill
from benchmarks.machine import machine
from speechmill.artefact import fingerprint, read_json, write_json
from speechmill.config import load_recipe
from speechmill.group import ALONE
from speechmill.metrics import read_metrics
from speechmill.models.crdnn import CrdnnRecognizer
from speechmill.settings import CrdnnSettings, Recipe, recipe_text
from speechmill.shards.index import Index
from speechmill.shards.read import ShardReader
from speechmill.tokenizer import Tokenizer
from speechmill.train.data import open_train_index, open_train_tokenizer
from speechmill.train.optim import learning_rate
from speechmill.train.prepare import prepare
from speechmill.train.signals import StopRequest
from speechmill.train.validation import validation

OUT = Path("benchmarks/results/time_to_wer.json")
RECIPE = Path("hparams/demo_aed.yaml")
# Often, and on the whole split: times are told to a thirtieth of the run.
_VALIDATIONS = ("train.validate_every=100", "train.validate_utterances=0", "train.checkpoint_every=1000")
TARGETS = (0.25, 0.3, 0.4)  # one error rate alone may be where a side happens to be ahead
Curve = list[tuple[int, float, float]]  # update, seconds of training, WER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sides", nargs="+", choices=["ours", "theirs"])
    parser.add_argument("--work", type=Path, default=Path("time_to_wer"), help="corpus, run folders, their WAVs")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"], help="of theirs")
    parser.add_argument("--order", default="curriculum", choices=["random", "curriculum"], help="of their batches")
    parser.add_argument("--target", type=float, default=0.3, help="validation WER (default: %(default)s)")
    parser.add_argument("--set", nargs="*", default=[], metavar="key.path=value", help="for both, to try the program")
    args = parser.parse_args()
    if args.set and args.out == OUT:
        parser.error(f"with settings of its own a trial needs an --out of its own: {OUT} holds runs of the recipe")
    fixed = [*_VALIDATIONS, *args.set]
    settings = [*fixed, f"train.seed={args.seed}", f"schedule.seed={args.seed}"]
    data = prepared("demo", "all", args.work, RECIPE, args.set)
    places = [f"data.shards={data / 'shards'}", f"data.tokenizer={args.work / 'tokenizer.model'}"]
    recipe = load_recipe(RECIPE, [*settings, *places])
    name = fingerprint([recipe_text(load_recipe(RECIPE, fixed))])  # of all seeds
    runs: list[dict[str, Any]] = read_json(args.out)["runs"] if args.out.is_file() else []
    if others := sum(run["recipe"] != name for run in runs):
        parser.error(f"{args.out} has {others} runs of another recipe; name another --out, or remove it")
    for side in args.sides:
        about: dict[str, Any] = {"side": side, "recipe": name, "seed": args.seed, "machine": machine()}
        if side == "ours":
            curve = our_curve(args.work / f"run-{name}-seed{args.seed}", [*settings, *places])
            about |= {"precision": recipe.train.precision, "order": "curriculum"}
        else:
            curve = their_curve(recipe, args.work, args.precision, args.order)
            about |= {"precision": args.precision, "order": args.order}
        runs.append({**about, "curve": curve})
        write_json(args.out, summary(runs, args.target))
    print(json.dumps(summary(runs, args.target), indent=1))


def summary(runs: Sequence[dict[str, Any]], target: float) -> dict[str, Any]:
    return {
        "target": target,
        **ratios(runs, target),
        "at_targets": {f"{other:g}": ratios(runs, other) for other in TARGETS},
        "theirs_of_seed": {str(seed): their_ways(runs, seed) for seed in seeds_of(runs)},
        "runs": list(runs),
    }


def ratios(runs: Sequence[dict[str, Any]], target: float) -> dict[str, Any]:
    """By seed, to the fastest of theirs; their median, or in `note` why there is none.

    A seed on which a side has not come to the target counts against the median: left out, it would be of the seeds on
    which that side did well.
    """
    of_seed = {str(seed): ratio(runs, seed, target) for seed in seeds_of(runs)}
    missing = [seed for seed, value in of_seed.items() if value is None]
    note = f"one side has not come to the target, or was not run, on seeds {', '.join(missing)}" if missing else ""
    if len({tuple(their_ways(runs, seed)) for seed in seeds_of(runs)}) > 1:
        note = "theirs was not run in the same ways on each seed"
    values = [value for value in of_seed.values() if value is not None]
    middle = None if note or not values else round(statistics.median(values), 3)
    return {"ratio": middle, "ratio_of_seed": of_seed, "note": note}


def ratio(runs: Sequence[dict[str, Any]], seed: int, target: float) -> float | None:
    ours, theirs = (
        min((seconds_to(run["curve"], target) for run in runs if (run["seed"], run["side"]) == (seed, side)),
            default=float("inf"))
        for side in ("ours", "theirs")
    )  # fmt: skip
    return round(ours / theirs, 3) if max(ours, theirs) < float("inf") else None


def seeds_of(runs: Sequence[dict[str, Any]]) -> list[int]:
    return sorted({run["seed"] for run in runs})


def their_ways(runs: Sequence[dict[str, Any]], seed: int) -> list[str]:
    """Precision and order of each of their runs: the fastest of more runs is faster."""
    theirs = [run for run in runs if (run["seed"], run["side"]) == (seed, "theirs")]
    return sorted(f"{run['precision']}, {run['order']}" for run in theirs)


def seconds_to(curve: Curve, target: float) -> float:
    """Seconds until a validation first was at the target; infinite where none was."""
    return min((seconds for _, seconds, wer in curve if wer <= target), default=float("inf"))


def our_curve(run: Path, settings: Sequence[str]) -> Curve:
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
    validate: Any
    curve: Curve
    seconds: float
    since: float
    done: int

    def on_fit_start(self) -> None:
        """`fit` is called twice, for the curriculum; the optimizer stays."""
        if getattr(self, "optimizer", None) is None:
            super().on_fit_start()

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
        self.modules.train()
        self.since = time.perf_counter()


def their_curve(recipe: Recipe, work: Path, precision: str, order: str) -> Curve:
    index, tokenizer = open_train_index(recipe), open_train_tokenizer(recipe)
    assert isinstance(recipe.model, CrdnnSettings)
    # Its encoder lets padding in, and so does what it is validated with.
    leaky = recipe.model_copy(update={"model": recipe.model.model_copy(update={"mask_padding": False})})
    # The weights and statistics that ours begins with: they depend on the seed alone.
    model = prepare(leaky, work / f"start-{recipe.train.seed}", ALONE).strategy.standing()
    brain = build_brain(recipe, len(tokenizer), precision, kind=Timed)
    assert isinstance(model, CrdnnRecognizer)
    assert isinstance(brain, Timed)
    give_weights(model, brain)

    def validate(now: AttentionBrain) -> float:
        give_back(now, model)
        return float(validation(model.eval(), tokenizer, index, leaky, ALONE, StopRequest())[0]["wer"])

    brain.recipe, brain.validate = recipe, validate
    brain.curve, brain.seconds, brain.done = [], 0.0, 0
    dataset = their_dataset(work / "wavs", index, tokenizer)
    brain.since = time.perf_counter()
    with contextlib.suppress(_Over):
        if order == "curriculum":
            fit(brain, dataset, recipe, "ascending", range(1, 1 + recipe.schedule.order_epochs))
        fit(brain, dataset, recipe, "random", range(1 + recipe.schedule.order_epochs, 1000))
    return brain.curve


def fit(brain: Timed, dataset: DynamicItemDataset, recipe: Recipe, order: str, epochs: range) -> None:
    sampler = DynamicBatchSampler(
        dataset, max_batch_length=recipe.schedule.target_seconds, num_buckets=100, shuffle=order == "random",
        batch_ordering=order, length_func=lambda row: row["duration"], seed=recipe.schedule.seed,
    )  # fmt: skip
    loader: DataLoader[Any] = sb.dataio.dataloader.make_dataloader(dataset, batch_sampler=sampler, num_workers=0)
    brain.train_sampler = sampler  # else it is never told the epoch, and gives the same batches in all
    brain.fit(epochs, loader, progressbar=False)


def their_dataset(folder: Path, index: Index, tokenizer: Tokenizer) -> DynamicItemDataset:
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

    return DynamicItemDataset(rows, [audio, text], ["id", "sig", "tokens", "tokens_bos", "tokens_eos"])


if __name__ == "__main__":
    main()
