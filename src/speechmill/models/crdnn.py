"""The thesis's recognizer, built of SpeechBrain's modules: CRDNN encoder, location-aware attention, joint CTC."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from speechbrain.decoders.seq2seq import S2SRNNBeamSearcher, S2SRNNGreedySearcher
from speechbrain.lobes.models.CRDNN import CRDNN
from speechbrain.nnet.embedding import Embedding
from speechbrain.nnet.linear import Linear
from speechbrain.nnet.RNN import LSTM, AttentionalRNNDecoder
from torch import Tensor, nn
from torch.nn import functional

from speechmill.losses import LossSum, ctc_loss, joint, log_softmax, smoothed_nll
from speechmill.models.base import Encoded, Found, Recognizer
from speechmill.models.joint import joint_search
from speechmill.models.language import LanguageModel
from speechmill.models.plain import plain_search
from speechmill.settings import CrdnnSettings, FeatureSettings, LossSettings, SearchSettings
from speechmill.tokenizer import BLANK

_EDGE = BLANK  # BOS and EOS share index 0 with blank, as in the thesis


class CrdnnRecognizer(Recognizer):
    """40.2 M parameters at the thesis's sizes and 5,000 tokens.

    SpeechBrain's encoder is not told the lengths: its convolutions, its bidirectional LSTM and its batch normalisation
    see the padding behind an utterance, so that its outputs depend a little on which utterances share its batch.
    """

    def __init__(self, features: FeatureSettings, settings: CrdnnSettings, loss: LossSettings, tokens: int) -> None:
        super().__init__(features)
        self.settings = settings
        self.step_frames, self.step_begins = settings.time_pooling, -0.5  # step k has frames k pooling and on
        self.loss_settings = loss
        self.encoder = _encoder(features, settings)
        self.embedding = Embedding(num_embeddings=tokens, embedding_dim=settings.embedding_size)
        self.decoder = _decoder(settings)
        self.ctc_head = Linear(input_size=settings.dnn_size, n_neurons=tokens)
        self.head = Linear(input_size=settings.decoder_size, n_neurons=tokens)

    def encode(self, features: Tensor) -> Tensor:
        """[batch, frames, n_mels] -> [batch, steps, dnn_size]; steps are frames / time_pooling."""
        missing = self.settings.time_pooling - features.shape[1]
        if missing > 0:  # too short to be pooled into one step
            features = functional.pad(features, (0, 0, 0, missing))
        encoded: Tensor = self.encoder(features)
        return encoded

    def steps(self, frames: Tensor, total: int) -> Tensor:
        """Encoder steps of each utterance, the last one whole."""
        pooling = self.settings.time_pooling
        return ((frames + pooling - 1) // pooling).clamp(max=total)

    def loss(
        self, features: Tensor, frames: Tensor, targets: Tensor, target_lengths: Tensor, *, with_ctc: bool
    ) -> LossSum:
        encoded = self.encode(features)
        steps = self.steps(frames, encoded.shape[1])
        edge = torch.full_like(targets[:, :1], _EDGE)
        bos = torch.cat([edge, targets], dim=1)
        eos = torch.cat([targets, edge], dim=1).scatter(1, target_lengths[:, None], _EDGE)
        decoded, _ = self.decoder(self.embedding(bos), encoded, (steps / encoded.shape[1]).float())
        log_probs = log_softmax(self.head(decoded))
        nll = smoothed_nll(log_probs, eos, target_lengths + 1, self.loss_settings.label_smoothing)
        weight = self.loss_settings.ctc_weight
        if not with_ctc or weight == 0.0:
            return LossSum(nll.sum, int(target_lengths.sum()))
        ctc_log_probs = log_softmax(self.ctc_head(encoded))
        ctc = ctc_loss(ctc_log_probs, steps, targets, target_lengths)
        return joint([(1.0 - weight, nll), (weight, ctc)], ctc.count)

    def encoded(self, features: Tensor, frames: Tensor) -> Encoded:
        states = self.encode(features)
        return Encoded(states, self.steps(frames, states.shape[1]))

    def ctc_logits(self, encoded: Encoded) -> Tensor:
        logits: Tensor = self.ctc_head(encoded.states)
        return logits

    def ctc_head_apart(self) -> nn.Module:
        head: nn.Module = self.ctc_head
        return head

    def search(self, encoded: Encoded, search: SearchSettings, language_model: LanguageModel | None) -> list[Found]:
        if search.kind == "beam" and (search.ctc_weight or language_model is not None):
            ctc_logits = self.ctc_logits(encoded) if search.ctc_weight else None
            return joint_search(_Stepping(self), encoded, ctc_logits, search, language_model)
        parts = {"embedding": self.embedding, "decoder": self.decoder, "linear": self.head}
        return plain_search(S2SRNNGreedySearcher, S2SRNNBeamSearcher, parts, encoded, search)


class _Stepping:
    """The decoder, token by token: see `StepDecoder`. SpeechBrain's attention remembers rows of states itself."""

    def __init__(self, model: CrdnnRecognizer) -> None:
        self.model = model
        self.decoder: Any = model.decoder

    def begin(self, encoded: Encoded, beam: int) -> _State:
        self.decoder.attn.reset()
        states = encoded.states.repeat_interleave(beam, 0)
        context = states.new_zeros(len(states), self.model.settings.attention_size)
        return _State(states, encoded.steps.repeat_interleave(beam, 0), None, context)

    def step(self, tokens: Tensor, state: _State) -> tuple[Tensor, _State]:
        out, hidden, context, _ = self.decoder.forward_step(
            self.model.embedding(tokens), state.hidden, state.context, state.states, state.steps
        )
        return self.model.head(out), state._replace(hidden=hidden, context=context)

    def select(self, state: _State, rows: Tensor) -> _State:
        attention = self.decoder.attn
        attention.prev_attn = attention.prev_attn[rows]
        assert state.hidden is not None
        return state._replace(hidden=state.hidden[:, rows], context=state.context[rows])


class _State(NamedTuple):
    """Rows of one utterance have the same states and steps, so that selecting rows leaves those as they are."""

    states: Tensor
    steps: Tensor
    hidden: Tensor | None
    context: Tensor


def _encoder(features: FeatureSettings, settings: CrdnnSettings) -> nn.Module:
    kernel = (settings.cnn_kernel, settings.cnn_kernel)
    encoder: nn.Module = CRDNN(
        input_shape=[None, None, features.n_mels],
        activation=nn.LeakyReLU,
        dropout=settings.dropout,
        cnn_blocks=len(settings.cnn_channels),
        cnn_channels=settings.cnn_channels,
        cnn_kernelsize=kernel,
        inter_layer_pooling_size=[2] * len(settings.cnn_channels),
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


def _decoder(settings: CrdnnSettings) -> nn.Module:
    decoder = AttentionalRNNDecoder(
        enc_dim=settings.dnn_size,
        input_size=settings.embedding_size,
        rnn_type="gru",
        attn_type="location",
        hidden_size=settings.decoder_size,
        attn_dim=settings.attention_size,
        num_layers=1,
        scaling=1.0,
        channels=settings.attention_channels,
        kernel_size=settings.attention_kernel,
        re_init=True,
        dropout=settings.dropout,
    )
    decoder.attn.conv_loc.register_forward_pre_hook(_as_weights)
    built: nn.Module = decoder
    return built


def _as_weights(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """SpeechBrain's first attention weights are float32 whatever the model is; training in float64 needs its own."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    return inputs[0].to(weight.dtype) if weight.dtype == torch.float64 else inputs[0]
