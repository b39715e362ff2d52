"""Three ways to the same convolution of a padded piece, channels last; which is fastest depends on its sizes."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from speechmill.models import winograd

_COLUMNS = 32  # with at most so many inputs to a sum it is one matrix product over copied windows
_WINOGRAD_CHANNELS = 48  # with fewer, the transforms cost more than the products that they save


class Product(Protocol):
    def forward(self, x: Tensor) -> Tensor:
        """[batch, rows + k - 1, bins + k - 1, in] -> [batch, rows, bins, out], both dense, k the kernel's size."""

    def backward(self, grad: Tensor, x: Tensor, needs_x: bool) -> Tensor | None:
        """Add to the gradients of kernel and bias; returns that of x, where it is needed."""

    def gradients(self) -> tuple[Tensor, Tensor]:
        """Of the weight [out, in, bins, frames] and the bias, added up over the pieces."""


def product_of(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Product:
    """For a weight [out, in, bins, frames], an odd number of each, computed in `dtype`."""
    weight = weight.transpose(2, 3).to(dtype)
    bias = bias.to(dtype)
    channels, kernel = min(weight.shape[:2]), tuple(weight.shape[2:])
    if weight[0].numel() <= _COLUMNS:
        return Columns(weight, bias)
    if kernel == (3, 3) and channels >= _WINOGRAD_CHANNELS and dtype != torch.bfloat16:
        return Winograd(weight, bias)
    return Direct(weight, bias)


class Direct:
    """The library's convolution: the readable reference of the others."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.bias = bias
        self.sums: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        return torch.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias).permute(0, 2, 3, 1).contiguous()

    def backward(self, grad: Tensor, x: Tensor, needs_x: bool) -> Tensor | None:
        of_x, of_weight, of_bias = _backward(grad, x, self.weight, [needs_x, True, True])
        self.sums = _added(self.sums, [of_weight, of_bias])
        return of_x.permute(0, 2, 3, 1) if needs_x else None

    def gradients(self) -> tuple[Tensor, Tensor]:
        return self.sums[0].transpose(2, 3), self.sums[1]


class Columns:
    """Windows copied into rows, then one matrix product: for the first convolution, which reads one channel."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias
        self.sums: list[Tensor] = []

    def _columns(self, x: Tensor) -> Tensor:
        windows = x.unfold(1, self.weight.shape[2], 1).unfold(2, self.weight.shape[3], 1)
        return windows.reshape(-1, self.weight[0].numel())

    def forward(self, x: Tensor) -> Tensor:
        rows, bins = (x.shape[d] - self.weight.shape[d + 1] + 1 for d in (1, 2))
        y = torch.addmm(self.bias, self._columns(x), self.weight.flatten(1).t())
        return y.reshape(x.shape[0], rows, bins, -1)

    def backward(self, grad: Tensor, x: Tensor, needs_x: bool) -> Tensor | None:
        flat = grad.reshape(-1, grad.shape[-1])
        of_weight = (flat.t() @ self._columns(x)).reshape(self.weight.shape)
        self.sums = _added(self.sums, [of_weight, flat.sum(0)])
        return _backward(grad, x, self.weight, [True, False, False])[0].permute(0, 2, 3, 1) if needs_x else None

    def gradients(self) -> tuple[Tensor, Tensor]:
        return self.sums[0].transpose(2, 3), self.sums[1]


class Winograd:
    """Half of the products, for kernels of three frames and many channels."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.kernels, self.bias = winograd.transform_kernels(weight), bias
        self.sums: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        return winograd.forward(x, self.kernels, self.bias)

    def backward(self, grad: Tensor, x: Tensor, needs_x: bool) -> Tensor | None:
        found = winograd.backward(grad, x, self.kernels, needs_x)
        self.sums = _added(self.sums, [found.kernels, found.bias])
        return found.x

    def gradients(self) -> tuple[Tensor, Tensor]:
        return winograd.kernel_gradient(self.sums[0]).transpose(2, 3), self.sums[1]


def _backward(grad: Tensor, x: Tensor, weight: Tensor, mask: list[bool]) -> list[Tensor]:
    found: list[Tensor] = torch.ops.aten.convolution_backward(
        grad.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2), weight, [weight.shape[0]], [1, 1], [0, 0], [1, 1], False,
        [0, 0], 1, mask,
    )  # fmt: skip
    return found


def _added(sums: list[Tensor], parts: list[Tensor]) -> list[Tensor]:
    """Sums over pieces, in float32 at least."""
    wide = [part if part.dtype != torch.bfloat16 else part.float() for part in parts]
    return [total.add_(part) for total, part in zip(sums, wide, strict=True)] if sums else wide
