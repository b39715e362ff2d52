"""Convolution by Winograd's minimal filtering along time: F(4, 3), six products where a direct one takes twelve.

Lavin and Gray 2016, equations 3 to 6, in one dimension; the other, frequency, stays a direct convolution of three. Of
both dimensions the arithmetic would fall by 2.25 instead of 2, and the transforms move four times the data instead of
one and a half. The rounding of F(4, 3) is some ten times that of the direct sum: fit for float32, not for bfloat16.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TILE = 4  # outputs of a tile; it reads two rows more
_PLANES = 6
_G = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)


class Gradients(NamedTuple):
    """Of a convolution's input (None where nobody asked), its transformed kernels and its bias."""

    x: Tensor | None
    kernels: Tensor
    bias: Tensor


def transform_kernels(weight: Tensor) -> Tensor:
    """[out, in, 3, bins] -> [6, out, in, 1, bins], each dense in the layout that the convolution reads."""
    kernels = torch.einsum("rk,oikb->roib", weight.new_tensor(_G), weight)
    return kernels.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)[:, :, :, None, :]


def kernel_gradient(kernels: Tensor) -> Tensor:
    """The adjoint of `transform_kernels`."""
    return torch.einsum("rk,roib->oikb", kernels.new_tensor(_G), kernels[:, :, :, 0, :])


def forward(x: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:
    """[batch, 4 n + 2, bins + 2, in] -> [batch, 4 n, bins, out], both dense."""
    planes = _input_planes(x)
    m = [
        # Plane 1 goes into all four outputs with weight 1: the bias rides on it.
        torch.conv2d(_as_image(planes[r]), kernels[r], bias if r == 1 else None).permute(0, 2, 3, 1)
        for r in range(_PLANES)
    ]
    tiles = (x.shape[0], (x.shape[1] - 2) // TILE, *m[0].shape[2:])
    m0, m1, m2, m3, m4, m5 = (plane.reshape(tiles) for plane in m)
    y = x.new_empty(tiles[0], tiles[1], TILE, *tiles[2:])
    even, odd = torch.add(m1, m2), m1.sub_(m2)
    wide_even, wide_odd = torch.add(m3, m4), m3.sub_(m4)
    torch.add(m0.add_(even), wide_even, out=y[:, :, 0])
    torch.add(odd, wide_odd, alpha=2, out=y[:, :, 1])
    torch.add(even, wide_even, alpha=4, out=y[:, :, 2])
    torch.add(m5.add_(odd), wide_odd, alpha=8, out=y[:, :, 3])
    return y.flatten(1, 2)


def backward(grad: Tensor, x: Tensor, kernels: Tensor, needs_x: bool) -> Gradients:
    """Gradients from `grad` [batch, 4 n, bins, out] and the `x` that `forward` had; the planes of x are made again."""
    planes = _input_planes(x)
    grads = _output_planes(grad)
    of_planes, of_kernels, of_bias = [], [], None
    for r in range(_PLANES):
        of_plane, of_kernel, bias = torch.ops.aten.convolution_backward(
            _as_image(grads[r]), _as_image(planes[r]), kernels[r], [kernels.shape[1]], [1, 1], [0, 0], [1, 1], False,
            [0, 0], 1, [needs_x, True, r == 1],
        )  # fmt: skip
        of_kernels.append(of_kernel)
        of_bias = bias if r == 1 else of_bias
        if needs_x:
            of_planes.append(of_plane.permute(0, 2, 3, 1).reshape(planes[r].shape))
    assert of_bias is not None
    return Gradients(_input_gradient(of_planes, x) if needs_x else None, torch.stack(of_kernels), of_bias)


def _as_image(plane: Tensor) -> Tensor:
    """[batch, tiles, bins, channels] -> [1, channels, batch * tiles, bins] without moving anything."""
    return plane.reshape(1, -1, *plane.shape[2:]).permute(0, 3, 1, 2)


def _input_planes(x: Tensor) -> Tensor:
    """B^T x: [batch, 4 n + 2, bins, channels] -> [6, batch, n, bins, channels]."""
    tiles = (x.shape[1] - 2) // TILE
    x0, x1, x2, x3, x4, x5 = (x[:, k : k + TILE * (tiles - 1) + 1 : TILE] for k in range(_PLANES))
    v = x.new_empty(_PLANES, *x0.shape)
    torch.sub(x4, x2, alpha=4, out=v[1])
    scratch = torch.sub(x3, x1, alpha=4)
    torch.sub(v[1], scratch, out=v[2])
    v[1].add_(scratch)
    torch.sub(x4, x2, out=v[3])
    torch.sub(x3, x1, out=scratch)
    torch.sub(v[3], scratch, alpha=2, out=v[4])
    v[3].add_(scratch, alpha=2)
    torch.sub(x4, x2, alpha=5, out=v[0])
    v[0].add_(x0, alpha=4)
    torch.sub(x5, x3, alpha=5, out=v[5])
    v[5].add_(x1, alpha=4)
    return v


def _output_planes(grad: Tensor) -> Tensor:
    """A grad: [batch, 4 n, bins, channels] -> [6, batch, n, bins, channels]."""
    y0, y1, y2, y3 = grad.reshape(len(grad), -1, TILE, *grad.shape[2:]).unbind(2)
    m = grad.new_empty(_PLANES, *y0.shape)
    m[0].copy_(y0)
    m[5].copy_(y3)
    torch.add(y0, y2, out=m[1])
    scratch = torch.add(y1, y3)
    torch.sub(m[1], scratch, out=m[2])
    m[1].add_(scratch)
    torch.add(y0, y2, alpha=4, out=m[3])
    torch.add(y1, y3, alpha=4, out=scratch)
    torch.sub(m[3], scratch, alpha=2, out=m[4])
    m[3].add_(scratch, alpha=2)
    return m


def _input_gradient(planes: list[Tensor], x: Tensor) -> Tensor:
    """B planes, overlapping tiles added up: the adjoint of `_input_planes`."""
    v0, v1, v2, v3, v4, v5 = planes
    tiles = v0.shape[1]
    grad = torch.zeros_like(x)
    g0, g1, g2, g3, g4, g5 = (grad[:, k : k + TILE * (tiles - 1) + 1 : TILE] for k in range(_PLANES))
    a, b = torch.add(v1, v2), v1.sub_(v2)
    c, d = torch.add(v3, v4), v3.sub_(v4)
    torch.add(a, c, alpha=1 / 4, out=g2).mul_(-4).sub_(v0, alpha=5)
    torch.add(b, d, alpha=2, out=g3).sub_(v5, alpha=5)
    g0.add_(v0, alpha=4)
    g4.add_(v0.add_(a)).add_(c)
    g1.add_(v5.mul(4).sub_(b, alpha=4)).sub_(d, alpha=2)
    g5.add_(v5)
    return grad
