"""Thousands of small kernels as one: recorded once for each shape of their inputs, then started together.

On a GPU the loop over tokens starts some thirty kernels for each of them, forward and backward, each over in less time
than the host takes to start it. CUDA graphs (https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs) take the host
out: a recording reads from fixed places and writes to fixed places.

All recordings work in the same memory, so that it is that of the largest and not of all: what a forward pass leaves for
its backward pass is overwritten by the next recording that runs. So one pass at a time is under way (`claim`), and only
inputs, results and gradients are each recording's own.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from speechmill.device import is_out_of_memory
from speechmill.errors import SpeechmillError

Tensors = tuple[Any, ...]  # of each a tensor, or None
Body = Callable[[], Tensors]
Record = Callable[[Body], tuple[Callable[[], None], Tensors]]  # a body -> what does it again, and where it writes to

_MOST = 0.15  # of the device's memory, for the recordings of all shapes
_BASE = 1.15  # from one recorded size to the next, where steps are smaller: 120 shapes of train.yaml, 8 % more tokens

_all: weakref.WeakSet[Recordings] = weakref.WeakSet()
_allowed = True


@contextmanager
def recording(allowed: bool) -> Iterator[None]:
    """Whether forward passes in here may be recorded, and those that are be used."""
    global _allowed
    before, _allowed = _allowed, allowed
    try:
        yield
    finally:
        _allowed = before


def forget() -> bool:
    """Give the memory of all recordings back; whether there were any."""
    found = [one for one in _all if one.forget()]
    return bool(found)


class Recording:
    """A forward and a backward pass over inputs of one shape.

    Args:
        forward: of the inputs; what it returns first is the result, the rest is for `backward`.
        results: how many of them are the result.
        backward: of the inputs, of all that `forward` returned and of the gradients of the result.
        inputs: of the shape; their values do not matter, but must be such that both passes can run.
    """

    def __init__(
        self, forward: Callable[..., Tensors], results: int, backward: Callable[..., Tensors], inputs: Tensors,
        record: Record,
    ) -> None:  # fmt: skip
        self.inputs = tuple(None if one is None else one.detach().clone() for one in inputs)
        # What is only `backward`'s is held until that is recorded: then its memory is for the next recording.
        self._forward, found = record(lambda: forward(*self.inputs))
        self.result = found[:results]
        self.of_result = tuple(None if one is None else torch.zeros_like(one) for one in self.result)
        self._backward, self.of_inputs = record(lambda: backward(self.inputs, found, self.of_result))

    @property
    def size(self) -> int:
        """Bytes of its own places."""
        places = {
            one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
            for one in (*self.inputs, *self.result, *self.of_result, *self.of_inputs)
            if one is not None
        }
        return sum(places.values())

    def run(self, inputs: Tensors) -> Tensors:
        """The result, in its fixed place."""
        _copy(self.inputs, inputs)
        self._forward()
        return self.result

    def run_back(self, of_result: Tensors) -> Tensors:
        """Gradients of the inputs of the last `run`, in their fixed places."""
        _copy(self.of_result, of_result)
        self._backward()
        return self.of_inputs


class Recordings:
    """Recordings by shape. One pass at a time is under way: `claim` asks for it.

    Args:
        recorder: makes what records, in memory of its own.
    """

    def __init__(
        self, forward: Callable[..., Tensors], results: int, backward: Callable[..., Tensors],
        recorder: Callable[[], Record],
    ) -> None:  # fmt: skip
        self._make = partial(Recording, forward, results, backward)
        self._recorder = recorder
        self._record: Record | None = None
        self._kept: dict[Any, Recording | None] = {}  # None: there is no memory for it
        self._taken = 0  # bytes
        self._owner: weakref.ref[Any] | None = None
        _all.add(self)

    def claim(self, owner: Any) -> bool:
        """Whether the recordings are `owner`'s until it is gone, or `release` is called; else another has them."""
        if self._owner is not None and self._owner() is not None:
            return False
        self._owner = weakref.ref(owner)
        return True

    def release(self) -> None:
        self._owner = None

    def forget(self) -> bool:
        """Give the memory back; whether there were any recordings."""
        found = any(self._kept.values())
        self._kept.clear()
        self._record, self._taken = None, 0  # the next ones have memory of their own: that of the old ones goes whole
        return found

    def of(self, inputs: Tensors) -> Recording | None:
        """The recording for inputs of such shapes; None where none is allowed, or there is no memory for it.

        Raises SpeechmillError where the device refuses.
        """
        if not _allowed:
            return None
        key = tuple(None if one is None else (one.shape, one.dtype, one.device) for one in inputs)
        if key not in self._kept:
            is_first = not any(self._kept.values())
            made = self._recorded(inputs)
            self._kept[key] = made
            if made is None or self._taken > budget(_device(inputs)):
                self.forget()
                if made is None or is_first:
                    self._kept[key] = None
        return self._kept.get(key)

    def _recorded(self, inputs: Tensors) -> Recording | None:
        device = _device(inputs)
        before = _reserved(device)
        try:
            self._record = self._record or self._recorder()
            made = self._make(inputs, self._record)
        except RuntimeError as error:
            if is_out_of_memory(error):
                return None
            # Torch may be left in the midst of it, and nothing that follows is to be trusted.
            reason = str(error).partition("\n")[0]
            raise SpeechmillError(
                f"the decoder's loop cannot be recorded as a CUDA graph ({reason}); use train.record=false."
            ) from error
        self._taken += _reserved(device) - before if device.type == "cuda" else made.size
        return made


def on_gpu() -> Record:
    """Records on the current GPU, all in one pool of memory."""
    pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    return partial(_record_on_gpu, pool, stream)


def _record_on_gpu(pool: Any, stream: Any, body: Body) -> tuple[Callable[[], None], Tensors]:
    """Record what a body does. It must not wait for the device, and its shapes must be fixed."""
    current = torch.cuda.current_stream()
    stream.wait_stream(current)
    graph = torch.cuda.CUDAGraph()
    # The outer of the two contexts is left also where the inner one cannot be.
    with torch.cuda.stream(stream):
        for _ in range(2):  # libraries allocate what they need before the recording begins
            body()
        current.wait_stream(stream)
        # The loader's threads use the device, too.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            places = body()
    return graph.replay, places


def rounded(size: int, step: int, base: float = _BASE) -> int:
    """Up to the next of a few sizes: multiples of `step`, at least `step` and a factor of about `base` apart."""
    found = step
    while found < size:
        found = max(found + step, math.ceil(found * base / step) * step)
    return found


def budget(device: torch.device) -> float:
    """Bytes for all recordings."""
    if device.type != "cuda":
        return math.inf
    return _MOST * float(torch.cuda.get_device_properties(device).total_memory)


def _device(inputs: Tensors) -> torch.device:
    found: torch.device = next(one.device for one in inputs if one is not None)
    return found


def _reserved(device: torch.device) -> int:
    """Bytes of a GPU that are taken, not counting what torch only keeps to give it out again."""
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved(device)


def _copy(places: Tensors, values: Tensors) -> None:
    for place, value in zip(places, values, strict=True):
        if place is not None and value is not None:
            place.copy_(value)
        elif place is not None:
            place.zero_()  # the gradient of what nobody used
