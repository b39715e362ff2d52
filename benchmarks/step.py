"""The training step of the full and of the demo's attention recipe, ours against SpeechBrain's modules under its Brain.

    python -m benchmarks.step                          writes benchmarks/results/step.json and step_profile.txt
    python -m benchmarks.step --quick --json -         fewer rounds, nothing written
    python -m benchmarks.step --device cuda            on a GPU, in bf16 autocast and in tf32: the file's figures of
                                                       the CPU stay, and the profile is step_profile_cuda.txt

Both sides have the same weights and the same audio. First their losses and all gradients are compared, without
dropout and in float64; a difference ends the program. Then whole steps are timed in turns: features, forward, backward,
clipping, optimizer; each round begins with another side. `..._vs_speechbrain` is the median of the ratios of the
rounds, in each of which both sides made a step, `..._quartiles` tells how far they are apart; the ratio of the fastest
steps, which others on the machine disturb least, is beside it.
On a CPU each side steps in a process of its own, as its training does: ours has malloc keep what is freed
(`speechmill.heap`, which `speechmill train` calls), SpeechBrain's has what Python starts with. A third one,
SpeechBrain's steps with our setting, tells what of the ratio is due to that: `..._vs_speechbrain_same_heap`. So three
models and their steps' memory stand beside each other.
`full_..._share_of_limit`: the arithmetic of the recipe (see `arithmetic`) per second, as a share of what a product of
square matrices reaches here in the same run; filtering needs fewer products than it counts, and may bring it above 1.
`cuda_mfu` and `cuda_share_of_matmul`: the same arithmetic per second of our median step in bf16 autocast, as a share of
the device's peak by its data sheet (bf16 with fp32 sums, without sparsity; null where DEVICE_PEAKS has not the device),
and of what a bf16 product of square matrices reaches there in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.brain import (
    AttentionBrain,
    brain_batch,
    build_brain,
    exact_attention,
    give_weights,
    same_parameters,
)
from benchmarks.machine import machine
from speechmill.artefact import read_json, write_json, write_text
from speechmill.config import load_recipe
from speechmill.heap import give_back, keep_freed
from speechmill.loader import Batch
from speechmill.models import build_model
from speechmill.models.crdnn import CrdnnRecognizer
from speechmill.settings import CrdnnSettings, Recipe
from speechmill.strategies.single import Single
from speechmill.train.optim import build_optimizer

RESULT = Path(__file__).parent / "results" / "step.json"
PROFILES = {
    "cpu": Path(__file__).parent / "results" / "step_profile.txt",
    "cuda": Path(__file__).parent / "results" / "step_profile_cuda.txt",
}
HPARAMS = Path(__file__).resolve().parents[1] / "hparams"
RECIPES = {"full": "train.yaml", "demo": "demo_aed.yaml"}
Shape = tuple[int, float, int]
# Utterances of a step, seconds and target tokens of each: on a CPU as many as fit a short measurement, on a GPU as
# many as the recipe's batches have.
SHAPES = {"cpu": {"full": (4, 8.0, 24), "demo": (6, 5.0, 40)}, "cuda": {"full": (22, 8.0, 24), "demo": (6, 5.0, 40)}}
SAME_HEAP = "speechbrain, our malloc"
TOLERANCE = 1e-8  # of each tensor's largest number, in float64
NOT_MEASURED = "not measured"
CUDA_KEYS = (
    "full_cuda_bf16_vs_speechbrain", "full_cuda_tf32_vs_speechbrain", "cuda_mfu", "cuda_share_of_matmul",
)  # fmt: skip
# Operations per second in dense bf16, from NVIDIA's data sheets. By the whole name: the PCIe and NVL boards of the same
# chips, and parts of one (MIG), do less.
DEVICE_PEAKS = {
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
}


def random_batch(recipe: Recipe, shape: Shape) -> Batch:
    """Noise in the bands of speech, of one length, with random targets."""
    size, seconds, tokens = shape
    rng = np.random.default_rng(0)
    samples = round(seconds * recipe.features.sample_rate)
    noise = np.cumsum(rng.standard_normal((size, samples)), axis=1)
    noise -= noise.mean(1, keepdims=True)
    audio = (8000 * noise / np.abs(noise).max()).astype(np.int16)
    targets = rng.integers(4, recipe.tokenizer.size, (size, tokens))
    lengths = np.full(size, samples), np.full(size, tokens)
    parts = (audio, lengths[0], targets, lengths[1])
    return Batch(0, [str(row) for row in range(size)], *(torch.from_numpy(part) for part in parts))


class Sides:
    """Our strategy and their Brain, alike."""

    def __init__(
        self, recipe: str, shape: Shape, device: str, precision: str = "float32", dropout: float | None = None
    ) -> None:
        overrides = [f"train.precision={precision}", f"train.device={device}"]
        overrides += [] if dropout is None else [f"model.dropout={dropout}"]
        self.recipe = load_recipe(HPARAMS / recipe, overrides)
        self.batch = random_batch(self.recipe, shape)
        tokens = self.recipe.tokenizer.size
        torch.manual_seed(0)
        model = build_model(self.recipe, tokens).to(device).train()
        model = model.double() if precision == "float64" else model
        assert isinstance(model, CrdnnRecognizer)
        with torch.no_grad():
            audio = self.batch.audio.to(device, next(model.parameters()).dtype) / 32768.0
            features, _ = model.log_mel.log_mel(audio, self.batch.lengths.to(device))
        model.log_mel.set_statistics(features.mean((0, 1)), features.std((0, 1)))
        self.model = model
        optimizer = build_optimizer(model.parameters(), self.recipe.optim)
        self.ours = Single(model, optimizer, self.recipe, torch.device(device))
        self.theirs: AttentionBrain = build_brain(
            self.recipe, tokens, "bf16" if precision == "bfloat16" else "fp32", device
        )
        give_weights(model, self.theirs)
        self.their_batch = brain_batch(self.batch)

    @property
    def seconds(self) -> float:
        """Of audio in a step."""
        return float(self.batch.lengths.sum()) / self.recipe.features.sample_rate

    def our_step(self) -> None:
        self.ours.update([self.batch], self.recipe.optim.warmup_updates)

    def their_step(self) -> None:
        self.theirs.fit_batch(self.their_batch)


def check(name: str, device: str) -> dict[str, float]:
    """The largest relative difference of the losses and of any gradient. AssertionError where they differ.

    In float64: in float32 two places of a pool are now and then the same but for rounding, and which of them is taken
    moves the gradients of the convolutions by some thousandths, SpeechBrain's against its own in float64 too.
    """
    sides = Sides(RECIPES[name], (2, 1.0, 4), device, "float64", dropout=0.0)
    brain, model = sides.theirs, sides.model
    brain.modules.double()
    brain.modules["normalize"].glob_mean = model.log_mel.mean.clone()
    brain.modules["normalize"].glob_std = model.log_mel.deviation.clone()
    # SpeechBrain's features are float32 only; tests/test_features.py shows that they are the same.
    brain.hparams.compute_features = lambda audio: model.log_mel.log_mel(
        audio, torch.full((len(audio),), audio.shape[1], device=audio.device)
    )[0]
    batch = brain_batch(sides.batch, torch.float64)
    sums = sides.ours.gradients([sides.batch], 0)
    with exact_attention():
        loss = brain.compute_objectives(brain.compute_forward(batch, None), batch, None)
    loss.backward()
    found = {"loss": abs(sums.loss / sums.tokens - loss.item()) / loss.item(), "gradient": 0.0}
    pairs = same_parameters(model, brain)
    largest = max(float(theirs.grad.abs().max()) for _, _, theirs in pairs)
    for label, ours, theirs in pairs:
        # A bias before a normalisation over the batch has no gradient but rounding.
        scale = max(float(theirs.grad.abs().max()), 1e-3 * largest)
        difference = float((ours.grad / sums.tokens - theirs.grad).abs().max()) / scale
        found["gradient"] = max(found["gradient"], difference)
        if difference > TOLERANCE:
            raise AssertionError(f"{name}: the gradients of {label} differ by {difference:.2g} of their largest")
    if found["loss"] > TOLERANCE:
        raise AssertionError(f"{name}: the losses differ by {found['loss']:.2g}")
    return found


def timed(step: Callable[[], None], device: str) -> float:
    """Seconds of a step: by the device's own clock on a GPU, of the processor where one thread computes.

    What else runs on the machine changes the second least; several threads that wait for one another spend it too.
    """
    if device != "cuda":
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        start = clock()
        step()
        return clock() - start
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    step()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


Steps = dict[str, Callable[[], float]]  # each makes one step and returns its seconds


def compare(name: str, device: str, rounds: int, precision: str = "float32") -> dict[str, Any]:
    """The contenders in turns, each round beginning with another one; the first round warms up."""
    with on_device(name, device, precision) if device == "cuda" else in_processes(name, precision) as steps:
        times: dict[str, list[float]] = {label: [] for label in steps}
        labels = list(steps)
        for number in range(rounds + 1):
            first = number % len(labels)
            for label in labels[first:] + labels[:first]:
                spent = steps[label]()
                if number:
                    times[label].append(spent)
    recipe = load_recipe(HPARAMS / RECIPES[name])
    size, length, _ = SHAPES[device][name]
    medians = {label: statistics.median(seconds) for label, seconds in times.items()}
    found = {
        **ratio(times, "speechbrain"),
        "ratio_of_fastest": round(min(times["speechbrain"]) / min(times["ours"]), 3),
        "realtime": round(size * length / medians["ours"], 2),
        "realtime_speechbrain": round(size * length / medians["speechbrain"], 2),
        "seconds": {label: [round(one, 4) for one in seconds] for label, seconds in times.items()},
        "gflop_per_audio_second": round(arithmetic(recipe) / 1e9, 2),
    }
    return found | (ratio(times, SAME_HEAP, "_same_heap") if SAME_HEAP in times else {})


def ratio(times: dict[str, list[float]], label: str, ending: str = "") -> dict[str, Any]:
    """The median of the rounds' ratios to ours, and their quartiles."""
    of_rounds = [theirs / ours for ours, theirs in zip(times["ours"], times[label], strict=True)]
    low, high = np.quantile(of_rounds, [0.25, 0.75])
    return {
        f"ratio{ending}": round(statistics.median(of_rounds), 3),
        f"ratio{ending}_quartiles": [round(float(low), 3), round(float(high), 3)],
    }


def named(name: str, found: dict[str, Any], ending: str = "") -> dict[str, Any]:
    """A ratio of `compare` and its quartiles under the names that a result has them by."""
    return {f"{name}_vs_speechbrain{ending}{more}": found[f"ratio{ending}{more}"] for more in ("", "_quartiles")}


@contextmanager
def on_device(name: str, device: str, precision: str) -> Iterator[Steps]:
    sides = Sides(RECIPES[name], SHAPES[device][name], device, precision)
    yield {"ours": lambda: timed(sides.our_step, device), "speechbrain": lambda: timed(sides.their_step, device)}


@contextmanager
def in_processes(name: str, precision: str) -> Iterator[Steps]:
    """A process for each contender, which makes a step when it is told to."""
    base = [sys.executable, "-m", "benchmarks.step", "--steps-of", RECIPES[name], "--precision", precision]
    base += ["--shape", *map(str, SHAPES["cpu"][name]), "--threads", str(torch.get_num_threads())]
    with ExitStack() as stack:
        asked = {
            label: stack.enter_context(
                subprocess.Popen([*base, "--side", label], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for label in ("ours", "speechbrain", SAME_HEAP)
        }
        yield {label: partial(_ask, label, process) for label, process in asked.items()}


def _ask(label: str, process: subprocess.Popen[str]) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    answer = ""
    with suppress(OSError):  # it is gone
        process.stdin.write("\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    if not answer:
        with suppress(OSError):
            process.stdin.close()
        raise SystemExit(f"step: the process of {label} has ended with status {process.wait()}.")
    return float(answer)


def _answer(recipe: str, shape: Sequence[str], precision: str, side: str) -> None:
    """A contender's process: a step for each line that comes, until none comes any more."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    if side != "speechbrain":
        keep_freed()
    sides = Sides(recipe, (int(shape[0]), float(shape[1]), int(shape[2])), "cpu", precision)
    step = sides.our_step if side == "ours" else sides.their_step
    for _ in sys.stdin:
        print(timed(step, "cpu"), file=answers, flush=True)


def arithmetic(recipe: Recipe) -> float:
    """Operations per second of audio, forward and backward (three times forward), a direct convolution's counted.

    A multiplication and an addition are two. Matrix products and convolutions only; of the decoder, which has a few
    tokens a second, nothing: it is 2 % of the full recipe.
    """
    settings = recipe.model
    assert isinstance(settings, CrdnnSettings)
    frames, bins, channels, total = 1000 / recipe.features.hop_ms, recipe.features.n_mels, 1, 0.0
    for out in settings.cnn_channels:
        for inputs in (channels, out):
            total += frames * bins * settings.cnn_kernel**2 * inputs * out
        channels, bins = out, bins // 2
    steps, width = frames / settings.time_pooling, channels * bins
    for _ in range(settings.rnn_layers):
        total += steps * 2 * 4 * settings.rnn_size * (width + settings.rnn_size)
        width = 2 * settings.rnn_size
    for _ in range(settings.dnn_blocks):
        total += steps * width * settings.dnn_size
        width = settings.dnn_size
    total += steps * width * recipe.tokenizer.size  # CTC
    return 3 * 2 * total


def matmul_peak(device: str, dtype: torch.dtype = torch.float32, size: int = 2048) -> float:
    """Operations per second of a product of square matrices, the best of ten."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / min(timed(lambda: a @ b, device) for _ in range(11))


def memory_per_second(name: str, side: str) -> float:
    """Peak bytes of a step above what stands before it, per second of padded audio; in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.step", "--memory-of", name, "--side", side]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _memory(name: str, side: str) -> float:
    if side == "ours":
        keep_freed()
    sides = Sides(RECIPES[name], SHAPES["cpu"][name], "cpu")
    step = sides.our_step if side == "ours" else sides.their_step
    small = sides.batch._replace(ids=sides.batch.ids[:1], audio=sides.batch.audio[:1, :16000])
    small = small._replace(
        lengths=torch.tensor([16000]), targets=small.targets[:1, :2], target_lengths=torch.tensor([2])
    )
    whole, theirs = sides.batch, sides.their_batch
    sides.batch, sides.their_batch = small, brain_batch(small)
    step()  # gradients and the optimizer's state are there from now on
    sides.batch, sides.their_batch = whole, theirs
    give_back()  # what is kept would be taken again without a sign
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _peak()
    step()
    return (_peak() - before) / sides.seconds


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def profiles(name: str, device: str) -> str:
    """Where the time of a step goes, operation by operation, on both sides."""
    sides = Sides(RECIPES[name], SHAPES[device][name], device)
    parts = []
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    for label, step in (("SpeechBrain", sides.their_step), ("ours", sides.our_step)):
        if label == "ours" and device == "cpu":
            keep_freed()
        step()
        with profile(activities=activities) as watched:
            step()
        order = "self_cuda_time_total" if device == "cuda" else "self_cpu_time_total"
        table = watched.key_averages().table(sort_by=order, row_limit=20, max_name_column_width=48)
        lines = [line[:170].rstrip() for line in table.splitlines()]
        parts.append(f"== {name}, {label}, {sides.seconds:.0f} s of audio\n" + "\n".join(lines))
    return "\n\n".join(parts)


def on_cpu(quick: bool) -> dict[str, Any]:
    figures: dict[str, Any] = {"threads": torch.get_num_threads()}
    figures["differences"] = {name: check(name, "cpu") for name in RECIPES}
    peaks = [matmul_peak("cpu")]
    rounds = {"full": 3 if quick else 7, "demo": 21 if quick else 41}
    found = {name: compare(name, "cpu", rounds[name]) for name in RECIPES}
    peaks.append(matmul_peak("cpu"))
    peak = max(peaks)
    full = found["full"]
    share = full["realtime"] * full["gflop_per_audio_second"] * 1e9 / peak
    for ending in ("", "_same_heap"):
        for name in RECIPES:
            figures |= named(f"{name}_cpu", found[name], ending)
    figures |= {
        "full_cpu_share_of_limit": round(share, 3),
        "matmul_gflops": round(peak / 1e9, 1),
        **found,
    }
    if not quick:
        figures["demo_bfloat16"] = compare("demo", "cpu", rounds["demo"], "bfloat16")
    return figures


def memory() -> dict[str, Any]:
    found = {
        name: {side: round(memory_per_second(name, side) / 1e6, 1) for side in ("ours", "speechbrain")}
        for name in RECIPES
    }
    return {"peak_mb_per_padded_second": found}


def on_cuda(quick: bool) -> dict[str, Any]:
    """Keys of the GPU; `not measured` where there is none."""
    if not torch.cuda.is_available():
        return dict.fromkeys(CUDA_KEYS, NOT_MEASURED)
    figures: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "differences_cuda": check("full", "cuda")}
    rounds = 10 if quick else 30
    bf16 = compare("full", "cuda", rounds, "bfloat16")
    peak = matmul_peak("cuda", torch.bfloat16, 8192)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    tf32 = compare("full", "cuda", rounds)
    done = bf16["realtime"] * bf16["gflop_per_audio_second"] * 1e9
    return {
        **figures, **named("full_cuda_bf16", bf16), **named("full_cuda_tf32", tf32),
        "cuda_mfu": share_of_peak(done, figures["gpu"]), "cuda_share_of_matmul": round(done / peak, 3),
        "cuda_matmul_gflops": round(peak / 1e9, 1), "full_cuda_bf16": bf16, "full_cuda_tf32": tf32,
    }  # fmt: skip


def share_of_peak(operations: float, device: str) -> float | None:
    """Of operations per second in bf16; None where the device's peak is not known."""
    return round(operations / DEVICE_PEAKS[device], 3) if device in DEVICE_PEAKS else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no memory, no profile")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--json", metavar="PATH", type=Path, default=RESULT, help="-: print it (default: %(default)s)")
    parser.add_argument("--only", choices=("times", "memory", "profile"), help="the other parts stay as they are")
    parser.add_argument("--memory-of", choices=tuple(RECIPES), help=argparse.SUPPRESS)
    parser.add_argument("--steps-of", metavar="RECIPE", help=argparse.SUPPRESS)
    parser.add_argument("--shape", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.memory_of:
        print(_memory(args.memory_of, args.side))
        return
    if args.steps_of:
        _answer(args.steps_of, args.shape, args.precision, args.side)
        return
    printed, on_gpu = str(args.json) == "-", args.device == "cuda"
    if on_gpu and not torch.cuda.is_available() and not printed:
        parser.error("no CUDA device here: nothing is measured, and nothing written")
    if on_gpu and args.only == "memory":
        parser.error("memory is measured on a CPU only; on a GPU fit-batch tells it")
    # The other device's figures stay.
    result: dict[str, Any] = dict.fromkeys(CUDA_KEYS, NOT_MEASURED)
    result |= read_json(args.json) if args.json.is_file() and not printed else {}
    if args.only in (None, "times"):
        result |= on_cuda(args.quick) if on_gpu else on_cpu(args.quick)
        result |= {"machine_cuda" if on_gpu else "machine": machine()}
    if not on_gpu and (args.only == "memory" or not (args.only or args.quick)):
        result |= memory()
    if printed:
        json.dump(result, sys.stdout, indent=1)
        print()
        return
    write_json(args.json, result)
    if args.only == "profile" or not (args.only or args.quick):
        write_text(PROFILES[args.device], "\n\n".join(profiles(name, args.device) for name in RECIPES) + "\n")


if __name__ == "__main__":
    main()
