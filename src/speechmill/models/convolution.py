"""A convolution of the CRDNN with what follows it, as one step for CPUs: normalisation, pooling, LeakyReLU, dropout.

The numbers are those of SpeechBrain's modules one after the other (tests/models/test_encoder.py). What differs is how
data lie and move: time, frequency, channels throughout, so that nothing is transposed; margins filled in place, so that
nothing is copied to be padded; a piece of the batch at a time through all operations, so that it stays in the cache;
pooling before the activation, which commutes with it. Kept for the backward pass are the convolution's output and the
step's; the normalised values in between are computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from speechmill.models.products import product_of
from speechmill.models.winograd import TILE

SLOPE = 0.01  # of LeakyReLU below zero
_PIECE = 2**21  # numbers that a piece has, about; with its transforms some 40 MB


class Padded(NamedTuple):
    """Images with the margins that the next convolution reads.

    data: [batch, rows + 2 margin, bins + 2 margin, channels], dense; rows are a multiple of winograd.TILE. The margins
        mirror the image, in time each at its own end; behind that margin is zero. Gradients of `data` are told of what
        lies inside: the margins' are added to the places that they mirror.
    ends: [batch], rows of each that count.
    """

    data: Tensor
    ends: Tensor
    margin: int

    def inside(self) -> Tensor:
        """Without the margins, a view."""
        return _inside(self.data, self.margin)


def pad(images: Tensor, ends: Tensor, margin: int) -> Padded:
    """[batch, frames, bins, channels] with margins; each has to have more frames and bins than the margin."""
    size, frames, bins, channels = images.shape
    rows = -(-frames // TILE) * TILE
    data = images.new_zeros(size, rows + 2 * margin, bins + 2 * margin, channels)
    _inside(data, margin)[:, :frames] = images
    _reflect(data, ends, margin)
    return Padded(data, ends, margin)


class Block(NamedTuple):
    """What `convolve` does to an image."""

    weight: Tensor  # [out, in, bins, frames], as SpeechBrain has it
    bias: Tensor
    norm_weight: Tensor  # [bins, out]
    norm_bias: Tensor
    eps: float
    pool: int  # bins of which the largest is taken; what is left over is dropped
    keep: Tensor | None  # factors of the bins, [batch, bins / pool], for dropout; None: no dropout
    margin: int  # that the result is given, for the convolution that reads it


def convolve(x: Padded, block: Block) -> Padded:
    """Convolution, layer normalisation over bins and channels, max-pooling of bins, LeakyReLU, dropout of bins."""
    data = _Convolve.apply(x.data, x.ends, x.margin, *block)  # type: ignore[no-untyped-call]
    return Padded(data, x.ends, block.margin)


class _Piece(NamedTuple):
    images: slice
    start: int  # row
    stop: int

    def of(self, tensor: Tensor, more: int = 0) -> Tensor:
        return tensor[self.images, self.start : self.stop + more]


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, data: Tensor, ends: Tensor, margin: int, weight: Tensor, bias: Tensor, norm_weight: Tensor,
        norm_bias: Tensor, eps: float, pool: int, keep: Tensor | None, out_margin: int,
    ) -> Tensor:  # fmt: skip
        with torch.autocast(data.device.type, enabled=False):
            product = product_of(weight, bias, data.dtype)
            size, rows, bins, _ = _inside(data, margin).shape
            out = data.new_empty(size, rows + 2 * out_margin, bins // pool + 2 * out_margin, weight.shape[0])
            inside, kept = _inside(out, out_margin), []
            for piece in _pieces(size, rows, bins * weight.shape[0]):
                y = product.forward(piece.of(data, 2 * margin))
                normed, mean, scale = torch.native_layer_norm(y, y.shape[2:], norm_weight, norm_bias, eps)
                _activate(normed, pool, _rows(keep, piece), piece.of(inside))
                kept += [y, mean, scale]
            if out_margin:
                _reflect(out, ends, out_margin)
        ctx.save_for_backward(data, ends, weight, bias, norm_weight, norm_bias, keep, out, *kept)
        ctx.settings = margin, eps, pool, out_margin
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        data, ends, weight, bias, norm_weight, norm_bias, keep, out, *kept = ctx.saved_tensors
        margin, eps, pool, out_margin = ctx.settings
        product, shape = product_of(weight, bias, data.dtype), norm_weight.shape
        of_data = torch.empty_like(data) if ctx.needs_input_grad[0] else None
        of_norm = [torch.zeros_like(norm_weight), torch.zeros_like(norm_bias)]
        grad, out = _inside(grad, out_margin), _inside(out, out_margin)
        size, rows = grad.shape[:2]
        for number, piece in enumerate(_pieces(size, rows, shape.numel())):
            y, mean, scale = kept[3 * number : 3 * number + 3]
            of_out, kept_bins = piece.of(grad), _rows(keep, piece)
            if kept_bins is not None:
                of_out = of_out * kept_bins
            if pool == 1:
                of_normed = torch.ops.aten.leaky_relu_backward(of_out, piece.of(out), SLOPE, True)
            else:
                normed = torch.native_layer_norm(y, shape, norm_weight, norm_bias, eps)[0]
                of_normed = _unpool(of_out, normed, pool)
            of_y, *of_affine = torch.ops.aten.native_layer_norm_backward(
                of_normed.contiguous(), y, shape, mean, scale, norm_weight, norm_bias, [True, True, True]
            )
            for total, part in zip(of_norm, of_affine, strict=True):
                total += part
            of_x = product.backward(of_y, piece.of(data, 2 * margin), of_data is not None)
            if of_data is not None and of_x is not None:
                overlap = 2 * margin if piece.start else 0  # rows that the piece before has added to
                into = piece.of(of_data, 2 * margin)
                into[:, :overlap] += of_x[:, :overlap]
                into[:, overlap:] = of_x[:, overlap:]
        if of_data is not None:
            _fold(of_data, ends, margin)
        of_weight, of_bias = product.gradients()
        return of_data, None, None, of_weight.to(weight.dtype), of_bias.to(bias.dtype), *of_norm, None, None, None, None


def largest(x: Tensor) -> Tensor:
    """The largest over the last dimension but one, a small one: [..., places, channels] -> [..., channels].

    The gradient goes to the first place, where several are largest.
    """
    found: Tensor = _Largest.apply(x)  # type: ignore[no-untyped-call]
    return found


class _Largest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        found = _maximum(list(x.unbind(-2)))
        ctx.save_for_backward(x, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, found = ctx.saved_tensors
        of_x = torch.empty_like(x)
        _deal(grad, found, list(x.unbind(-2)), list(of_x.unbind(-2)))
        return of_x


def _maximum(parts: list[Tensor]) -> Tensor:
    """Place by place; a new tensor."""
    found = torch.maximum(parts[0], parts[-1])
    for part in parts[1:-1]:
        torch.maximum(found, part, out=found)
    return found


def _deal(grad: Tensor, found: Tensor, parts: list[Tensor], places: list[Tensor]) -> None:
    """Write the gradient of `_maximum` to `places`: the first part that is the largest gets it."""
    # A part less the largest is zero or below; a threshold between takes a third of the time of a mask of booleans.
    nearly = -torch.finfo(found.dtype).tiny
    left = grad if len(parts) > 1 else places[-1].copy_(grad)
    for part, place in zip(parts[:-1], places[:-1], strict=True):
        torch.ops.aten.threshold_backward.grad_input(left, part - found, nearly, grad_input=place)
        left = torch.sub(left, place, out=places[-1])  # what is left for the parts behind


def _activate(normed: Tensor, pool: int, keep: Tensor | None, target: Tensor) -> None:
    """Pool, LeakyReLU, dropout; `normed` is used up."""
    if pool > 1:
        normed = _maximum(_parts(normed, pool))
    if keep is None:
        torch._C._nn.leaky_relu(normed, SLOPE, out=target)
    else:
        torch.mul(functional.leaky_relu_(normed, SLOPE), keep, out=target)


def _unpool(grad: Tensor, normed: Tensor, pool: int) -> Tensor:
    """The gradient of `normed` from that of LeakyReLU of its largest; the first one, where several are largest."""
    parts = _parts(normed, pool)
    pooled = _maximum(parts)
    of_pooled = torch.ops.aten.leaky_relu_backward(grad, pooled, SLOPE, False)
    found = torch.zeros_like(normed) if normed.shape[2] % pool else torch.empty_like(normed)
    _deal(of_pooled, pooled, parts, _parts(found, pool))
    return found


def _parts(images: Tensor, pool: int) -> list[Tensor]:
    """[batch, rows, bins, channels] -> for each place in a pool, [batch, rows, bins / pool, channels]."""
    whole = images.shape[2] // pool * pool
    return [images[:, :, place:whole:pool] for place in range(pool)]


def _rows(keep: Tensor | None, piece: _Piece) -> Tensor | None:
    return None if keep is None else keep[piece.images, None, :, None]


def _pieces(size: int, rows: int, numbers: int) -> Iterator[_Piece]:
    """Parts of a batch, of some rows of one image or of all rows of some; `numbers`: in a row."""
    images = max(1, _PIECE // (rows * numbers))
    step = max(1, _PIECE // (numbers * TILE)) * TILE if images == 1 else rows
    for first in range(0, size, images):
        for start in range(0, rows, step):
            yield _Piece(slice(first, first + images), start, min(rows, start + step))


def _inside(data: Tensor, margin: int) -> Tensor:
    return data[:, margin : data.shape[1] - margin, margin : data.shape[2] - margin]


def _reflect(data: Tensor, ends: Tensor, margin: int) -> None:
    """Fill the margins of the images in `data`, and clear what is behind them."""
    first, last = margin, data.shape[2] - margin - 1
    batch = torch.arange(len(ends), device=ends.device)
    for k in range(1, margin + 1):
        data[:, :, first - k] = data[:, :, first + k]
        data[:, :, last + k] = data[:, :, last - k]
    for k in range(1, margin + 1):
        data[:, margin - k] = data[:, margin + k]
        data[batch, ends + (margin - 1 + k)] = data[batch, ends + (margin - 1 - k)]
    for image, end in enumerate(ends.tolist()):
        data[image, end + 2 * margin :] = 0


def _fold(grad: Tensor, ends: Tensor, margin: int) -> None:
    """The adjoint of `_reflect`: add the margins' gradients to the places that they mirror, and clear them."""
    first, last = margin, grad.shape[2] - margin - 1
    batch = torch.arange(len(ends), device=ends.device)
    for image, end in enumerate(ends.tolist()):
        grad[image, end + 2 * margin :] = 0
    for k in range(margin, 0, -1):
        grad[batch, ends + (margin - 1 - k)] += grad[batch, ends + (margin - 1 + k)]  # one row of each image
        grad[batch, ends + (margin - 1 + k)] = 0
        grad[:, margin + k] += grad[:, margin - k]
        grad[:, margin - k] = 0
    for k in range(margin, 0, -1):
        grad[:, :, last - k] += grad[:, :, last + k]
        grad[:, :, first + k] += grad[:, :, first - k]
        grad[:, :, last + k] = 0
        grad[:, :, first - k] = 0
