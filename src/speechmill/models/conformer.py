"""Conformer (Gulati et al. 2020) with a Transformer decoder and joint CTC, of SpeechBrain's modules.

Padding is masked throughout: hypotheses do not depend on what else is in the batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from speechbrain.decoders.seq2seq import S2STransformerBeamSearcher, S2STransformerGreedySearcher
from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
from speechbrain.nnet.linear import Linear
from torch import Tensor, nn

from speechmill.models.attending import AttentionRecognizer
from speechmill.models.base import Encoded, Found
from speechmill.models.joint import StepDecoder
from speechmill.models.plain import plain_search
from speechmill.models.stem import Stem
from speechmill.settings import ConformerSettings, FeatureSettings, LossSettings, SearchSettings


class ConformerRecognizer(AttentionRecognizer):
    """Strided convolutions, Conformer blocks with relative positions, a Transformer decoder, a CTC head."""

    def __init__(self, features: FeatureSettings, settings: ConformerSettings, loss: LossSettings, tokens: int) -> None:
        super().__init__(features)
        self.settings = settings
        self.loss_settings = loss
        self.step_frames, self.step_begins = settings.stride, -settings.stride / 2
        self.stem = Stem(features.n_mels, settings.channels, settings.stride, settings.size, settings.dropout)
        self.transformer = _transformer(settings, tokens)
        self.ctc_head = Linear(input_size=settings.size, n_neurons=tokens)
        self.head = Linear(input_size=settings.size, n_neurons=tokens)
        self._inside: Tensor | None = None
        for layer in self.transformer.encoder.layers:
            layer.convolution_module.conv.register_forward_pre_hook(self._mask_convolution)
            layer.mha_layer.dropout_att.register_forward_hook(self._as_weights)

    def _mask_convolution(self, module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        """SpeechBrain masks what comes out of the convolution; what goes in must not have padding either."""
        del module
        assert self._inside is not None
        return inputs[0] * self._inside[:, None, :]

    def _as_weights(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        """SpeechBrain's attention weights are float32 whatever the model is; training in float64 needs its own."""
        del module, inputs
        dtype = self.stem.project.weight.dtype
        return output.to(dtype) if dtype == torch.float64 else output

    def encoded(self, features: Tensor, frames: Tensor) -> Encoded:
        x, steps = self.stem(features, frames)
        inside = torch.arange(x.shape[1], device=x.device) < steps[:, None]
        self._inside = inside
        x = self.transformer.custom_src_module(x)
        positions = self.transformer.positional_encoding(x).to(x.dtype)
        states, _ = self.transformer.encoder(x, src_key_padding_mask=~inside, pos_embs=positions)
        self._inside = None
        return Encoded(states, steps)

    def steps(self, frames: Tensor, total: int) -> Tensor:
        del total
        return self.stem.steps(frames)

    def decoded(self, tokens: Tensor, encoded: Encoded) -> Tensor:
        targets = self.transformer.custom_tgt_module(tokens)
        targets = targets + self.transformer.positional_encoding_decoder(targets)
        behind = torch.arange(encoded.states.shape[1], device=tokens.device) >= encoded.steps[:, None]
        ahead = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device).triu(1)
        out, _, _ = self.transformer.decoder(targets, encoded.states, tgt_mask=ahead, memory_key_padding_mask=behind)
        logits: Tensor = self.head(out)
        return logits

    def stepping(self) -> StepDecoder:
        return _Stepping(self)

    def search_plainly(self, encoded: Encoded, search: SearchSettings) -> list[Found]:
        parts = {"modules": [self.transformer, self.head]}
        return plain_search(S2STransformerGreedySearcher, S2STransformerBeamSearcher, parts, encoded, search)


class _State(NamedTuple):
    encoded: Encoded
    prefixes: Tensor  # [rows, length], BOS first


class _Stepping:
    """The decoder, token by token: see `StepDecoder`. The whole prefix is computed again for each token."""

    def __init__(self, model: ConformerRecognizer) -> None:
        self.model = model

    def begin(self, encoded: Encoded, beam: int) -> _State:
        repeated = Encoded(*(part.repeat_interleave(beam, 0) for part in encoded))
        return _State(repeated, repeated.steps.new_empty(len(repeated.steps), 0))

    def step(self, tokens: Tensor, state: _State) -> tuple[Tensor, _State]:
        prefixes = torch.cat([state.prefixes, tokens[:, None]], dim=1)
        return self.model.decoded(prefixes, state.encoded)[:, -1], state._replace(prefixes=prefixes)

    def select(self, state: _State, rows: Tensor) -> _State:
        # Rows of one utterance have the same states and steps.
        return state._replace(prefixes=state.prefixes[rows])


def _transformer(settings: ConformerSettings, tokens: int) -> Any:
    return TransformerASR(
        tgt_vocab=tokens,
        input_size=settings.size,
        d_model=settings.size,
        nhead=settings.heads,
        num_encoder_layers=settings.layers,
        num_decoder_layers=settings.decoder_layers,
        d_ffn=settings.feedforward,
        dropout=settings.dropout,
        activation=nn.GELU,
        normalize_before=True,
        kernel_size=settings.kernel,
        encoder_module="conformer",
        attention_type="RelPosMHAXL",
        causal=False,
    )
