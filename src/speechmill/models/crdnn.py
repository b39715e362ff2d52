"""The thesis's recognizer: CRDNN encoder, location-aware attention, joint CTC; SpeechBrain's parameters and numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from speechbrain.decoders.seq2seq import S2SRNNBeamSearcher, S2SRNNGreedySearcher
from speechbrain.nnet.embedding import Embedding
from speechbrain.nnet.linear import Linear
from torch import Tensor, nn
from torch.nn import functional

from speechmill.losses import LossSum, ctc_loss, joint, log_softmax, smoothed_nll
from speechmill.models.attention import AttentionDecoder
from speechmill.models.base import Encoded, Found, Recognizer
from speechmill.models.encoder import CrdnnEncoder
from speechmill.models.joint import joint_search
from speechmill.models.language import LanguageModel
from speechmill.models.plain import plain_search
from speechmill.settings import CrdnnSettings, FeatureSettings, LossSettings, SearchSettings
from speechmill.tokenizer import BLANK

_EDGE = BLANK  # BOS and EOS share index 0 with blank, as in the thesis


class CrdnnRecognizer(Recognizer):
    """40.2 M parameters at the thesis's sizes and 5,000 tokens.

    Where the recipe does not mask padding, as SpeechBrain does not, outputs depend a little on which utterances share
    a batch.
    """

    def __init__(self, features: FeatureSettings, settings: CrdnnSettings, loss: LossSettings, tokens: int) -> None:
        super().__init__(features)
        self.settings = settings
        self.step_frames, self.step_begins = settings.time_pooling, -0.5  # step k has frames k pooling and on
        self.loss_settings = loss
        self.encoder = CrdnnEncoder(features, settings)
        self.embedding = Embedding(num_embeddings=tokens, embedding_dim=settings.embedding_size)
        self.decoder = AttentionDecoder(settings)
        self.ctc_head = Linear(input_size=settings.dnn_size, n_neurons=tokens)
        self.head = Linear(input_size=settings.decoder_size, n_neurons=tokens)

    def encode(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, frames, n_mels] -> [batch, steps, dnn_size], and the steps of each utterance, [batch].

        Steps are frames / time_pooling; with the padding heard, an utterance's last one may be partly padding.
        """
        pooling = self.settings.time_pooling
        missing = pooling - features.shape[1]
        if missing > 0:  # too short to be pooled into one step
            features = functional.pad(features, (0, 0, 0, missing))
        if self.settings.mask_padding:
            return self.encoder(features, frames), self.encoder.steps(frames)
        encoded: Tensor = self.encoder(features)
        return encoded, ((frames + pooling - 1) // pooling).clamp(max=encoded.shape[1])

    def loss(
        self, features: Tensor, frames: Tensor, targets: Tensor, target_lengths: Tensor, *, with_ctc: bool
    ) -> LossSum:
        encoded, steps = self.encode(features, frames)
        edge = torch.full_like(targets[:, :1], _EDGE)
        bos = torch.cat([edge, targets], dim=1)
        eos = torch.cat([targets, edge], dim=1).scatter(1, target_lengths[:, None], _EDGE)
        decoded = self.decoder.teach(self.embedding(bos), encoded, steps)
        log_probs = log_softmax(self.head(decoded))
        nll = smoothed_nll(log_probs, eos, target_lengths + 1, self.loss_settings.label_smoothing)
        weight = self.loss_settings.ctc_weight
        if not with_ctc or weight == 0.0:
            return LossSum(nll.sum, int(target_lengths.sum()))
        ctc_log_probs = log_softmax(self.ctc_head(encoded))
        ctc = ctc_loss(ctc_log_probs, steps, targets, target_lengths)
        return joint([(1.0 - weight, nll), (weight, ctc)], ctc.count)

    def encoded(self, features: Tensor, frames: Tensor) -> Encoded:
        return Encoded(*self.encode(features, frames))

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
        apart = self.settings.mask_padding
        return plain_search(S2SRNNGreedySearcher, S2SRNNBeamSearcher, parts, encoded, search, apart)


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
