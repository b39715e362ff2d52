"""The CRDNN encoder: SpeechBrain's parameters and numbers, computed faster, and with padding masked where asked."""

from __future__ import annotations

from typing import Any

import torch
from speechbrain.lobes.models.CRDNN import CRDNN
from speechbrain.nnet.RNN import LSTM
from torch import Tensor, nn
from torch.nn import functional

from speechmill.device import sent
from speechmill.models.convolution import SLOPE, Block, convolve, largest, pad
from speechmill.models.recurrent import bidirectional
from speechmill.settings import CrdnnSettings, FeatureSettings

_POOL = 2  # bins, in each convolutional block


class CrdnnEncoder(nn.Module):
    """SpeechBrain's `CRDNN`: its modules hold the parameters, under its names; only the computation is ours.

    SpeechBrain's encoder is not told the lengths: its convolutions, its bidirectional LSTM and its batch normalisation
    see the padding behind an utterance. Told them, this one gives each utterance what SpeechBrain's gives it alone.
    """

    def __init__(self, features: FeatureSettings, settings: CrdnnSettings) -> None:
        super().__init__()
        for name, module in reference_encoder(features, settings).named_children():
            self.add_module(name, module)
        self.settings = settings
        self.plain = False  # compute the convolutions with the library's operations one by one, as on other devices

    def steps(self, frames: Tensor) -> Tensor:
        """Steps of each utterance with its padding masked: the last frames, too few for a step, are dropped."""
        return (frames // self.settings.time_pooling).clamp(min=1)

    def forward(self, features: Tensor, frames: Tensor | None = None) -> Tensor:
        """[batch, frames, n_mels] -> [batch, steps, dnn_size]; steps are frames / time_pooling, rounded down.

        Args:
            features: not fewer frames than one step takes.
            frames: [batch], of each utterance; its padding is masked and its steps behind `steps(frames)` are zero.
                None: padding is heard.
        """
        pooling = self.settings.time_pooling
        total = features.shape[1] // pooling
        here = None if frames is None else sent(frames, features.device)
        x = self._convolved(features, here)[:, : total * pooling]
        x = x.reshape(x.shape[0], total, pooling, -1)
        x = x.max(2).values if self.plain or x.device.type != "cpu" else largest(x)
        rnn: Any = self.RNN
        if frames is None:
            return self._dense(rnn(x)[0])
        steps = self.steps(frames)
        x = bidirectional(rnn.rnn, x, sent(steps, x.device))
        inside = torch.arange(total, device=steps.device) < steps[:, None]
        if not self.training:
            return self._dense(x) * sent(inside, x.device)[..., None]
        places = sent(inside.flatten().nonzero()[:, 0], x.device)
        dense = self._dense(x.flatten(0, 1).index_select(0, places))  # batch normalisation takes what counts only
        return dense.new_zeros(inside.numel(), dense.shape[-1]).index_copy(0, places, dense).view(*inside.shape, -1)

    def _convolved(self, features: Tensor, frames: Tensor | None) -> Tensor:
        """[batch, frames or more, bins, channels]"""
        settings = self.settings
        margin = settings.cnn_kernel // 2
        ends = None if frames is None else frames.clamp(min=max(settings.time_pooling, margin + 1))
        images = features[..., None]
        if torch.is_autocast_enabled(features.device.type):
            images = images.to(torch.get_autocast_dtype(features.device.type))
        if self.plain or features.device.type != "cpu":
            for block in self._blocks(images):
                images = convolve_plainly(images, ends, block)
            return images
        if ends is None:
            ends = torch.full((len(features),), features.shape[1], device=features.device)
        x = pad(images, ends, margin)
        for block in self._blocks(images):
            x = convolve(x, block)
        return x.data

    def _blocks(self, images: Tensor) -> list[Block]:
        margin = self.settings.cnn_kernel // 2
        found, bins = [], images.shape[2]
        for number in range(len(self.settings.cnn_channels)):
            block: Any = self.get_submodule(f"CNN.block_{number}")
            last = number == len(self.settings.cnn_channels) - 1
            for place in (1, 2):
                conv, norm = block[f"conv_{place}"].conv, block[f"norm_{place}"].norm
                keep, pool = None, 1
                if place == 2:
                    pool, bins = _POOL, bins // _POOL
                    keep = self._keep(images, bins)
                found.append(
                    Block(
                        conv.weight, conv.bias, norm.weight, norm.bias, norm.eps, pool, keep,
                        margin=0 if last and place == 2 else margin,
                    )
                )  # fmt: skip
        return found

    def _keep(self, images: Tensor, bins: int) -> Tensor | None:
        """SpeechBrain's two-dimensional dropout leaves whole bins of an utterance out."""
        rate = self.settings.dropout
        if not (self.training and rate):
            return None
        return functional.dropout(images.new_ones(len(images), bins), rate)

    def _dense(self, x: Tensor) -> Tensor:
        """[..., rnn outputs] -> [..., dnn_size]; batch normalisation over all that it is given."""
        shape = x.shape[:-1]
        x = x.flatten(0, -2)
        for number in range(self.settings.dnn_blocks):
            block: Any = self.get_submodule(f"DNN.block_{number}")
            x = block.norm.norm(block.linear.w(x))
            x = block.dropout(functional.leaky_relu(x, SLOPE))
        return x.reshape(*shape, x.shape[-1])


def convolve_plainly(images: Tensor, ends: Tensor | None, block: Block) -> Tensor:
    """What `convolve` does, in one operation of the library after the other: its reference, and what other devices use.

    Args:
        images: [batch, frames, bins, channels].
        ends: [batch], where each image ends and is mirrored; None: where all do.
    """
    margin = block.weight.shape[2] // 2
    above = margin if ends is None else 0
    x = functional.pad(images.permute(0, 3, 1, 2), (margin, margin, above, above), mode="reflect")
    if ends is not None:
        place = torch.arange(-margin, images.shape[1] + margin, device=images.device).abs().expand(images.shape[0], -1)
        last = ends[:, None] - 1
        source = torch.where(place > last, 2 * last - place, place).clamp(min=0)  # behind the margin anything will do
        x = x.gather(2, source[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
    x = functional.conv2d(x, block.weight.transpose(2, 3), block.bias).permute(0, 2, 3, 1)
    x = functional.layer_norm(x, block.norm_weight.shape, block.norm_weight, block.norm_bias, block.eps)
    x = functional.leaky_relu(x, SLOPE)
    if block.pool > 1:
        x = functional.max_pool2d(x.permute(0, 3, 1, 2), (1, block.pool)).permute(0, 2, 3, 1)
    return x if block.keep is None else x * block.keep[:, None, :, None]


def reference_encoder(features: FeatureSettings, settings: CrdnnSettings) -> nn.Module:
    """SpeechBrain's own: [batch, frames, n_mels] -> [batch, steps, dnn_size]."""
    encoder: nn.Module = CRDNN(
        input_shape=[None, None, features.n_mels],
        activation=nn.LeakyReLU,
        dropout=settings.dropout,
        cnn_blocks=len(settings.cnn_channels),
        cnn_channels=settings.cnn_channels,
        cnn_kernelsize=(settings.cnn_kernel, settings.cnn_kernel),
        inter_layer_pooling_size=[_POOL] * len(settings.cnn_channels),
        time_pooling=True,
        using_2d_pooling=False,
        time_pooling_size=settings.time_pooling,
        rnn_class=LSTM,
        rnn_layers=settings.rnn_layers,
        rnn_neurons=settings.rnn_size,
        rnn_bidirectional=True,
        rnn_re_init=True,
        dnn_blocks=settings.dnn_blocks,
        dnn_neurons=settings.dnn_size,
    )
    return encoder
