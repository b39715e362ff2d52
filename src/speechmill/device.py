"""What is particular to GPUs: how precise their products are, how they say that their memory is full."""

from __future__ import annotations

import torch
from torch import Tensor

from speechmill.errors import SpeechmillError

# Of torch's libraries: CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED; of the driver.
_FULL = ("_ALLOC_FAILED", "_ALLOCATION_FAILED", "CUDA error: out of memory")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that a GPU's memory is full: torch's own kind, or what libraries and driver say then."""
    return isinstance(error, torch.OutOfMemoryError) or any(name in str(error) for name in _FULL)


def set_precision(precision: str, device: torch.device) -> None:
    """Have this process's GPU multiply float32 as it is, or in tf32 where that is asked for.

    By itself torch rounds to tf32 in convolutions and recurrent layers, and not in products.
    Raises SpeechmillError where tf32 is asked for without a GPU.
    """
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    elif precision == "tf32":
        raise SpeechmillError("train.precision tf32 is of GPUs, and this is a CPU; use train.precision=auto.")


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, without waiting for it to come there.

    What is asked of lengths and targets is so asked on the CPU: to read a number from a GPU waits for all before it.
    """
    return tensor if tensor.device == device else tensor.to(device, non_blocking=True)


def settle(device: torch.device) -> None:
    """Wait until a GPU has done what it was told; NCCL, too: its calls return before other processes have come."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release(device: torch.device) -> None:
    """Give back what a batch that did not fit has left."""
    settle(device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
