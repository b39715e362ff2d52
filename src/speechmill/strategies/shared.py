"""What Hogwild's processes share: a few counters, the parameters, and the optimizer's state."""

from __future__ import annotations

import copy
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from speechmill.models.base import Recognizer
from speechmill.settings import Recipe
from speechmill.strategies.base import parameters_of
from speechmill.train.optim import build_optimizer

# Places in the counters: the next update to be taken, the one before which taking ends, updates done, the limit of
# pieces where memory is short, the bits of the factor on the learning rate, the only process that may take updates plus
# one (0: all may); then for each process the update that it has begun, plus one.
NEXT, CEILING, DONE, LIMIT, _ANNEALED, ONLY, BEGUN = range(7)


class Counters:
    """Numbers that all processes share, in a file, under a lock that the kernel gives back when its holder dies."""

    def __init__(self, path: str, processes: int) -> None:
        if not Path(path).exists():
            Path(path).write_bytes(bytes((BEGUN + processes) * 8))
            np.memmap(path, dtype=np.float64, mode="r+")[_ANNEALED] = 1.0
        self._values = np.memmap(path, dtype=np.int64, mode="r+", shape=(BEGUN + processes,))
        self._file = Path(path).open("rb+")  # noqa: SIM115  # held as long as the counters

    @contextmanager
    def locked(self) -> Iterator[Any]:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield self._values
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def read(self, place: int) -> int:
        return int(self._values[place])

    def take(self, rank: int) -> int | None:
        """The next update, for the caller alone; None at the ceiling, and where only another may take."""
        with self.locked() as values:
            if values[NEXT] >= values[CEILING] or values[ONLY] not in (0, rank + 1):
                return None
            values[NEXT] += 1
            return int(values[NEXT]) - 1

    def begin(self, rank: int, number: int) -> None:
        """Note that a process now computes this update: if it dies from here on, nobody knows what it has changed."""
        self._values[BEGUN + rank] = number + 1

    def begun(self, rank: int) -> int:
        """The last update that a process began; -1 where it has begun none."""
        return self.read(BEGUN + rank) - 1

    def anneal(self, factor: float) -> None:
        with self.locked() as values:
            values.view(np.float64)[_ANNEALED] = factor

    @property
    def annealed(self) -> float:
        """The factor on the schedule's learning rate."""
        return float(self._values.view(np.float64)[_ANNEALED])

    def close(self) -> None:
        self._file.close()


class Shared:
    """What all processes hold in one piece of memory: the model, and the state of one optimizer or of one each."""

    def __init__(self, model: Recognizer, recipe: Recipe) -> None:
        self.model = model
        parameters = parameters_of(model)
        for parameter, view in zip(parameters, _side_by_side(parameters), strict=True):
            view.copy_(parameter.detach())
            parameter.data = view
        count = recipe.train.processes if recipe.train.hogwild_moments == "own" else 1
        self.optimizers = [build_optimizer(parameters, recipe.optim) for _ in range(count)]
        for optimizer in self.optimizers:
            _allocate(optimizer, parameters)

    def states(self) -> list[dict[str, Any]]:
        return [copy.deepcopy(optimizer.state_dict()["state"]) for optimizer in self.optimizers]

    def load(self, states: list[dict[str, Any]]) -> None:
        """Copy optimizer states in; where there are fewer than processes, they are used again."""
        for place, optimizer in enumerate(self.optimizers):
            own = optimizer.state_dict()["state"]
            for key, values in states[place % len(states)].items():
                for name, value in values.items():
                    own[key][name].copy_(value)


def _side_by_side(like: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    """Zeros like these tensors, in one piece of memory that other processes can see (on a GPU any is)."""
    sizes = [tensor.numel() for tensor in like]
    flat = torch.zeros(sum(sizes), dtype=like[0].dtype, device=like[0].device).share_memory_()  # type: ignore[no-untyped-call]
    return [part.view_as(tensor) for part, tensor in zip(flat.split(sizes), like, strict=True)]


def _allocate(optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter]) -> None:
    """Make the optimizer's state before its first step: zeros, as that would."""
    if not isinstance(optimizer, torch.optim.Adam):  # AdamW is one; SGD without momentum has no state
        return
    steps = torch.zeros(len(parameters), device=parameters[0].device).share_memory_()  # type: ignore[no-untyped-call]
    first, second = _side_by_side(parameters), _side_by_side(parameters)
    for place, parameter in enumerate(parameters):
        optimizer.state[parameter] = {"step": steps[place], "exp_avg": first[place], "exp_avg_sq": second[place]}
