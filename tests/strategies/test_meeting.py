"""Where the ranks of one machine meet: nobody leaves before all have come, and a rank that died is named."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import on_ranks

from speechmill.group import Group
from speechmill.strategies import meeting
from speechmill.strategies.meeting import Meeting, build_meeting


def meetings(processes: list[int], spinning: bool) -> list[Meeting]:
    came, rows = np.zeros(len(processes), dtype=np.int64), np.zeros((2, len(processes), 8))
    return [Meeting(rank, processes, spinning, came, rows) for rank in range(len(processes))]


@pytest.mark.parametrize("spinning", [True, False])
def test_all_have_the_same_sums_whoever_is_late(spinning: bool) -> None:
    def come(place: Meeting, rank: int) -> list[float]:
        dice, found = random.Random(rank), []
        for turn in range(150):
            time.sleep(dice.choice([0, 0, 0, 0.001]))
            values = torch.tensor([float(turn), 0.1 * rank, float(rank == turn % 3)], dtype=torch.float64)
            place.add(values)
            found.append(values.tolist())
        return found

    places = meetings([os.getpid()] * 3, spinning)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(come, places, range(3)))
    assert found[0] == [[3.0 * turn, 0.0 + 0.1 + 0.2, 1.0] for turn in range(150)]
    assert found[1] == found[0]
    assert found[2] == found[0]


def test_a_rank_whose_process_has_ended_is_named() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:  # not asked after: a zombie, until the end of the block
        time.sleep(0.5)
        first, _ = meetings([os.getpid(), ended.pid], spinning=True)
        with pytest.raises(RuntimeError, match=f"process {ended.pid} of rank 1 has ended"):
            first.add(torch.zeros(2, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="of rank 1 has ended"):  # no trace of it any more
        meetings([os.getpid(), ended.pid], spinning=False)[0].add(torch.zeros(2, dtype=torch.float64))


def met(group: Group, machine: str) -> list[object]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meeting.platform, "machine", lambda: machine)
        place = build_meeting(group, 5)
    values = torch.tensor([1.0, float(group.rank)], dtype=torch.float64)
    place.add(values)
    return [type(place).__name__, values.tolist()]


@pytest.mark.parametrize(("machine", "kind"), [("x86_64", "Meeting"), ("aarch64", "Messages")])
def test_where_stores_may_pass_one_another_messages_are_sent(machine: str, kind: str, tmp_path: Path) -> None:
    assert on_ranks(2, met, machine, folder=tmp_path) == [[kind, [2.0, 1.0]]] * 2
