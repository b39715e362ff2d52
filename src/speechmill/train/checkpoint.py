"""Checkpoints: a folder each, written beside and renamed. The last K and the best K are kept."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from speechmill.artefact import partial_path, read_json, write_json, write_text, written_folder
from speechmill.errors import SpeechmillError
from speechmill.group import ALONE, Group
from speechmill.settings import Recipe, recipe_text
from speechmill.strategies.base import Frozen

_TRAINED, _AVERAGED = "model.pt", "averaged.pt"


@dataclass
class TrainState:
    """Where training stands, besides weights and optimizer. Random states are not in it: (seed, batch number) rules."""

    update: int = 0  # updates done
    seconds: float = 0.0  # of training so far, over all its runs
    samples: int = 0  # of audio heard, padding not counted
    skipped: int = 0  # updates skipped for non-finite numbers, in all
    skipped_in_a_row: int = 0
    lost: int = 0  # updates whose Hogwild process died
    pieces: int = 0  # batches computed in pieces for want of memory
    damaged: list[str] = field(default_factory=list)  # ids of utterances that could not be read
    epoch_starts: list[int] = field(default_factory=lambda: [0])  # see Schedule
    interval: dict[str, float] = field(default_factory=dict)  # sums since the last line of the log
    valid_wer: float | None = None  # of the last validation, where it was made at this very update
    validation_due: bool = False  # a stop came into the validation at this very update
    best_wer: float | None = None
    best_update: int | None = None
    wers: list[float] = field(default_factory=list)  # of all validations
    epoch_losses: list[float] = field(default_factory=list)  # mean training loss of each nominal epoch
    epoch_sums: list[float] = field(default_factory=lambda: [0.0, 0.0])  # loss and tokens since the last one ended
    early: str = ""  # why training ended before its last update
    shards: str = ""  # fingerprint of the data that the schedule was made of
    refreshed: bool = True  # the statistics of batch normalisation are those of these weights


def save_checkpoint(
    run: Path, state: TrainState, frozen: Frozen, recipe: Recipe, group: Group = ALONE,
    averaged: torch.nn.Module | None = None,
) -> Path:  # fmt: skip
    """Write checkpoints/step_N; complete or absent. Ranks that have something of their own each write their part.

    Args:
        averaged: the moving average of the weights, where the recipe asks for one: what recognizes.
    """
    path = _folder(run) / f"step_{state.update:08d}"
    if not group.leads:
        group.barrier()
        _save_part(partial_path(path), frozen, group.rank)
        group.barrier()
        return path
    with written_folder(path) as partial:
        group.barrier()  # the folder is there
        torch.save(frozen.model.state_dict(), partial / _TRAINED)
        if averaged is not None:
            torch.save(averaged.state_dict(), partial / _AVERAGED)
        torch.save(frozen.optimizer(), partial / "optimizer.pt")
        torch.save({"strategy": recipe.train.strategy, **frozen.own}, partial / "strategy.pt")
        write_text(partial / "config.yaml", recipe_text(recipe))
        _save_part(partial, frozen, group.rank)
        group.barrier()  # all parts are there
        write_json(partial / "state.json", {"model": recipe.model_fingerprint(), **asdict(state)})
    return path


def _save_part(folder: Path, frozen: Frozen, rank: int) -> None:
    if frozen.of_rank:
        torch.save(frozen.of_rank, folder / f"rank{rank}.pt")


def load_strategy(path: Path, strategy: str, rank: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the strategy had told the checkpoint, and this rank of it; nothing where it was another strategy."""
    own = _load(path / "strategy.pt")
    if own.pop("strategy") != strategy:
        return {}, {}
    part = path / f"rank{rank}.pt"
    return own, _load(part) if part.is_file() else {}


def checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    return sorted(path for path in _folder(run).glob("step_*") if (path / "state.json").is_file())


def update_of(path: Path) -> int:
    """The updates that a checkpoint has done, by its name."""
    return int(path.name.removeprefix("step_"))


def read_state(path: Path) -> TrainState:
    """Position and counters of the checkpoint in the folder `path`. Raises SpeechmillError where it is none."""
    values = read_json(path / "state.json")
    values.pop("model", None)
    try:
        return TrainState(**values)
    except TypeError as error:
        raise SpeechmillError(f"{path / 'state.json'}: not a checkpoint of this version ({error}).") from error


def find_checkpoint(run: Path, which: str) -> Path:
    """The checkpoint that `which` names: "best" (by validation WER; the last where none was validated), "last", or a
    number of updates."""
    found = checkpoints(run)
    if not found:
        raise SpeechmillError(f"{run}: no checkpoint here; was it trained with `speechmill train`?")
    if which == "last":
        return found[-1]
    if which == "best":
        validated = [(wer, path) for path in found if (wer := read_state(path).valid_wer) is not None]
        return min(validated, key=lambda pair: pair[0])[1] if validated else found[-1]
    for path in found:
        if which.isdigit() and int(which) == update_of(path):
            return path
    names = ", ".join(str(update_of(path)) for path in found)
    raise SpeechmillError(f"{run}: no checkpoint {which!r}; there are best, last, {names}.")


def read_weights(path: Path, model_fingerprint: str, *, trained: bool = False) -> dict[str, Any]:
    """A checkpoint's weights: those that recognize, the moving average where there is one.

    Args:
        trained: those that training goes on from.
    Raises SpeechmillError where they were trained with another recipe.
    """
    if read_json(path / "state.json").get("model") != model_fingerprint:
        raise SpeechmillError(
            f"{path}: a checkpoint of another recipe (features, model or tokenizer differ); "
            f"use the recipe that it was trained with, or another run folder."
        )
    return _load(path / _TRAINED if trained else weights_file(path))


def weights_file(path: Path) -> Path:
    """The file of the weights that recognize."""
    averaged = path / _AVERAGED
    return averaged if averaged.is_file() else path / _TRAINED


def load_weights(path: Path, model: torch.nn.Module, model_fingerprint: str, *, trained: bool = False) -> None:
    """Load a checkpoint's weights; see `read_weights`."""
    put_weights(read_weights(path, model_fingerprint, trained=trained), model, path)


def put_weights(weights: dict[str, Any], model: torch.nn.Module, path: Path) -> None:
    """Put weights that come from `path` into a model. Raises SpeechmillError where they do not fit it."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise SpeechmillError(f"{path}: its weights do not fit the recipe's model ({error}).") from error


def load_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    try:
        optimizer.load_state_dict(_load(path / "optimizer.pt"))
    except (ValueError, KeyError) as error:
        raise SpeechmillError(f"{path}: its optimizer state does not fit the recipe's optimizer ({error}).") from error


def prune_checkpoints(run: Path, keep_last: int, keep_best: int) -> None:
    """Remove all but the last and the best checkpoints."""
    found = checkpoints(run)
    keep = set(found[-keep_last:])
    validated = [(wer, path) for path in found if (wer := read_state(path).valid_wer) is not None]
    keep |= {path for _, path in sorted(validated)[:keep_best]}
    for path in found:
        if path not in keep:
            # Renamed first: a folder that is half removed must not look like a checkpoint.
            doomed = path.with_name(f".{path.name}.partial")
            shutil.rmtree(doomed, ignore_errors=True)
            path.rename(doomed)
    for leftover in _folder(run).glob(".step_*.partial"):  # these, and what a killed run left
        shutil.rmtree(leftover)


def _folder(run: Path) -> Path:
    return run / "checkpoints"


def _load(path: Path) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise SpeechmillError(f"{path}: this file of the checkpoint is gone.") from error
    except Exception as error:  # torch raises many kinds for a damaged file; each is told
        raise SpeechmillError(f"{path}: damaged ({type(error).__name__}: {error}); use another checkpoint.") from error
    return loaded
