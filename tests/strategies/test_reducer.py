"""Sums of gradients: in shared memory where there is some, by messages elsewhere, the same ones in either way."""

from __future__ import annotations

import contextlib
import io
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import CPU, CRDNN, build, make_batch, on_ranks, strategy_of

from speechmill.group import Group
from speechmill.settings import ConformerSettings, CtcSettings, LossSettings, ModelSettings, Recipe, TrainSettings
from speechmill.strategies import memory as memory_of_ranks
from speechmill.strategies import reducer
from speechmill.strategies.base import parameters_of
from speechmill.strategies.ddp import Ddp
from speechmill.strategies.reducer import build_reducer
from speechmill.train.optim import build_optimizer

UPDATES = 5
CONFORMER = ConformerSettings(
    size=8, channels=4, layers=1, decoder_layers=1, heads=2, feedforward=16, kernel=3, dropout=0.0
)


def summed(group: Group, memory: str) -> list[Any]:
    """The name of the reducer, the files that it leaves, the sums of some updates.

    The first parameter has a gradient everywhere, the second on one rank, the third in the first of two batches, the
    fourth, which is told, nowhere.
    """
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((3, 5), (7,), (2, 2), (4,))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_of_ranks, "MEMORY", Path(memory))
        sums = build_reducer(parameters, group)
    everywhere, one_rank, early, nowhere = parameters
    found = []
    for update in range(UPDATES):
        value = float(10 * update + group.rank + 1)
        sums.begin([nowhere])
        (value * everywhere.sum() + value * early.sum()).backward()
        sums.sending = True
        last = value * everywhere.sum()
        if group.rank == update % group.size:
            last = last + value * one_rank.sum()
        last.backward()
        sums.send_rest()
        counts = torch.tensor(sums.present(), dtype=torch.float64)
        sums.meet(counts)
        sums.finish(counts)
        found.append([None if p.grad is None else p.grad.clone() for p in parameters])
    return [type(sums).__name__, [path.name for path in Path(memory).glob("*")], found]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("way", ["shared", "messages", "no memory"])
def test_every_gradient_is_summed_once(size: int, way: str, tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    if way != "no memory":
        memory.mkdir()
    ranks = on_ranks(size, summed, str(memory), folder=tmp_path, together=way != "messages")
    for name, files, updates in ranks:
        assert name == ("SharedReducer" if way == "shared" else "Reducer")
        assert files == []
        for update, (everywhere, one_rank, early, nowhere) in enumerate(updates):
            values = [10.0 * update + rank + 1 for rank in range(size)]
            assert everywhere.shape == (3, 5)
            assert (everywhere == 2 * sum(values)).all()
            assert (one_rank == values[update % size]).all()
            assert (early == sum(values)).all()
            assert nowhere is None


def hurried(group: Group, jitter: int) -> list[torch.Tensor]:
    """Sums of gradients that do not add up to the same in another order, with ranks that are late by chance."""
    dice = random.Random(jitter * 10 + group.rank)
    torch.manual_seed(group.rank)
    parameters = [
        torch.nn.Parameter(torch.zeros(())),
        torch.nn.Parameter(torch.zeros(4, 3, 2, 5).to(memory_format=torch.channels_last)),
        torch.nn.Parameter(torch.zeros(1001, dtype=torch.float64)),
        torch.nn.Parameter(torch.zeros(7, 3).t()),
    ]
    sums = build_reducer(parameters, group)
    found = []
    for _ in range(12):
        sums.begin()
        sums.sending = True
        torch.stack([(p * torch.randn(p.shape, dtype=p.dtype)).sum().double() for p in parameters]).sum().backward()
        time.sleep(dice.choice([0, 0, 0.01]))
        sums.send_rest()
        counts = torch.tensor(sums.present(), dtype=torch.float64)
        sums.meet(counts)
        time.sleep(dice.choice([0, 0, 0.03]))  # while others come to the next update's gradients
        sums.finish(counts)
        found.append(torch.cat([p.grad.double().flatten() for p in parameters if p.grad is not None]))
    return found


@pytest.mark.parametrize("size", [2, 4])
def test_who_is_late_and_when_makes_no_difference(size: int, tmp_path: Path) -> None:
    runs = [on_ranks(size, hurried, jitter, folder=tmp_path) for jitter in range(2)]
    for update in range(12):
        sums = [ranks[rank][update] for ranks in runs for rank in range(size)]
        assert all(torch.equal(one, sums[0]) for one in sums), update


def test_messages_give_the_same_sums(tmp_path: Path) -> None:
    shared, messages = (on_ranks(3, hurried, 0, folder=tmp_path, together=way)[0] for way in (True, False))
    for one, other in zip(shared, messages, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [LossSettings(), LossSettings(ctc_weight=0), LossSettings(ctc_epochs=1)])
@pytest.mark.parametrize("model", [CRDNN, CONFORMER, CtcSettings(size=8, layers=2, channels=4)])
def test_gradients_are_sent_while_others_are_still_to_come(
    loss: LossSettings, model: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By messages, in buckets so small that there are several; also once the CTC head gets no gradient any more."""
    settings = Recipe(model=model, loss=loss, train=TrainSettings(nominal_epoch=1, updates=10))
    built = build(settings).train()
    events: list[str] = []
    for parameter in built.parameters():
        parameter.register_post_accumulate_grad_hook(lambda _: events.append("gradient"))
    monkeypatch.setattr(reducer.dist, "all_reduce", lambda *_, **__: events.append("sent") or Sent())
    strategy = Ddp(built, build_optimizer(built.parameters(), settings.optim), settings, CPU, Group())
    strategy.reducer = reducer.Reducer(parameters_of(built), Group(), 512)
    strategy.update([make_batch(5)], 5)
    last = len(events) - 1 - events[::-1].index("gradient")
    buckets = len(strategy.reducer.buckets)
    assert events.count("sent") == buckets + 1, "the buckets, and the numbers with which ranks meet"
    assert buckets > 5
    assert events[:last].count("sent") >= 0.7 * buckets


class Sent:
    def wait(self) -> None:
        """Nobody else is there."""


def gone_on(group: Group, before: str) -> list[str]:
    """How a checkpoint would tell the way of the sums, and what is said where it was another before."""
    settings = Recipe(model=CRDNN, train=TrainSettings(strategy="ddp", processes=group.size))
    strategy = strategy_of(settings, group)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        strategy.resume({"sums": before}, {})
    return [strategy.freeze(0).own["sums"], said.getvalue()]


@pytest.mark.parametrize("before", ["messages", "shared memory"])
def test_sums_that_are_rounded_otherwise_than_before_are_told(before: str, tmp_path: Path) -> None:
    ranks = on_ranks(3, gone_on, before, folder=tmp_path)
    assert [way for way, _ in ranks] == ["shared memory"] * 3
    assert ("through messages" in ranks[0][1]) == (before == "messages")
    assert [said for _, said in ranks[1:]] == ["", ""]


def test_without_room_there_is_no_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory_of_ranks, "MEMORY", tmp_path)
    assert memory_of_ranks.shared_memory(Group(), 1 << 62) is None
    assert "no room for" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
