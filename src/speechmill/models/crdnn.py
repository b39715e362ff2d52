"""The thesis's recognizer: CRDNN encoder, location-aware attention, joint CTC; SpeechBrain's parameters and numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

from speechbrain.decoders.seq2seq import S2SRNNBeamSearcher, S2SRNNGreedySearcher
from speechbrain.nnet.embedding import Embedding
from speechbrain.nnet.linear import Linear
from torch import Tensor
from torch.nn import functional

from speechmill.device import sent
from speechmill.models.attending import AttentionRecognizer
from speechmill.models.attention import AttentionDecoder
from speechmill.models.base import Encoded, Found
from speechmill.models.encoder import CrdnnEncoder
from speechmill.models.joint import StepDecoder
from speechmill.models.plain import plain_search
from speechmill.settings import CrdnnSettings, FeatureSettings, LossSettings, SearchSettings


class CrdnnRecognizer(AttentionRecognizer):
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

    def encoded(self, features: Tensor, frames: Tensor) -> Encoded:
        """[batch, frames, n_mels] -> states [batch, steps, dnn_size], and the steps of each utterance.

        Steps are frames / time_pooling; with the padding heard, an utterance's last one may be partly padding.
        """
        pooling = self.settings.time_pooling
        missing = pooling - features.shape[1]
        if missing > 0:  # too short to be pooled into one step
            features = functional.pad(features, (0, 0, 0, missing))
        states: Tensor = self.encoder(features, frames if self.settings.mask_padding else None)
        return Encoded(states, sent(self.steps(frames, states.shape[1]), states.device))

    def steps(self, frames: Tensor, total: int) -> Tensor:
        if self.settings.mask_padding:
            return self.encoder.steps(frames)
        pooling = self.settings.time_pooling
        return ((frames + pooling - 1) // pooling).clamp(max=total)

    def decoded(self, tokens: Tensor, encoded: Encoded) -> Tensor:
        logits: Tensor = self.head(self.decoder.teach(self.embedding(tokens), encoded.states, encoded.steps))
        return logits

    def stepping(self) -> StepDecoder:
        return _Stepping(self)

    def search_plainly(self, encoded: Encoded, search: SearchSettings) -> list[Found]:
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
