"""Thousands of small kernels as one: recorded once for each shape of their inputs, then started together.

On a GPU the loop over tokens starts some thirty kernels for each of them, forward and backward, each over in less time
than the host takes to start it. CUDA graphs (https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs) take the host
out: a recording reads from fixed places and writes to fixed places.
"""

from __future__ import annotations

import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

Tensors = tuple[Any, ...]  # of each a tensor, or None
Body = Callable[[], Tensors]
Record = Callable[[Body], tuple[Callable[[], None], Tensors]]  # a body -> what does it again, and where it writes to

_MOST = 0.15  # of the device's memory, for the fixed places of all shapes


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
        self._forward, self.found = record(lambda: forward(*self.inputs))
        self.result = self.found[:results]
        self.of_result = tuple(None if one is None else torch.zeros_like(one) for one in self.result)
        self._backward, self.of_inputs = record(lambda: backward(self.inputs, self.found, self.of_result))

    @property
    def size(self) -> int:
        """Bytes of its fixed places."""
        places = {
            one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
            for one in (*self.inputs, *self.found, *self.of_result, *self.of_inputs)
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
    """Recordings by shape, the ones used last. One pass at a time is under way: `claim` asks for it."""

    def __init__(
        self, forward: Callable[..., Tensors], results: int, backward: Callable[..., Tensors], record: Record
    ) -> None:
        self._make = lambda inputs: Recording(forward, results, backward, inputs, record)
        self._kept: OrderedDict[Any, Recording] = OrderedDict()
        self._owner: weakref.ref[Any] | None = None
        self._fails = False  # nothing is recorded any more

    def claim(self, owner: Any) -> bool:
        """Whether the recordings are `owner`'s until it is gone, or `release` is called; else another has them."""
        if self._owner is not None and self._owner() is not None:
            return False
        self._owner = weakref.ref(owner)
        return True

    def release(self) -> None:
        self._owner = None

    def of(self, inputs: Tensors) -> Recording | None:
        """The recording for inputs of such shapes; None where there is no memory for it, or none can be made."""
        if self._fails:
            return None
        key = tuple(None if one is None else (one.shape, one.dtype, one.device) for one in inputs)
        if key not in self._kept:
            try:
                self._kept[key] = self._make(inputs)  # type: ignore[no-untyped-call]
            except torch.OutOfMemoryError:
                self._kept.clear()
                return None
            except RuntimeError as error:
                self._fails = True
                reason = str(error).partition("\n")[0]
                print(
                    f"speechmill: kernels are started one by one, they cannot be recorded ({reason})", file=sys.stderr
                )
                return None
            while len(self._kept) > 1 and sum(one.size for one in self._kept.values()) > _budget(inputs):
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def record_on_gpu(body: Body) -> tuple[Callable[[], None], Tensors]:
    """Record what a body does on the current GPU. It must not wait for the device, and its shapes must be fixed."""
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # libraries allocate what they need before the recording begins
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(2):
            body()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # the loader's threads use the device, too
        places = body()
    return graph.replay, places


def rounded(size: int, step: int) -> int:
    """Up to the next multiple, so that there are few shapes."""
    return -(-size // step) * step


def _budget(inputs: Tensors) -> float:
    device = next(one.device for one in inputs if one is not None)
    if device.type != "cuda":
        return float("inf")
    return _MOST * float(torch.cuda.get_device_properties(device).total_memory)


def _copy(places: Tensors, values: Tensors) -> None:
    for place, value in zip(places, values, strict=True):
        if place is not None and value is not None:
            place.copy_(value)
        elif place is not None:
            place.zero_()  # the gradient of what nobody used
