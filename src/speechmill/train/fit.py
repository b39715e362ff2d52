"""How many padded seconds of audio a training step can take on this device, for utterances of each length."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from speechmill.device import release, set_precision
from speechmill.errors import SpeechmillError
from speechmill.heap import give_back
from speechmill.loader import Batch
from speechmill.models import build_model, recorded
from speechmill.settings import Recipe
from speechmill.strategies.single import Single
from speechmill.train.optim import build_optimizer
from speechmill.train.prepare import check_gpus_are_seen, choose_device

MARGIN = 0.1  # of the memory, left free
_LENGTHS = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0)  # seconds, of an utterance
_SMALL, _LARGE = 20.0, 60.0  # padded seconds of the two steps that memory is measured at, at least two utterances more
_CHARACTERS_PER_SECOND = 15.0  # of fast English speech
_GROUPS = Path("/sys/fs/cgroup")

Measure = Callable[[float, int], float]  # (seconds of an utterance, utterances) -> peak bytes of a step; inf: too many


@dataclass(frozen=True)
class Fit:
    """Of one length of utterances."""

    seconds: float
    utterances: int  # that fit in a step
    limit_seconds: float  # padded; what schedule.limit_seconds may be for them
    bytes_per_second: float  # of padded audio


def fit(recipe: Recipe, margin: float = MARGIN) -> tuple[list[Fit], float]:
    """The largest steps that fit, by length of utterance, and the bytes that there are.

    Memory grows by as much for each utterance of one length, so two steps of each are measured; on a GPU the largest
    is tried, and made smaller until it runs.
    """
    if not 0.0 <= margin < 1.0:
        raise SpeechmillError(f"fit-batch: a margin of {margin:g} was given; a share from 0 to below 1 was expected.")
    check_gpus_are_seen(recipe)
    device = choose_device(recipe)
    set_precision(recipe.train.precision, device)
    step = Step(recipe, device)
    budget = (available(device) + step.standing) / _sharing(recipe, device) - _for_recordings(recipe, device)
    shortest, longest = recipe.select.min_seconds, recipe.select.max_seconds
    lengths = sorted({min(length, longest) for length in _LENGTHS if length >= shortest} | {longest})
    verified = device.type == "cuda"
    return [largest(step.peak, seconds, budget * (1.0 - margin), verified) for seconds in lengths], budget


def largest(measure: Measure, seconds: float, budget: float, verify: bool) -> Fit:
    """The most utterances of `seconds` whose step peaks below `budget` bytes."""
    few = max(1, round(_SMALL / seconds))
    many = max(few + 2, round(_LARGE / seconds))
    low, high = measure(seconds, few), measure(seconds, many)
    while math.isinf(low) and few > 1:
        few = max(1, few // 2)
        low, high = measure(seconds, few), math.inf
    if math.isinf(low):
        return Fit(seconds, 0, 0.0, math.inf)
    if math.isinf(high):
        count = few
        slope = low / few
    else:
        slope = max((high - low) / (many - few), 1.0)
        count = max(0, int(few + (budget - low) / slope))
    while verify and count and measure(seconds, count) > budget:
        count = min(count - 1, int(count * 0.95))
    return Fit(seconds, count, count * seconds, slope / seconds)


class Step:
    """Training steps of noise, and how much memory they took."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        model = build_model(recipe, recipe.tokenizer.size).to(device).train()
        if recipe.train.precision == "float64":
            model = model.double()
        self.strategy = Single(model, build_optimizer(model.parameters(), recipe.optim), recipe, device)
        self.peak(1.0, 2)  # gradients and the optimizer's state are there from now on
        self.standing = self._standing()

    def peak(self, seconds: float, utterances: int) -> float:
        """Peak bytes of a step above nothing; infinity where it does not fit."""
        recipe = self.recipe
        samples = round(seconds * recipe.features.sample_rate)
        tokens = max(1, round(seconds * tokens_per_second(recipe)))
        batch = Batch(
            0, [str(row) for row in range(utterances)],
            torch.randint(-8000, 8000, (utterances, samples), dtype=torch.int16),
            torch.full((utterances,), samples),
            torch.randint(1, recipe.tokenizer.size, (utterances, tokens)),
            torch.full((utterances,), tokens),
        )  # fmt: skip
        recorded.forget()  # each shape is measured with the memory of its own
        release(self.device)
        _forget_peak(self.device)
        self.strategy.piece_limit = 0
        try:
            self.strategy.update([batch], recipe.optim.warmup_updates)
        except SpeechmillError:  # one utterance alone does not fit
            return math.inf
        cut = self.strategy.piece_limit > 0
        found = _peak(self.device)
        release(self.device)
        return math.inf if cut else found

    def _standing(self) -> float:
        """Bytes that are taken between two steps."""
        if self.device.type == "cuda":
            return float(torch.cuda.memory_reserved(self.device))
        return _status("VmRSS")


def tokens_per_second(recipe: Recipe) -> float:
    """Of fast speech. A piece of 128 has about two characters, one of 5,000 more than three."""
    tokenizer = recipe.tokenizer
    length = 1.0 if tokenizer.kind == "char" else max(1.0, 0.9 * math.log10(tokenizer.size))
    return _CHARACTERS_PER_SECOND / length


def available(device: torch.device) -> float:
    """Bytes that are free on a device; of the host's memory, those that this job may have."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    free = 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    return min(free, allowed(own_groups(Path("/proc/self/cgroup"), _GROUPS)))


def own_groups(listed: Path, root: Path) -> list[Path]:
    """The control groups that this process is in, those above them too (version 2, or 1's of memory)."""
    found = []
    for line in listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []:
        _, kinds, path = line.split(":", 2)
        if kinds in ("", "memory"):
            own = root / kinds / path.lstrip("/")
            found += [own, *(above for above in own.parents if above.is_relative_to(root))]
    return found


def allowed(groups: list[Path]) -> float:
    """Bytes that the tightest of the control groups has left; infinite where none has a limit."""
    left = math.inf
    for group in groups:
        for limit, used, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            try:
                most, now = ((group / name).read_text(encoding="ascii").strip() for name in (limit, used))
                stat = (group / "memory.stat").read_text(encoding="ascii").split()
            except OSError:
                continue
            if most != "max":
                # Files that were read lately count as used, and make room when it is needed.
                cache = float(dict(zip(stat[::2], stat[1::2], strict=True)).get(cached, 0))
                left = min(left, max(0.0, float(most) - float(now) + cache))
    return left


def _sharing(recipe: Recipe, device: torch.device) -> int:
    """Processes of this training that share the device's memory: all on a CPU, those of Hogwild on a GPU."""
    return recipe.train.processes if device.type == "cpu" or recipe.train.strategy == "hogwild" else 1


def _for_recordings(recipe: Recipe, device: torch.device) -> float:
    """Bytes that training may take for CUDA graphs of other shapes than the largest."""
    recorded_here = device.type == "cuda" and recipe.train.record and recipe.model.kind == "crdnn"
    return recorded.budget(device) if recorded_here else 0.0


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        # What steps before have freed would be taken again without a sign.
        give_back()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: VmHWM begins anew


def _peak(device: torch.device) -> float:
    return float(torch.cuda.max_memory_reserved(device)) if device.type == "cuda" else _status("VmHWM")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith(name))
