"""Sums of gradients: in shared memory where there is some, by messages elsewhere, the same ones in either way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import on_ranks

from speechmill.group import Group
from speechmill.strategies import reducer
from speechmill.strategies.reducer import build_reducer

UPDATES = 5


def summed(group: Group, memory: str) -> list[Any]:
    """The name of the reducer, the files that it leaves, the sums of some updates.

    The first parameter has a gradient everywhere, the second on one rank, the third in the first of two batches, the
    fourth nowhere.
    """
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((3, 5), (7,), (2, 2), (4,))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reducer, "_MEMORY", Path(memory))
        sums = build_reducer(parameters, group)
    everywhere, one_rank, early, _ = parameters
    found = []
    for update in range(UPDATES):
        value = float(10 * update + group.rank + 1)
        sums.begin()
        (value * everywhere.sum() + value * early.sum()).backward()
        sums.sending = True
        last = value * everywhere.sum()
        if group.rank == update % group.size:
            last = last + value * one_rank.sum()
        last.backward()
        sums.send_rest()
        counts = torch.tensor(sums.present())
        group.add(counts)
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


def test_without_room_there_is_no_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reducer, "_MEMORY", tmp_path)
    assert reducer._shared_memory(Group(), 1 << 62) is None
    assert list(tmp_path.iterdir()) == []
