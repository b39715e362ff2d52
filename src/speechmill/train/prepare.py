"""What stands before the loop: data, model, strategy; a run folder begun, or its last checkpoint taken up."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from speechmill.device import set_precision
from speechmill.errors import SpeechmillError
from speechmill.features import StatisticsSum
from speechmill.group import ALONE, Group
from speechmill.loader import BatchDataset, batches, loader_server
from speechmill.models import build_model
from speechmill.models.base import Recognizer
from speechmill.progress import Progress
from speechmill.schedule import Schedule
from speechmill.settings import Recipe
from speechmill.shards.index import Index
from speechmill.sounds import open_sounds
from speechmill.strategies import build_strategy
from speechmill.strategies.base import Strategy
from speechmill.strategies.step import effective_precision
from speechmill.tokenizer import Tokenizer, load_tokenizer
from speechmill.train.average import MovingAverage
from speechmill.train.checkpoint import (
    TrainState,
    checkpoints,
    load_optimizer,
    load_strategy,
    load_weights,
    prune_checkpoints,
    read_state,
)  # fmt: skip
from speechmill.train.data import batches_of, check_letters, open_dataset, open_train_index, open_train_tokenizer
from speechmill.train.early import early_stop
from speechmill.train.language import (
    LANGUAGE_MODEL_NAME,
    NEURAL_MODEL_NAME,
    needs_language_model,
    save_language_model,
)
from speechmill.train.optim import build_optimizer
from speechmill.train.runlog import write_config, write_environment
from speechmill.workers import threads_of

TOKENIZER_NAME = "tokenizer.model"


@dataclass
class Training:
    """All that the loop works with."""

    recipe: Recipe
    run: Path
    index: Index
    schedule: Schedule
    dataset: BatchDataset
    tokenizer: Tokenizer
    strategy: Strategy
    state: TrainState
    device: torch.device
    group: Group
    average: MovingAverage | None = None


def prepare(recipe: Recipe, run: Path, group: Group) -> Training:
    """Open data and tokenizer, build the model, and take up the last checkpoint if there is one.

    Rank 0 makes the run folder; all ranks leave with its weights.
    """
    device = choose_device(recipe, group)
    set_precision(recipe.train.precision, device)
    if recipe.train.loader_workers:
        loader_server()  # starts while the rest is prepared
    index = open_train_index(recipe)
    index.rows("valid")  # raises where there are none: better now than at the first validation
    tokenizer = open_train_tokenizer(recipe)
    _check_run_tokenizer(run, tokenizer)
    saved = [run / "checkpoints" / name for name in group.broadcast([path.name for path in checkpoints(run)])]
    state = read_state(saved[-1]) if saved else TrainState(shards=index.fingerprint)
    check_run_shards(run, state, index)
    if state.early:  # with more patience than before it goes on
        state.early = early_stop(recipe, state.epoch_losses, state.wers)
    dataset = batches_of(index, tokenizer, recipe, state.epoch_starts)
    if not state.update:
        check_letters(dataset, tokenizer, Path(recipe.data.tokenizer))
    torch.manual_seed(recipe.train.seed)
    model = build_model(recipe, len(tokenizer))
    if recipe.train.precision == "float64":
        model = model.double()
    if saved:
        load_weights(saved[-1], model, recipe.model_fingerprint(), trained=True)
    elif group.leads:
        tokenizer.save(run / TOKENIZER_NAME)
        start_run(recipe, run, device, model, dataset.schedule)
        set_statistics(model, dataset, recipe, group)
    if group.leads:
        write_config(run, recipe)
        if needs_language_model(recipe, run):
            save_language_model(recipe, run, index, tokenizer, group)
    model = model.to(device).train()
    group.copy_first([*model.parameters(), *model.buffers()])
    optimizer = build_optimizer(model.parameters(), recipe.optim)
    if saved:
        load_optimizer(saved[-1], optimizer)
    strategy = build_strategy(
        model, optimizer, recipe, device, group, state.update, open_dataset, state.epoch_starts,
        open_sounds(recipe, index),
    )  # fmt: skip
    if saved:
        strategy.resume(*load_strategy(saved[-1], recipe.train.strategy, group.rank))
    if saved and group.leads:
        prune_checkpoints(run, recipe.train.keep_last, recipe.train.keep_best)  # a killed run may not have come to it
    average = _moving_average(recipe, strategy, state, saved[-1] if saved else None)
    return Training(recipe, run, index, dataset.schedule, dataset, tokenizer, strategy, state, device, group, average)


def _moving_average(recipe: Recipe, strategy: Strategy, state: TrainState, saved: Path | None) -> MovingAverage | None:
    if not recipe.train.average_decay:
        return None
    average = MovingAverage(strategy.standing(), recipe.train.average_decay, state.update)
    if saved is not None:
        load_weights(saved, average.model, recipe.model_fingerprint())
    return average


def start_run(recipe: Recipe, run: Path, device: torch.device, model: Recognizer, schedule: Schedule) -> None:
    """Make the run folder whole enough to be evaluated anywhere."""
    write_config(run, recipe)
    utterances = schedule.utterances
    about = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_hours": float(utterances.samples.sum()) / utterances.sample_rate / 3600,
        "precision": effective_precision(recipe, device),
    }
    write_environment(run, device, about)
    for name in ("events", "ctc_heads"):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in (LANGUAGE_MODEL_NAME, NEURAL_MODEL_NAME):
        (run / name).unlink(missing_ok=True)  # of a run that was begun with other data


def check_gpus_are_seen(recipe: Recipe) -> None:
    """Raise SpeechmillError where a Slurm job has GPUs and torch sees none: `auto` would be its cores, in silence."""
    if recipe.train.device != "auto" or torch.cuda.is_available() or not (told := _gpus_of_job()):
        return
    raise SpeechmillError(
        f"train.device auto: this Slurm job has GPUs ({told}), but torch {torch.__version__} sees no CUDA device: look "
        f"at the driver (nvidia-smi) and install a build of torch for it; train.device=cpu trains without them."
    )


def _gpus_of_job() -> str:
    """What says that this is a job with GPUs, as NAME=VALUE; empty where nothing does, or somebody has hidden them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if "SLURM_JOB_ID" not in os.environ or visible in ("", "-1", "NoDevFiles"):  # the last is what old Slurms say
        return ""
    names = ("SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE", "CUDA_VISIBLE_DEVICES")
    given = [f"{name}={os.environ.get(name, '')}" for name in names]
    none = ("=", "SLURM_GPUS_ON_NODE=0")  # that is their number; the others list them, and 0 is the first
    return next((word for word in given if not word.endswith(none)), "")


def choose_device(recipe: Recipe, group: Group = ALONE) -> torch.device:
    """The device of this process, which is made torch's current one, with the threads that the recipe gives it.

    Raises:
        SpeechmillError: there is no GPU where the recipe asks for one, or more processes than GPUs.
    """
    wanted = recipe.train.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise SpeechmillError("train.device cuda: no CUDA device here; use train.device=auto or cpu.")
    processes = group.local_size
    torch.set_num_threads(threads_of(recipe, processes))
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if processes > torch.cuda.device_count():
        raise SpeechmillError(
            f"{processes} processes on this machine, which has {torch.cuda.device_count()} CUDA devices: each needs "
            f"one of its own; use fewer, or train.strategy=hogwild, whose processes share one."
        )
    idle = torch.cuda.device_count() - processes
    if idle and group.local_rank == 0 and "SLURM_JOB_ID" in os.environ:  # a job has what it asked for, for itself
        sys.stderr.write(f"speechmill: {idle} of this job's {idle + processes} GPUs on this machine have no process.\n")
    torch.cuda.set_device(group.local_rank)
    return torch.device("cuda", group.local_rank)


def set_statistics(model: Recognizer, dataset: BatchDataset, recipe: Recipe, group: Group) -> None:
    """Mean and deviation of the features over the schedule's first batches; frozen from then on."""
    numbers = range(min(recipe.features.statistics_batches, _epoch_length(dataset)))
    total = StatisticsSum(recipe.features.n_mels)
    dtype = next(model.parameters()).dtype
    with (
        torch.inference_mode(),
        Progress("feature statistics", len(numbers), "batches") as progress,
        contextlib.closing(batches(dataset, numbers, recipe.train.loader_workers, pin=False)) as loaded,
    ):
        for batch in loaded:
            if not batch.ids:
                continue  # all damage: training will count it
            total.add(*model.log_mel.log_mel(batch.audio.to(dtype) / 32768.0, batch.lengths))
            progress.advance()
            group.alive()
    model.log_mel.set_statistics(*total.result())


def check_run_shards(run: Path, state: TrainState, index: Index) -> None:
    """Raises SpeechmillError where a run would go on with other shards than it began with."""
    if state.shards != index.fingerprint:
        raise SpeechmillError(
            f"{run}: was trained on other shards than {index.folder} (another manifest or other settings); "
            f"use those or another run folder."
        )


def _check_run_tokenizer(run: Path, tokenizer: Tokenizer) -> None:
    path = run / TOKENIZER_NAME
    if checkpoints(run) and load_tokenizer(path).fingerprint != tokenizer.fingerprint:
        raise SpeechmillError(f"{run}: was trained with another tokenizer ({path}); use that or another run folder.")


def _epoch_length(dataset: BatchDataset) -> int:
    dataset.schedule.locate(0)
    return dataset.schedule.epoch_starts[1]
