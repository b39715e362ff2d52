"""The training loop. It reads top to bottom: update, log, validate, save, until the recipe's updates are done."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import torch

from speechmill.artefact import locked
from speechmill.errors import SpeechmillError
from speechmill.features import StatisticsSum
from speechmill.loader import Batch, BatchDataset, batches, utterances_of
from speechmill.metrics import read_metrics
from speechmill.models import build_model
from speechmill.models.base import Recognizer
from speechmill.models.ngram import NgramModel
from speechmill.ordering import permutation
from speechmill.progress import Progress, track
from speechmill.recognize import GivenUp, Recognizing
from speechmill.schedule import Schedule
from speechmill.score import score_pairs
from speechmill.settings import Recipe, SearchSettings
from speechmill.shards.foreign import open_reader
from speechmill.shards.index import Index
from speechmill.shards.store import absolute_place, open_data
from speechmill.strategies import check_strategy
from speechmill.strategies.base import Strategy, UpdateStats
from speechmill.strategies.single import Single, effective_precision
from speechmill.tokenizer import Tokenizer, check_tokenizer, load_tokenizer
from speechmill.train.checkpoint import (
    TrainState,
    checkpoints,
    load_optimizer,
    load_weights,
    prune_checkpoints,
    read_state,
    save_checkpoint,
)  # fmt: skip
from speechmill.train.optim import build_optimizer, learning_rate
from speechmill.train.runlog import (
    RunLog,
    check_same_experiment,
    read_config,
    write_config,
    write_environment,
)  # fmt: skip
from speechmill.train.signals import StopRequest, stop_on_signals
from speechmill.workers import cores

TOKENIZER_NAME = "tokenizer.model"
LANGUAGE_MODEL_NAME = "lm.npz"


@dataclass(frozen=True)
class TrainReport:
    run: Path
    updates: int
    finished: bool
    already_whole: bool
    best_wer: float | None
    best_update: int | None
    stopped_by: str


@dataclass
class Training:
    """All that the loop works with."""

    recipe: Recipe
    run: Path
    index: Index
    schedule: Schedule
    dataset: BatchDataset
    tokenizer: Tokenizer
    model: Recognizer
    optimizer: torch.optim.Optimizer
    strategy: Strategy
    state: TrainState
    device: torch.device


def train(recipe: Recipe, run: Path) -> TrainReport:
    """Make or continue the run folder `run`.

    Raises SpeechmillError where the run, the shards or the tokenizer are not the recipe's, or training cannot go on.
    """
    check_strategy(recipe)
    recipe = with_absolute_paths(recipe)
    done = finished_report(recipe, run)
    if done is None:
        with locked(run):
            return _train(recipe, run)
    if recipe.search != read_config(run).search:
        with locked(run):
            change_search(recipe, run)
    return done


def _train(recipe: Recipe, run: Path) -> TrainReport:
    work = prepare(recipe, run)
    state, settings = work.state, recipe.train
    log = RunLog(run, state.update, state.validation_due)
    with (
        stop_on_signals() as stop,
        Progress("train", settings.updates, "updates") as progress,
        contextlib.closing(load_ahead(work)) as loaded,
    ):
        progress.resume_at(state.update)
        clock, saved_now = _Clock(state.seconds), False
        if state.validation_due:
            validate(work, log, clock, stop)
            save(work, log, clock)
            saved_now = True
        while state.update < settings.updates and not stop:
            with clock.waiting():
                update_batches = [next(loaded) for _ in range(recipe.schedule.batches_per_update)]
            stats = work.strategy.update(update_batches, state.update)
            state.update += 1
            account(work, stats, update_batches)
            if state.update % settings.log_every == 0:
                log.write(train_record(work, clock))
            due = state.update % settings.validate_every == 0 or state.update == settings.updates
            if due:
                validate(work, log, clock, stop)
            saved_now = due or state.update % settings.checkpoint_every == 0
            if saved_now:
                save(work, log, clock)
            progress.advance(note=note(state, stats))
        if stop and not finished(work):
            if not saved_now:  # else it would be written once more, without the WER of the validation just made
                save(work, log, clock)
        else:
            log.write({"event": "end", "update": state.update, "seconds": clock.seconds(),
                       "audio_seconds": audio_seconds(work), "best_update": state.best_update,
                       "best_wer": state.best_wer})  # fmt: skip
            log.sync()
    log.close()
    return TrainReport(run, state.update, finished(work), False, state.best_wer, state.best_update, stop.name)


def finished(work: Training) -> bool:
    return work.state.update >= work.recipe.train.updates and not work.state.validation_due


def finished_report(recipe: Recipe, run: Path) -> TrainReport | None:
    """The report of a run that has nothing left to do.

    Raises SpeechmillError where the run is of another recipe; one without a checkpoint has nothing to lose and may be
    begun anew with any.
    """
    if not (run / "config.yaml").is_file() or not checkpoints(run):
        return None
    check_same_experiment(run, recipe)
    ended = [record for record in read_metrics(run) if record["event"] == "end"]
    if not ended or ended[-1]["update"] < recipe.train.updates:
        return None
    last = ended[-1]
    return TrainReport(run, last["update"], True, True, last["best_wer"], last["best_update"], "")


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """So that a run finds its data from whatever folder it is looked at."""
    found = {name: absolute_place(place) for name, place in recipe.data if isinstance(place, str) and place}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=found)})


def change_search(recipe: Recipe, run: Path) -> None:
    """Give a finished run the recipe's search, and the language model that it needs."""
    if needs_language_model(recipe, run):
        _needed(recipe.data.shards, "data.shards")
        index = open_data(recipe.data)
        _check_run_shards(run, read_state(checkpoints(run)[-1]), index)
        save_language_model(recipe, run, index, load_tokenizer(run / TOKENIZER_NAME))
    write_config(run, read_config(run).model_copy(update={"search": recipe.search}))


def prepare(recipe: Recipe, run: Path) -> Training:
    """Open data and tokenizer, build the model, and take up the last checkpoint if there is one."""
    device = choose_device(recipe)
    _needed(recipe.data.shards, "data.shards")
    index = open_data(recipe.data)
    if index.sample_rate != recipe.features.sample_rate:
        raise SpeechmillError(
            f"{index.folder}: holds audio at {index.sample_rate} Hz, features.sample_rate is "
            f"{recipe.features.sample_rate}; shard again or change the recipe."
        )
    index.rows("valid")  # raises where there are none: better now than at the first validation
    tokenizer_path = Path(_needed(recipe.data.tokenizer, "data.tokenizer"))
    tokenizer = load_tokenizer(tokenizer_path)
    check_tokenizer(tokenizer, recipe.tokenizer, tokenizer_path)
    _check_run_tokenizer(run, tokenizer)
    saved = checkpoints(run)
    state = read_state(saved[-1]) if saved else TrainState(shards=index.fingerprint)
    _check_run_shards(run, state, index)
    utterances = utterances_of(index, "train", tokenizer if recipe.schedule.max_tokens else None)
    schedule = Schedule(utterances, recipe.schedule, state.epoch_starts)
    dataset = BatchDataset(index, schedule, tokenizer)
    torch.manual_seed(recipe.train.seed)
    model = build_model(recipe, len(tokenizer))
    if recipe.train.precision == "float64":
        model = model.double()
    if saved:
        load_weights(saved[-1], model, recipe.model_fingerprint())
    else:
        hours = float(utterances.samples.sum()) / utterances.sample_rate / 3600
        start_run(recipe, run, device, model, tokenizer, hours)
        set_statistics(model, dataset, recipe)
    write_config(run, recipe)
    if needs_language_model(recipe, run):
        save_language_model(recipe, run, index, tokenizer)
    model = model.to(device).train()
    optimizer = build_optimizer(model.parameters(), recipe.optim)
    if saved:
        load_optimizer(saved[-1], optimizer)
        prune_checkpoints(run, recipe.train.keep_last, recipe.train.keep_best)  # a killed run may not have come to it
    strategy = Single(model, optimizer, recipe, device)
    return Training(recipe, run, index, schedule, dataset, tokenizer, model, optimizer, strategy, state, device)


def start_run(
    recipe: Recipe, run: Path, device: torch.device, model: Recognizer, tokenizer: Tokenizer, hours: float
) -> None:
    """Make the run folder whole enough to be evaluated anywhere: it has its own tokenizer."""
    tokenizer.save(run / TOKENIZER_NAME)
    write_config(run, recipe)
    about = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_hours": hours,
        "precision": effective_precision(recipe, device),
    }
    write_environment(run, device, about)
    shutil.rmtree(run / "events", ignore_errors=True)
    (run / LANGUAGE_MODEL_NAME).unlink(missing_ok=True)  # of a run that was begun with other data


def choose_device(recipe: Recipe) -> torch.device:
    wanted = recipe.train.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise SpeechmillError("train.device cuda: no CUDA device here; use train.device=auto or cpu.")
    torch.set_num_threads(recipe.train.threads or cores())
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def set_statistics(model: Recognizer, dataset: BatchDataset, recipe: Recipe) -> None:
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
            total.add(*model.log_mel.log_mel(batch.audio.to(dtype) / 32768.0, batch.lengths))
            progress.advance()
    model.log_mel.set_statistics(*total.result())


def needs_language_model(recipe: Recipe, run: Path) -> bool:
    """Whether the recipe's search reads an n-gram model that the run does not have yet."""
    path, search = run / LANGUAGE_MODEL_NAME, recipe.search
    if search.kind != "beam" or search.lm_order == 0:
        return False
    return not path.is_file() or NgramModel.load(path).order != search.lm_order


def save_language_model(recipe: Recipe, run: Path, index: Index, tokenizer: Tokenizer) -> None:
    """Count the n-gram model of the recipe's search from the train text."""
    reader, rows = open_reader(index), index.rows("train").tolist()
    texts = (reader.about(row)["text"] for row in track(rows, "language model", len(rows), "utterances"))
    sentences = (tokenizer.encode(text) for text in texts)
    NgramModel.train(sentences, recipe.search.lm_order, len(tokenizer)).save(run / LANGUAGE_MODEL_NAME)


def load_ahead(work: Training) -> Generator[Batch, None, None]:
    """The batches from where training stands, loaded ahead of need."""
    per_update = work.recipe.schedule.batches_per_update
    numbers = range(work.state.update * per_update, work.recipe.train.updates * per_update)
    return batches(work.dataset, numbers, work.recipe.train.loader_workers, pin=work.device.type == "cuda")


def account(work: Training, stats: UpdateStats, update_batches: list[Batch]) -> None:
    """Add an update to the sums of the log. Raises SpeechmillError when too many in a row were not finite."""
    state, sums = work.state, work.state.interval
    heard = sum(int(batch.lengths.sum()) for batch in update_batches)
    state.samples += heard
    state.skipped += stats.skipped
    state.skipped_in_a_row = state.skipped_in_a_row + 1 if stats.skipped else 0
    for name, value in {
        "loss": stats.loss, "tokens": stats.tokens, "norm": 0.0 if stats.skipped else stats.gradient_norm,
        "updates": 0 if stats.skipped else 1, "samples": heard,
        "padded": sum(batch.audio.numel() for batch in update_batches),
    }.items():  # fmt: skip
        sums[name] = sums.get(name, 0) + value
    if state.skipped_in_a_row >= work.recipe.train.max_nonfinite:
        raise SpeechmillError(
            f"{work.run}: {state.skipped_in_a_row} updates in a row had a loss or gradient that is not finite "
            f"(train.max_nonfinite), the last, {state.update}, with {', '.join(stats.ids[:5])}...; "
            f"lower optim.lr in a new run folder, or look at these utterances. The last checkpoint stands."
        )


def train_record(work: Training, clock: _Clock) -> dict[str, object]:
    """A line of the log, over the updates since the last one."""
    state, sums = work.state, work.state.interval
    record = {
        "event": "train",
        "update": state.update,
        "seconds": clock.seconds(),
        "audio_seconds": audio_seconds(work),
        "epoch": work.schedule.locate(state.update * work.recipe.schedule.batches_per_update - 1)[0],
        "loss": sums["loss"] / sums["tokens"] if sums["tokens"] else None,
        "lr": learning_rate(work.recipe.optim, state.update - 1, work.recipe.train.updates),
        "grad_norm": sums["norm"] / sums["updates"] if sums["updates"] else None,
        "padding": 1.0 - sums["samples"] / sums["padded"],
        "data_wait": clock.waited_share(),
        "skipped": state.skipped,
    }
    state.interval = {}
    return record


def validate(work: Training, log: RunLog, clock: _Clock, stop: StopRequest) -> None:
    """Greedy search over the validation split; the same utterances each time.

    A stop gives it up: a long one would outlast the seconds that a job has to save. Then it stays due.
    """
    work.state.validation_due = True
    with contextlib.suppress(GivenUp):
        log.write(validation(work, clock, stop))
        work.state.validation_due = False


def validation(work: Training, clock: _Clock, stop: StopRequest) -> dict[str, object]:
    started = time.monotonic()
    rows = work.index.rows("valid")
    limit = work.recipe.train.validate_utterances
    if limit and limit < len(rows):
        rows = rows[permutation(len(rows), 0)[:limit]]
    reader = open_reader(work.index)
    recognizing = Recognizing(work.model, work.tokenizer, SearchSettings(), None, work.device)
    with Progress("validate", len(rows), "utterances") as progress:
        hypotheses = recognizing.all(
            lambda i: reader.audio(int(rows[i])), work.index.samples[rows].tolist(), progress, lambda: bool(stop)
        )
    rates = score_pairs([reader.about(int(row))["text"] for row in rows], hypotheses)
    state = work.state
    state.valid_wer = rates.wer
    if rates.wer is not None and (state.best_wer is None or rates.wer < state.best_wer):
        state.best_wer, state.best_update = rates.wer, state.update
    return {
        "event": "valid", "update": state.update, "seconds": clock.seconds(), "audio_seconds": audio_seconds(work),
        "wer": rates.wer, "wer_p": rates.wer_p, "cer": rates.cer, "cer_p": rates.cer_p, "utterances": len(rows),
        "valid_seconds": time.monotonic() - started,
    }  # fmt: skip


def save(work: Training, log: RunLog, clock: _Clock) -> None:
    state, settings = work.state, work.recipe.train
    state.seconds = clock.seconds()
    state.epoch_starts = work.schedule.epoch_starts
    log.sync()
    save_checkpoint(work.run, state, work.model, work.optimizer, work.recipe.model_fingerprint())
    prune_checkpoints(work.run, settings.keep_last, settings.keep_best)
    state.valid_wer = None


def note(state: TrainState, stats: UpdateStats) -> str:
    loss = f"loss {stats.loss / stats.tokens:.3f}" if stats.tokens else "skipped"
    best = f", best WER {state.best_wer:.1%}" if state.best_wer is not None else ""
    return loss + best


def audio_seconds(work: Training) -> float:
    return work.state.samples / work.index.sample_rate


class _Clock:
    """Wall-clock of training over all its runs, and the share of it spent waiting for data."""

    def __init__(self, before: float) -> None:
        self._start = time.monotonic() - before
        self._interval = time.monotonic()
        self._waited = 0.0

    def seconds(self) -> float:
        return time.monotonic() - self._start

    def waiting(self) -> _Waiting:
        return _Waiting(self)

    def add_wait(self, seconds: float) -> None:
        self._waited += seconds

    def waited_share(self) -> float:
        """Since the last call."""
        now = time.monotonic()
        share = self._waited / max(1e-9, now - self._interval)
        self._interval, self._waited = now, 0.0
        return share


class _Waiting:
    def __init__(self, clock: _Clock) -> None:
        self._clock = clock

    def __enter__(self) -> None:
        self._from = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self._clock.add_wait(time.monotonic() - self._from)


def _needed(value: str, key: str) -> str:
    if not value:
        raise SpeechmillError(f"{key} is not set; add it to the recipe or give it as {key}=PATH.")
    return value


def _check_run_shards(run: Path, state: TrainState, index: Index) -> None:
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
