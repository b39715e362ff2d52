from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from speechmill.errors import SpeechmillError
from speechmill.settings import Recipe
from speechmill.strategies.base import Frozen
from speechmill.train.checkpoint import (
    TrainState,
    checkpoints,
    find_checkpoint,
    load_optimizer,
    load_weights,
    prune_checkpoints,
    read_state,
    save_checkpoint,
)

RECIPE = Recipe()


def parts() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def frozen() -> Frozen:
    model, optimizer = parts()
    return Frozen(model, optimizer.state_dict)  # type: ignore[arg-type]


def save(run: Path, update: int, wer: float | None = None) -> Path:
    return save_checkpoint(run, TrainState(update=update, valid_wer=wer), frozen(), RECIPE)


def names(run: Path) -> list[int]:
    return [int(path.name.removeprefix("step_")) for path in checkpoints(run)]


def test_saved_and_loaded_is_equal(tmp_path: Path) -> None:
    model, optimizer = parts()
    state = TrainState(7, 1.0 / 3.0, 12345, 2, 1, 3, 4, [0, 5, 10], {"loss": 0.1 + 0.2}, 0.5, 0.4, 3)
    path = save_checkpoint(tmp_path, state, Frozen(model, optimizer.state_dict), RECIPE)
    assert path == tmp_path / "checkpoints" / "step_00000007"
    assert read_state(path) == state
    other = torch.nn.Linear(3, 2)
    load_weights(path, other, RECIPE.model_fingerprint())
    assert torch.equal(other.weight, model.weight)
    other_optimizer = torch.optim.AdamW(other.parameters())
    load_optimizer(path, other_optimizer)
    for key, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            assert torch.equal(other_optimizer.state_dict()["state"][key][name], value)


def test_checkpoint_of_another_recipe(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    with pytest.raises(SpeechmillError, match="step_00000001: a checkpoint of another recipe"):
        load_weights(path, torch.nn.Linear(3, 2), "recipe-b")
    with pytest.raises(SpeechmillError, match="do not fit the recipe's model"):
        load_weights(path, torch.nn.Linear(4, 2), RECIPE.model_fingerprint())


def test_damaged_checkpoints(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    whole = (path / "model.pt").read_bytes()
    (path / "model.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SpeechmillError, match=r"model\.pt: damaged"):
        load_weights(path, torch.nn.Linear(3, 2), RECIPE.model_fingerprint())
    (path / "model.pt").unlink()
    with pytest.raises(SpeechmillError, match=r"model\.pt: this file of the checkpoint is gone"):
        load_weights(path, torch.nn.Linear(3, 2), RECIPE.model_fingerprint())
    (path / "state.json").write_text(json.dumps({"model": "recipe-a", "steps": 3}))
    with pytest.raises(SpeechmillError, match=r"state\.json: not a checkpoint of this version"):
        read_state(path)


def test_a_pickle_that_runs_code_is_not_run(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    mark = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return mark.touch, ()  # type: ignore[return-value]

    torch.save(Evil(), path / "model.pt")
    with pytest.raises(SpeechmillError, match=r"model\.pt: damaged"):
        load_weights(path, torch.nn.Linear(3, 2), RECIPE.model_fingerprint())
    assert not mark.exists()


def test_find(tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match="no checkpoint here"):
        find_checkpoint(tmp_path, "best")
    for update, wer in [(10, 0.5), (20, 0.3), (30, 0.3), (40, None)]:
        save(tmp_path, update, wer)
    assert find_checkpoint(tmp_path, "last").name == "step_00000040"
    assert find_checkpoint(tmp_path, "best").name == "step_00000020"
    assert find_checkpoint(tmp_path, "30").name == "step_00000030"
    for wrong in ("31", "first"):
        with pytest.raises(SpeechmillError, match=f"no checkpoint '{wrong}'; there are best, last, 10, 20, 30, 40"):
            find_checkpoint(tmp_path, wrong)


def test_best_of_none_validated_is_the_last(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    assert find_checkpoint(tmp_path, "best").name == "step_00000002"


def test_prune_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    for update, wer in [(1, 0.5), (2, 0.1), (3, 0.4), (4, None), (5, 0.2), (6, 0.3), (7, None)]:
        save(tmp_path, update, wer)
    prune_checkpoints(tmp_path, keep_last=2, keep_best=2)
    assert names(tmp_path) == [2, 5, 6, 7]
    prune_checkpoints(tmp_path, keep_last=1, keep_best=1)
    assert names(tmp_path) == [2, 7]


def test_half_removed_and_half_written_checkpoints_are_swept_away(tmp_path: Path) -> None:
    save(tmp_path, 1)
    leftover = tmp_path / "checkpoints" / ".step_00000009.partial"
    leftover.mkdir()
    (leftover / "model.pt").write_bytes(b"half")
    assert names(tmp_path) == [1]
    prune_checkpoints(tmp_path, keep_last=1, keep_best=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_00000001"]
