"""The training loop. It reads top to bottom: update, log, validate, save, until the recipe's updates are done."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechmill.artefact import locked, tidy
from speechmill.errors import SpeechmillError
from speechmill.group import ALONE, check_size, is_rank, joined
from speechmill.heap import keep_freed
from speechmill.launch import launch
from speechmill.loader import Batch, Damage, batches
from speechmill.metrics import read_metrics
from speechmill.models.base import Recognizer
from speechmill.progress import Progress
from speechmill.recognize import GivenUp
from speechmill.settings import Recipe, recipe_text
from speechmill.shards.mixture import open_data
from speechmill.strategies import needs_launch
from speechmill.strategies.base import Frozen, UpdateStats
from speechmill.tokenizer import load_tokenizer
from speechmill.train.batchnorm import refresh
from speechmill.train.checkpoint import (
    TrainState,
    checkpoints,
    find_checkpoint,
    prune_checkpoints,
    read_state,
    save_checkpoint,
    update_of,
)
from speechmill.train.clock import Clock
from speechmill.train.damage import name_damage
from speechmill.train.data import open_train_index
from speechmill.train.early import early_stop, patience_outlasts
from speechmill.train.language import needs_language_model, save_language_model
from speechmill.train.monitor import NoMonitor, monitor_of
from speechmill.train.optim import annealing, learning_rate
from speechmill.train.prepare import TOKENIZER_NAME, Training, check_gpus_are_seen, check_run_shards, prepare
from speechmill.train.refit import head_is_stale
from speechmill.train.runlog import NoLog, RunLog, check_same_experiment, read_config, write_config
from speechmill.train.signals import StopRequest, stop_on_signals
from speechmill.train.validation import validation
from speechmill.train.weights import open_weights


@dataclass(frozen=True)
class TrainReport:
    """How a training ended; WERs as shares of one, null where nothing was validated."""

    run: Path
    updates: int
    finished: bool
    already_whole: bool
    best_wer: float | None
    best_update: int | None
    stopped_by: str
    early: str = ""  # why it ended before the recipe's last update


def train(recipe: Recipe, run: Path) -> TrainReport:
    """Make or continue the run folder `run`.

    Where the recipe's strategy has several processes, they are started here, unless torchrun has started this one as
    one of them.
    Raises SpeechmillError where the run, the shards or the tokenizer are not the recipe's, or training cannot go on.
    """
    recipe = with_absolute_paths(recipe)
    done = finished_report(recipe, run)
    if done is None:
        check_size(recipe)
        check_gpus_are_seen(recipe)
        if told := patience_outlasts(recipe) if not is_rank() else "":
            print(f"speechmill train: note: {told}", file=sys.stderr)
        if needs_launch(recipe) and not is_rank():
            return _launched(recipe, run)
        with joined(recipe.train.timeout) as group, locked(run) if group.leads else contextlib.nullcontext():
            group.barrier()  # so that nobody looks at the run before it is locked
            with stop_on_signals() as stop:  # from here on: a signal while data are opened must not end the job
                return _train(prepare(recipe, run, group), stop)
    tidy(run)
    if recipe.search != read_config(run).search:
        with locked(run):
            change_search(recipe, run)
    return done


def _launched(recipe: Recipe, run: Path) -> TrainReport:
    """Train in processes that this one starts; see train.worker."""
    open_train_index(recipe)  # bad input is told before they start
    with tempfile.TemporaryDirectory(prefix="speechmill-") as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(recipe_text(recipe), encoding="utf-8")
        settings = recipe.train
        word = launch("speechmill.train.worker", [str(path), str(run)], settings.processes, settings.restarts)
    return TrainReport(**{**word, "run": run})


def _train(work: Training, stop: StopRequest) -> TrainReport:
    run, group = work.run, work.group
    if work.device.type == "cpu":
        keep_freed()
    state, settings, strategy = work.state, work.recipe.train, work.strategy
    log = RunLog(run, state.update, state.validation_due) if group.leads else NoLog()
    with (
        Progress("train", settings.updates, "updates") as progress,
        contextlib.closing(strategy),
        contextlib.closing(load_ahead(work)) as loaded,
        contextlib.closing(monitor_of(settings.monitor_seconds, work.device, group)) as monitor,
    ):
        progress.resume_at(state.update)
        strategy.anneal(annealing(work.recipe.optim, state.wers))
        if not at_end(work):
            strategy.start()
        clock, saved_now = Clock(state.seconds), state.update > 0
        if state.validation_due:
            frozen = strategy.freeze(state.update)
            validate(work, frozen, log, clock, stop)
            save(work, frozen, log, clock)
            saved_now = True
        stopping = strategy.agree(stop)
        while not at_end(work) and not stopping:
            with clock.spending("data"):
                update_batches = [next(loaded) for _ in strategy.mine(state.update)]
            stats = strategy.update(update_batches, state.update, stop)
            state.update += stats.steps
            if stats.steps:
                state.valid_wer = None  # was that of the update before
            account(work, stats, clock)
            count_damage(stats.damaged, work, log)
            if work.average is not None and stats.updates:
                work.average.follow(strategy.standing(), state.update)
            stopping = stats.stop
            if stats.steps and state.update % settings.log_every == 0:
                log.write(train_record(work, clock, stats))
                log_machines(work, monitor, log)
            due = state.update % settings.validate_every == 0 or state.update == settings.updates
            saved_now = bool(stats.steps) and (due or state.update % settings.checkpoint_every == 0)
            if saved_now:
                frozen = strategy.freeze(state.update)
                if due:
                    validate(work, frozen, log, clock, stop)
                    stopping = strategy.agree(stop)
                save(work, frozen, log, clock, refreshed=due, stopping=stopping)
            progress.advance(note=note(state, stats))
        log_machines(work, monitor, log)
        if stopping and not finished(work):
            if not saved_now:  # else it would be written once more, without the WER of the validation just made
                save(work, strategy.freeze(state.update), log, clock, refreshed=False, stopping=True)
        else:
            log.write({"event": "end", "update": state.update, "seconds": clock.seconds(),
                       "audio_seconds": audio_seconds(work), "best_update": state.best_update,
                       "best_wer": state.best_wer, "early": state.early})  # fmt: skip
            log.sync()
    log.close()
    if finished(work):
        fit_best_head(work, stop)
    name = next((name for name in group.gather(stop.name) if name), "")
    return TrainReport(run, state.update, finished(work), False, state.best_wer, state.best_update, name, state.early)


def fit_best_head(work: Training, stop: StopRequest) -> None:
    """Fit the CTC head of the best checkpoint, where the recipe stopped training it: now the batches are at hand."""
    best = find_checkpoint(work.run, "best")
    if work.strategy.standing().ctc_head_apart() is not None and head_is_stale(work.recipe, update_of(best)):
        with contextlib.suppress(GivenUp):  # then it is fitted when the checkpoint is first opened
            open_weights(work.run, work.recipe, str(update_of(best)), work.tokenizer, work.device, work.group, stop)


def finished(work: Training) -> bool:
    return at_end(work) and not work.state.validation_due


def at_end(work: Training) -> bool:
    return work.state.update >= work.recipe.train.updates or bool(work.state.early)


def finished_report(recipe: Recipe, run: Path) -> TrainReport | None:
    """The report of a run that has nothing left to do.

    Raises SpeechmillError where the run is of another recipe; one without a checkpoint has nothing to lose and may be
    begun anew with any.
    """
    if not (run / "config.yaml").is_file() or not checkpoints(run):
        return None
    check_same_experiment(run, recipe)
    ended = [record for record in read_metrics(run) if record["event"] == "end"]
    if not ended:
        return None
    last = ended[-1]
    state = read_state(checkpoints(run)[-1])
    early = last.get("early") and early_stop(recipe, state.epoch_losses, state.wers)
    if last["update"] < recipe.train.updates and not early:
        return None
    return TrainReport(run, last["update"], True, True, last["best_wer"], last["best_update"], "", early or "")


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """So that a run finds its data from whatever folder it is looked at."""
    return recipe.model_copy(update={"data": recipe.data.resolved(), "augment": recipe.augment.resolved()})


def change_search(recipe: Recipe, run: Path) -> None:
    """Give a finished run the recipe's search, and the language model that it needs."""
    if needs_language_model(recipe, run):
        index = open_data(recipe.data.shards, recipe.data.cache, recipe.data.cache_gb)
        check_run_shards(run, read_state(checkpoints(run)[-1]), index)
        save_language_model(recipe, run, index, load_tokenizer(run / TOKENIZER_NAME), ALONE)
    write_config(run, read_config(run).model_copy(update={"search": recipe.search}))


def load_ahead(work: Training) -> Generator[Batch, None, None]:
    """This process's batches from where training stands, loaded ahead of need."""
    updates = range(work.state.update, work.recipe.train.updates)
    numbers = (number for update in updates for number in work.strategy.mine(update))
    return batches(work.dataset, numbers, work.recipe.train.loader_workers, pin=work.device.type == "cuda")


def account(work: Training, stats: UpdateStats, clock: Clock) -> None:
    """Add an update to the sums of the log. Raises SpeechmillError when too many in a row were not finite."""
    state, sums = work.state, work.state.interval
    state.samples += stats.samples
    state.skipped += stats.skipped
    state.lost += stats.lost
    state.pieces += stats.pieces
    state.epoch_sums = [state.epoch_sums[0] + stats.loss, state.epoch_sums[1] + stats.tokens]
    if stats.steps and state.update % work.recipe.train.nominal_epoch == 0 and state.epoch_sums[1]:
        state.epoch_losses.append(state.epoch_sums[0] / state.epoch_sums[1])
        state.epoch_sums = [0.0, 0.0]
    if stats.tokens or stats.skipped:
        state.skipped_in_a_row = 0 if stats.tokens else state.skipped_in_a_row + stats.skipped
    for name, value in {
        "loss": stats.loss, "tokens": stats.tokens, "norm": stats.gradient_norm,
        "updates": stats.updates - stats.skipped, "samples": stats.samples, "padded": stats.padded,
        "stale": stats.staleness,
    }.items():  # fmt: skip
        sums[name] = sums.get(name, 0) + value
    clock.add("data", stats.waited)
    clock.add("communication", stats.communicated)
    if state.skipped_in_a_row >= work.recipe.train.max_nonfinite:
        raise SpeechmillError(
            f"{work.run}: {state.skipped_in_a_row} updates in a row had a loss or gradient that is not finite "
            f"(train.max_nonfinite), the last, {state.update}, with {', '.join(stats.ids[:5])}...; "
            f"lower optim.lr in a new run folder, or look at these utterances. The last checkpoint stands."
        )


def count_damage(damaged: Sequence[Damage], work: Training, log: RunLog | NoLog) -> None:
    """Log and count what could not be read. Raises SpeechmillError where it is more than the recipe allows."""
    for record in name_damage(damaged, work.state, work.recipe.train.max_damaged, work.run):
        if work.group.leads:
            print(f"speechmill train: left out: {record['reason']}", file=sys.stderr)
        log.write(record)


def train_record(work: Training, clock: Clock, stats: UpdateStats) -> dict[str, object]:
    """A line of the log, over the updates since the last one."""
    state, sums = work.state, work.state.interval
    # Of the steps; Hogwild's processes train on while this one validates, and wait for one another before it.
    aside = () if work.recipe.train.strategy == "hogwild" else ("validation", "saving")
    waited, communicated = clock.shares("data", "communication", without=aside)
    record = {
        "event": "train",
        "update": state.update,
        "seconds": clock.seconds(stats.finished),
        "audio_seconds": audio_seconds(work),
        "epoch": work.schedule.locate(state.update * work.recipe.schedule.batches_per_update - 1)[0],
        "loss": sums["loss"] / sums["tokens"] if sums["tokens"] else None,
        "lr": learning_rate(
            work.recipe.optim, state.update - 1, work.recipe.train.updates, annealing(work.recipe.optim, state.wers)
        ),
        "grad_norm": sums["norm"] / sums["updates"] if sums["updates"] else None,
        "padding": 1.0 - sums["samples"] / sums["padded"] if sums["padded"] else None,
        "data_wait": waited,
        "skipped": state.skipped,
        "damaged": len(state.damaged),
    }
    if work.recipe.train.strategy != "single":
        record["communication"] = communicated
    if work.recipe.train.strategy == "hogwild":
        record["staleness"] = sums["stale"] / sums["updates"] if sums["updates"] else None
        record["lost"] = state.lost
    if state.pieces:
        record["pieces"] = state.pieces
    state.interval = {}
    return record


def log_machines(work: Training, monitor: NoMonitor, log: RunLog | NoLog) -> None:
    """Log what the monitors of all machines have seen since the last line; each has printed it already."""
    if work.recipe.train.monitor_seconds:
        for record in (record for of_rank in work.group.gather(monitor.take()) for record in of_rank):
            log.write({"event": "device", "update": work.state.update, **record})


def recognizer(work: Training, frozen: Frozen) -> Recognizer:
    """What is validated and recognizes: the moving average, where the recipe asks for one."""
    return work.average.model if work.average else frozen.model


def validate(work: Training, frozen: Frozen, log: RunLog | NoLog, clock: Clock, stop: StopRequest) -> None:
    """Score the validation split. A stop gives it up; then it stays due."""
    state = work.state
    state.validation_due = True
    since = clock.seconds()
    with contextlib.suppress(GivenUp), clock.spending("validation"):
        refresh(recognizer(work, frozen), work.dataset, work.recipe, work.group, work.device)
        scores, damaged = validation(
            recognizer(work, frozen), work.tokenizer, work.index, work.recipe, work.group, stop, state.update
        )
        count_damage(damaged, work, log)
        wer = scores["wer"]
        state.valid_wer = wer
        if wer is not None and (state.best_wer is None or wer < state.best_wer):
            state.best_wer, state.best_update = wer, state.update
        if wer is not None:
            state.wers.append(wer)
        state.early = early_stop(work.recipe, state.epoch_losses, state.wers)
        work.strategy.anneal(annealing(work.recipe.optim, state.wers))
        log.write({"event": "valid", "update": state.update, "seconds": clock.seconds(),
                   "audio_seconds": audio_seconds(work), **scores,
                   "valid_seconds": clock.seconds() - since})  # fmt: skip
        state.validation_due = False


def save(
    work: Training, frozen: Frozen, log: RunLog | NoLog, clock: Clock, refreshed: bool = True, stopping: bool = False
) -> None:
    """Write a checkpoint.

    Args:
        refreshed: the statistics of batch normalisation were just computed.
        stopping: there is no time for them: whoever opens the checkpoint to recognize computes them.
    """
    state, settings = work.state, work.recipe.train
    with clock.spending("saving"):
        if not (refreshed or stopping):
            refresh(recognizer(work, frozen), work.dataset, work.recipe, work.group, work.device)
        state.refreshed = refreshed or not stopping
        state.seconds = clock.seconds()
        state.epoch_starts = work.schedule.epoch_starts
        log.sync()
        averaged = work.average.model if work.average else None
        save_checkpoint(work.run, state, frozen, work.recipe, work.group, averaged)
        if work.group.leads:
            prune_checkpoints(work.run, settings.keep_last, settings.keep_best)


def note(state: TrainState, stats: UpdateStats) -> str:
    loss = f"loss {stats.loss / stats.tokens:.3f}" if stats.tokens else "skipped" if stats.skipped else ""
    best = f", best WER {state.best_wer:.1%}" if state.best_wer is not None else ""
    return loss + best


def audio_seconds(work: Training) -> float:
    return work.state.samples / work.index.sample_rate
