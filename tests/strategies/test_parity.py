"""The same updates, whoever carries them out: accumulation, DDP, local SGD with a period of one update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import CRDNN, on_ranks, strategy_of, trained, uneven

from speechmill.group import ALONE
from speechmill.settings import OptimSettings, Recipe, ScheduleSettings, TrainSettings

UPDATES = 20
# What a bias adds, the BatchNorm after it takes away: its gradient is rounding alone, about 1e-15, and Adam makes steps
# of lr * 1e-15 / 1e-8 of it. Measured over 20 updates: 9e-9 of the tensor's largest value on one machine, 2e-8 on
# another, where all others are within 4e-13.
BEFORE_BATCH_NORM = {"encoder.DNN.block_0.linear.w.bias", "encoder.DNN.block_1.linear.w.bias"}
Trained = tuple[list[float], dict[str, torch.Tensor]]


def recipe(strategy: str = "single", optim: OptimSettings | None = None, **train: Any) -> Recipe:
    settings: dict[str, Any] = {"precision": "float64", "updates": 100, "strategy": strategy}
    return Recipe(
        model=CRDNN,
        schedule=ScheduleSettings(batches_per_update=4),
        optim=optim or OptimSettings(lr=1e-2),
        train=TrainSettings(**{**settings, **train}),
    )


def assert_equal(found: Trained, expected: Trained) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=1e-12, atol=0)
    for name, value in expected[1].items():
        near = 1e-6 if name in BEFORE_BATCH_NORM else 1e-8
        scale = value.abs().max().item()
        torch.testing.assert_close(
            found[1][name], value, rtol=near, atol=near * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.fixture(scope="module")
def accumulated() -> Trained:
    return trained(ALONE, recipe(), UPDATES)


@pytest.mark.parametrize("together", [True, False], ids=["one machine", "a machine each"])
@pytest.mark.parametrize("size", [2, 4])
def test_ddp_is_accumulation(size: int, together: bool, accumulated: Trained, tmp_path: Path) -> None:
    ranks = on_ranks(size, trained, recipe("ddp", processes=size), UPDATES, folder=tmp_path, together=together)
    assert_equal(ranks[0], accumulated)
    for other in ranks[1:]:
        assert other[0] == ranks[0][0]
        assert all(torch.equal(other[1][name], value) for name, value in ranks[0][1].items())


def test_three_ranks_with_four_batches_an_update(accumulated: Trained, tmp_path: Path) -> None:
    ranks = on_ranks(3, trained, recipe("ddp", processes=3), UPDATES, folder=tmp_path)
    assert_equal(ranks[0], accumulated)


def test_biases_before_batch_norm_do_nothing() -> None:
    """Why they may differ: whatever they are, the losses of training are the same."""
    losses = []
    for shift in (0.0, 3.0):
        strategy = strategy_of(recipe())
        parameters = dict(strategy.model.named_parameters())
        with torch.no_grad():
            for name in BEFORE_BATCH_NORM:
                parameters[name] += shift
        losses.append(strategy.update([uneven(batch) for batch in strategy.mine(0)], 0).loss)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-12, atol=0)


def test_the_network_learns_and_is_not_blind_to_the_batches(accumulated: Trained) -> None:
    losses = accumulated[0]
    assert min(losses[10:]) < 0.9 * losses[0]
    assert len(set(losses)) == UPDATES


def test_local_sgd_every_update_is_ddp(tmp_path: Path) -> None:
    plain = OptimSettings(kind="sgd", lr=0.01, clip_norm=0.0)
    local = recipe("local_sgd", plain, processes=2, average_every=1)
    expected = on_ranks(2, trained, recipe("ddp", plain, processes=2), UPDATES, folder=tmp_path)
    found = on_ranks(2, trained, local, UPDATES, folder=tmp_path)
    # The losses of local SGD are of the same parameters, up to rounding of the average.
    assert_equal(found[0], expected[0])
    assert all(torch.equal(found[1][1][name], value) for name, value in found[0][1].items())
