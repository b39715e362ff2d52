"""Local SGD: rounds, the outer optimizer, and going on from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import CRDNN, on_ranks, strategy_of, uneven

from speechmill.config import override_recipe
from speechmill.errors import SpeechmillError
from speechmill.group import Group
from speechmill.losses import LossSum
from speechmill.settings import OptimSettings, Recipe, ScheduleSettings, TrainSettings


def recipe(**train: Any) -> Recipe:
    kept = {"precision": "float64", "updates": 100, "validate_every": 4, "checkpoint_every": 4, "average_every": 4}
    return Recipe(
        model=CRDNN,
        schedule=ScheduleSettings(batches_per_update=2),
        optim=OptimSettings(lr=1e-2),
        train=TrainSettings(strategy="local_sgd", processes=2, **{**kept, **train}),
    )


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def rounds(group: Group, settings: Recipe, stop_at: int, resumed: bool) -> list[Any]:
    """Eight updates; frozen after four, and with `resumed` gone on with by a strategy built anew."""
    strategy = strategy_of(settings, group)
    seen = []
    for number in range(8):
        if number == 4 and resumed:
            frozen = strategy.freeze(4)
            weights, moments = strategy.model.state_dict(), frozen.optimizer()
            own, of_rank = frozen.own, frozen.of_rank
            strategy = strategy_of(settings, group)
            strategy.model.load_state_dict(weights)
            if group.rank == 0:
                strategy.optimizer.load_state_dict(moments)  # type: ignore[attr-defined]
            strategy = type(strategy)(strategy.model, strategy.optimizer, settings, strategy.device, group)  # type: ignore
            strategy.resume(own, of_rank)
        stats = strategy.update([uneven(batch) for batch in strategy.mine(number)], number, number == stop_at)
        seen.append((stats.tokens, stats.updates, stats.stop, flat(strategy.model)))
    return seen


def skipping(group: Group, settings: Recipe) -> list[Any]:
    """An update whose batch of rank 0 is not finite."""
    strategy = strategy_of(settings, group)
    true_loss = strategy.model.loss

    def loss(*arguments: Any, **named: Any) -> LossSum:
        found = true_loss(*arguments, **named)
        return LossSum(found.sum * float("nan"), found.count) if group.rank == 0 else found

    strategy.model.loss = loss  # type: ignore[method-assign]
    stats = strategy.update([uneven(batch) for batch in strategy.mine(0)], 0)
    return [stats.skipped, stats.tokens, stats.ids, flat(strategy.model)]


def test_a_rank_that_skips_an_update_has_no_say_in_the_average(tmp_path: Path) -> None:
    """The rank that trains on the batch skips alone; the other's step is what all go on with."""
    first, second = on_ranks(2, skipping, recipe(average_every=1), folder=tmp_path)
    by_itself = ["train.strategy=single", "train.processes=1", "schedule.batches_per_update=1"]
    alone = strategy_of(override_recipe(recipe(), by_itself))
    expected = alone.update([uneven(1)], 0)
    for skipped, tokens, ids, found in (first, second):
        assert (skipped, tokens, ids) == (1, expected.tokens, uneven(0).ids)
        assert torch.equal(found, flat(alone.model))


def test_ranks_part_and_meet_again(tmp_path: Path) -> None:
    first, second = on_ranks(2, rounds, recipe(), 99, False, folder=tmp_path)
    meets = [torch.equal(a[3], b[3]) for a, b in zip(first, second, strict=True)]
    assert meets == [False, False, False, True] * 2
    told = [(tokens, updates) for tokens, updates, _, _ in first]
    every = [sum(int(uneven(batch).target_lengths.sum()) for batch in range(8 * k, 8 * k + 8)) for k in range(2)]
    assert told == [(0, 0)] * 3 + [(every[0], 8)] + [(0, 0)] * 3 + [(every[1], 8)]


def test_a_stop_is_obeyed_by_all_at_the_end_of_a_round(tmp_path: Path) -> None:
    for found in on_ranks(2, rounds, recipe(), 3, False, folder=tmp_path):
        assert [stop for _, _, stop, _ in found] == [False] * 3 + [True] + [False] * 4


@pytest.mark.parametrize("outer", [{}, {"outer_lr": 0.7, "outer_momentum": 0.9}])
def test_resumed_is_uninterrupted(outer: dict[str, float], tmp_path: Path) -> None:
    whole = on_ranks(2, rounds, recipe(**outer), 99, False, folder=tmp_path)
    resumed = on_ranks(2, rounds, recipe(**outer), 99, True, folder=tmp_path)
    for one, other in zip(whole, resumed, strict=True):
        assert torch.equal(one[7][3], other[7][3])


def test_the_outer_optimizer_is_nesterov_on_the_difference(tmp_path: Path) -> None:
    plain = on_ranks(2, rounds, recipe(), 99, False, folder=tmp_path)[0]
    outer = on_ranks(2, rounds, recipe(outer_lr=0.7, outer_momentum=0.9), 99, False, folder=tmp_path)[0]
    start = flat(strategy_of(override_recipe(recipe(), ["train.strategy=single", "train.processes=1"])).model)
    difference = start - plain[3][3]
    # The first step of Nesterov's momentum: the buffer is the gradient, the step gradient + momentum * buffer.
    torch.testing.assert_close(outer[3][3], start - 0.7 * 1.9 * difference, rtol=1e-9, atol=1e-12)


def test_validation_and_checkpoints_fall_on_averages() -> None:
    with pytest.raises(SpeechmillError, match=r"train.checkpoint_every 6 is no multiple of train.average_every 4"):
        override_recipe(recipe(), ["train.checkpoint_every=6"])
