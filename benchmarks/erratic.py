"""What could have made the original's Hogwild erratic, candidate by candidate, on processes that are simulated.

    python -m benchmarks.erratic --out benchmarks/results/erratic.json

Words are tones; a small CRDNN (batch normalisation, dropout, LSTM) learns to name them. Processes take turns, so that
each writes when all others have written since it read: the staleness of real ones, without chance, and the parameters
change by the very code that Hogwild's workers run (`Shared`, `Step`). What the original did otherwise is put on top.

For each variant, over seeds: the token error of the last validations, how much it jumps from one validation to the next
(the mean absolute difference, over a run's second half) and the worst of the second half. --out is written after each
run; those that it holds already, of the same settings, are not computed again.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.machine import machine
from speechmill.artefact import read_json, write_json
from speechmill.features import StatisticsSum
from speechmill.loader import Batch, padded
from speechmill.models import build_model
from speechmill.models.crdnn import CrdnnRecognizer
from speechmill.progress import Progress
from speechmill.settings import CrdnnSettings, FeatureSettings, OptimSettings, Recipe, ShardSettings, TrainSettings
from speechmill.strategies.hogwild_worker import Step
from speechmill.strategies.shared import Shared

_RATE = 8000
_TONES = (400, 550, 740, 980, 1280, 1650, 2100, 2700)  # Hz; word k is token k + 1
_CPU = torch.device("cpu")
_BATCH = 4  # utterances of a process's batch
_NORMALISER_BATCHES = 10
_VALIDATIONS = 20
_MODEL = CrdnnSettings(
    cnn_channels=[8, 16], rnn_layers=1, rnn_size=32, dnn_blocks=2, dnn_size=32, embedding_size=8, decoder_size=16,
    attention_size=16, attention_channels=2, attention_kernel=5, dropout=0.15,
)  # fmt: skip


@dataclass(frozen=True)
class Variant:
    name: str
    processes: int = 3
    times: int = 1  # the batch, and the audio of an update
    rate: float = 1.0  # times the learning rate
    moments: str = "own"
    running: bool = False  # batch normalisation's running averages, kept by all processes and validated with
    normalisers: bool = False  # each process has its own, rank 0's is validated with
    alone: int = 0  # the first updates, which one process makes
    warmup: int = 0  # updates


VARIANTS = (
    Variant("single, the batch of all processes", 1, times=3),
    Variant("single", 1),
    Variant("hogwild"),
    Variant("hogwild, shared moments", moments="shared"),
    Variant("hogwild, a third of the learning rate", rate=1 / 3),
    Variant("single, running averages in batch normalisation", 1, running=True),
    Variant("hogwild, raced running averages", running=True),
    Variant("hogwild, a normaliser per process", normalisers=True),
    Variant("hogwild, both, as the original", running=True, normalisers=True),
    Variant("hogwild, the first 75 by one process", alone=75),
    Variant("single, warm-up of 150", 1, warmup=150),
    Variant("hogwild, warm-up of 150", warmup=150),
    Variant("hogwild, warm-up of 150, the first 75 by one process", alone=75, warmup=150),
)


def batch(number: int, size: int, place: int = 0) -> Batch:
    """Utterances of 3 to 6 tones, each speaker's a little off, in noise, through a microphone of its own."""
    rng = np.random.default_rng([place, number])
    sounds, targets = [], []
    for _ in range(size):
        words = rng.integers(0, len(_TONES), rng.integers(3, 7))
        tuning, colour = rng.uniform(0.94, 1.06), rng.uniform(-0.9, 0.9)
        parts = []
        for word in words:
            time = np.arange(round(rng.uniform(0.12, 0.25) * _RATE)) / _RATE
            parts += [np.sin(2 * np.pi * _TONES[word] * tuning * time), np.zeros(round(rng.uniform(0, 0.05) * _RATE))]
        clean = np.concatenate(parts)
        noise = np.convolve(rng.standard_normal(len(clean)), [1.0, colour], mode="same")
        sound = (clean + rng.uniform(0.3, 1.0) * noise) * rng.uniform(0.02, 0.2)
        sounds.append((sound * 32767).clip(-32768, 32767).astype(np.int16))
        targets.append(words + 1)
    audio, lengths = padded(sounds, np.int16)
    tokens, token_lengths = padded(targets, np.int64)
    return Batch(number, [f"{number}-{row}" for row in range(size)], audio, lengths, tokens, token_lengths)


class Processes:
    """Simulated: process k computes update k, k + P, ...; what it computed is written P - 1 updates later."""

    def __init__(self, variant: Variant, seed: int, updates: int, rate: float) -> None:
        self.variant, self.seed = variant, seed
        self.recipe = Recipe(
            features=FeatureSettings(sample_rate=_RATE, n_mels=20, n_fft=200, utterance_mean=False),
            shard=ShardSettings(sample_rate=_RATE),
            model=_MODEL,
            optim=OptimSettings(lr=rate * variant.rate, warmup_updates=variant.warmup),
            train=TrainSettings(
                strategy="hogwild", processes=variant.processes, hogwild_moments=variant.moments,
                hogwild_alone=variant.alone, updates=updates, seed=seed,
            ),
        )  # fmt: skip
        torch.manual_seed(seed)
        model = build_model(self.recipe, len(_TONES) + 1).train()
        assert isinstance(model, CrdnnRecognizer)
        self.model = model
        self.model.log_mel.set_statistics(*self.statistics(range(_NORMALISER_BATCHES)))
        for layer in _layers(self.model) if variant.running else []:
            layer.track_running_stats = True
        self.shared = Shared(self.model, self.recipe)
        self.steps = [self._step(rank) for rank in range(variant.processes)]
        self.pending: list[Late] = []

    def _step(self, rank: int) -> Late:
        replica = copy.deepcopy(self.model)
        if self.variant.normalisers:
            own = range(rank, rank + _NORMALISER_BATCHES * self.variant.processes, self.variant.processes)
            replica.log_mel.set_statistics(*self.statistics(own))
        optimizers = self.shared.optimizers
        return Late(replica, self.model, optimizers[rank % len(optimizers)], self.recipe, _CPU)

    def statistics(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        total = StatisticsSum(self.recipe.features.n_mels)
        for number in numbers:
            one = batch(number, _BATCH, self.seed)
            total.add(*self.model.log_mel.log_mel(one.audio / 32768.0, one.lengths))
        return total.result()

    def update(self, number: int) -> None:
        is_alone = number < self.variant.alone
        if number == self.variant.alone:
            self.shared.load(self.shared.states()[:1])
        step = self.steps[0 if is_alone else number % len(self.steps)]
        with torch.no_grad():
            for ours, theirs in zip(step.model.parameters(), self.model.parameters(), strict=True):
                ours.copy_(theirs)
            if self.variant.running:
                for ours, theirs in zip(_running(step.model), _running(self.model), strict=True):
                    ours.copy_(theirs)
        step.update([batch(number, _BATCH * self.variant.times, self.seed)], number)
        self.pending.append(step)
        if is_alone or len(self.pending) == len(self.steps):
            self.write(self.pending.pop(0))

    def write(self, step: Late) -> None:
        step.write()
        if self.variant.running:  # as they stand on the process that writes: what others wrote meanwhile is gone
            for ours, theirs in zip(_running(step.model), _running(self.model), strict=True):
                theirs.copy_(ours)

    @torch.no_grad()
    def error(self, tests: Sequence[Batch]) -> float:
        """Token error of the frozen model, in evaluation mode."""
        model = copy.deepcopy(self.model)
        if self.variant.normalisers:
            model.log_mel = self.steps[0].model.log_mel
        if not self.variant.running:
            _refresh(model, [batch(number, _BATCH, self.seed) for number in range(_NORMALISER_BATCHES)])
        model.eval()
        errors = words = 0
        for one in tests:
            features, frames = model.log_mel(one.audio / 32768.0, one.lengths)
            encoded, lengths = model.encoded(features, frames)
            best = model.ctc_head(encoded).argmax(-1)
            for row, steps in enumerate(lengths.tolist()):
                path = torch.unique_consecutive(best[row, :steps])
                target = one.targets[row, : one.target_lengths[row]].tolist()
                errors += Levenshtein.distance(path[path > 0].tolist(), target)
                words += len(target)
        return errors / words


class Late(Step):
    """Writes when it is told to, and not at the end of its update."""

    def apply(self) -> None:
        """Not yet."""

    def write(self) -> None:
        super().apply()


def _layers(model: torch.nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def _running(model: torch.nn.Module) -> list[Tensor]:
    found = [(layer.running_mean, layer.running_var) for layer in _layers(model)]
    return [tensor for pair in found for tensor in pair if tensor is not None]


def _refresh(model: CrdnnRecognizer, batches: Sequence[Batch]) -> None:
    """What train.batchnorm does before a validation, by torch's cumulative average."""
    model.eval()
    for layer in _layers(model):
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
        layer.track_running_stats = True
        layer.train()
    for one in batches:
        model.encoded(*model.log_mel(one.audio / 32768.0, one.lengths))


def run(variant: Variant, seed: int, audio: int, rate: float) -> list[float]:
    """Errors of the validations, evenly over training; `audio` is in batches of one process."""
    updates = audio // variant.times
    processes = Processes(variant, seed, updates, rate)
    tests = [batch(number, 20, 10_000 + seed) for number in range(2)]
    found = []
    for number in range(updates):
        processes.update(number)
        if (number + 1) % (updates // _VALIDATIONS) == 0:
            found.append(processes.error(tests))
    return found


def summary(variant: Variant, curves: list[list[float]]) -> dict[str, Any]:
    second = [curve[len(curve) // 2 :] for curve in curves]
    last = [statistics.fmean(curve[-3:]) for curve in curves]
    return {
        "variant": asdict(variant),
        "error": statistics.fmean(last),
        "error_of_seeds": last,
        "jumps": statistics.fmean(abs(b - a) for curve in second for a, b in pairwise(curve)),
        "worst": max(max(curve) for curve in second),
        "curves": curves,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.erratic", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--audio", type=int, default=600, help="batches of one process heard (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = {"audio": args.audio, "rate": args.rate}
    curves = done(args.out, settings)
    with Progress("erratic", len(VARIANTS) * args.seeds, "runs") as progress:
        for seed in range(args.seeds):
            for variant, found in zip(VARIANTS, curves, strict=True):
                if len(found) <= seed:
                    found.append(run(variant, seed, args.audio, args.rate))
                    results = [summary(*pair) for pair in zip(VARIANTS, curves, strict=True) if pair[1]]
                    write_json(args.out, {"about": machine(), **settings, "variants": results})
                progress.advance(note=variant.name)
    for variant, found in zip(VARIANTS, curves, strict=True):
        told = summary(variant, found)
        print(f"{variant.name}: {told['error']:.2%}, jumps {told['jumps']:.2%}, worst {told['worst']:.2%}")
    return 0


def done(out: Path, settings: dict[str, Any]) -> list[list[list[float]]]:
    """The curves that the file holds of each variant, by seed, where it was made with these settings."""
    found = read_json(out) if out.is_file() else {}
    if any(found.get(key) != value for key, value in settings.items()):
        found = {}
    held = {Variant(**each["variant"]): each["curves"] for each in found.get("variants", [])}
    return [held.get(variant, []) for variant in VARIANTS]


if __name__ == "__main__":
    raise SystemExit(main())
