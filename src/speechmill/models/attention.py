"""The attention decoder: SpeechBrain's parameters and numbers; with known tokens, only what recurs is in the loop."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from speechbrain.nnet.RNN import AttentionalRNNDecoder
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from speechmill.models.recorded import Recordings, Tensors, on_gpu, rounded
from speechmill.settings import CrdnnSettings

_ROWS, _TOKENS, _STEPS = 2, 4, 16  # what a recording's shape is rounded up to


class AttentionDecoder(AttentionalRNNDecoder):  # type: ignore[misc]
    """SpeechBrain's `AttentionalRNNDecoder` of one GRU cell and location-aware attention (Chorowski et al. 2015).

    Searches step through it as it is. Training knows all tokens beforehand: `teach` is its `forward`, the reference
    (tests/models/test_attention.py), with the embeddings' share of the GRU, the output projection and the gradients of
    all weights taken out of the loop over tokens, as matrix products over all of them.
    """

    def __init__(self, settings: CrdnnSettings) -> None:
        super().__init__(
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
        self.attn.conv_loc.register_forward_pre_hook(_as_weights)

    def teach(self, embedded: Tensor, encoded: Tensor, steps: Tensor) -> Tensor:
        """[batch, tokens, decoder_size] from the embedded tokens before each and the encoder's output.

        Args:
            embedded: [batch, tokens, embedding_size].
            encoded: [batch, steps, dnn_size].
            steps: [batch], of each utterance.
        """
        attention, cell = self.attn, self.rnn.rnn_cells[0]
        size, tokens, _ = embedded.shape
        dtype = embedded.dtype
        if torch.is_autocast_enabled(embedded.device.type):
            dtype = torch.get_autocast_dtype(embedded.device.type)
        keep = None
        if self.training and self.dropout:
            embedded = functional.dropout(embedded, self.dropout)
            ones = embedded.new_ones(size, tokens, attention.mlp_out.out_features, dtype=dtype)
            keep = functional.dropout(ones, self.dropout)
        inputs = embedded.shape[2]
        gates = functional.linear(embedded, cell.weight_ih[:, :inputs], cell.bias_ih)
        # The three biases of the energies are added once to the keys and not in each step.
        bias = attention.mlp_enc.bias + attention.mlp_dec.bias + attention.mlp_loc.bias
        keys = functional.linear(encoded, attention.mlp_enc.weight, bias)
        weights = Weights(
            cell.weight_ih[:, inputs:], cell.weight_hh, cell.bias_hh, attention.mlp_dec.weight,
            attention.mlp_loc.weight, attention.conv_loc.weight[:, 0], attention.mlp_attn.weight[0],
            attention.mlp_out.weight, attention.mlp_out.bias,
        )  # fmt: skip
        with torch.autocast(embedded.device.type, enabled=False):
            hidden, context = fast_loop(
                gates.to(dtype), keys.to(dtype), encoded.to(dtype), steps, keep,
                Weights(*(weight.to(dtype) for weight in weights)),
            )  # fmt: skip
        decoded: Tensor = self.proj(torch.cat([context, hidden], dim=-1))
        return decoded


class Weights(NamedTuple):
    """Of the loop over tokens."""

    context: Tensor  # [3 hidden, attention]: the GRU's, for the context
    hidden: Tensor  # [3 hidden, hidden]
    hidden_bias: Tensor  # [3 hidden]
    query: Tensor  # [attention, hidden]
    location: Tensor  # [attention, channels]
    filters: Tensor  # [channels, 2 reach + 1]: over the attention of the token before
    energy: Tensor  # [attention]
    out: Tensor  # [attention, encoder]: from the attended encoder output to the context
    out_bias: Tensor  # [attention]


def step(
    gates: Tensor, hidden: Tensor, context: Tensor, attended: Tensor, keys: Tensor, encoded: Tensor, outside: Tensor,
    weights: Weights,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """One token: hidden state, context and attention after it. No shape depends on values: it can be captured.

    Args:
        gates: [batch, 3 hidden], the token's share of the GRU's input.
        hidden: [batch, hidden].
        context: [batch, attention], after dropout.
        attended: [batch, steps], the attention of the token before.
        keys: [batch, steps, attention].
        outside: [batch, steps], true in padding.
    """
    inputs = gates + functional.linear(context, weights.context)
    recurrent = functional.linear(hidden, weights.hidden, weights.hidden_bias)
    (ri, zi, ni), (rh, zh, nh) = inputs.chunk(3, -1), recurrent.chunk(3, -1)
    reset, update = torch.sigmoid(ri + rh), torch.sigmoid(zi + zh)
    new = torch.tanh(ni + reset * nh)
    hidden = new + update * (hidden - new)
    reach = weights.filters.shape[1] // 2
    located = _windows(functional.pad(attended, (reach, reach)), weights.filters.shape[1]) @ weights.filters.t()
    query = functional.linear(hidden, weights.query)
    energies = torch.tanh(keys + query[:, None] + functional.linear(located, weights.location)) @ weights.energy
    attended = torch.softmax(energies.masked_fill(outside, -torch.inf), dim=-1)
    context = functional.linear(torch.bmm(attended[:, None], encoded)[:, 0], weights.out, weights.out_bias)
    return hidden, context, attended


def reference_loop(
    gates: Tensor, keys: Tensor, encoded: Tensor, steps: Tensor, keep: Tensor | None, weights: Weights
) -> tuple[Tensor, Tensor]:
    """Hidden states and contexts of all tokens, [batch, tokens, ...]: `step` after `step`, differentiated by PyTorch.

    Args:
        gates: [batch, tokens, 3 hidden].
        keep: what dropout multiplies the context with, [batch, tokens, attention].
    """
    attended, outside = _first_attention(encoded, steps)
    hidden = encoded.new_zeros(len(encoded), weights.query.shape[1])
    context = encoded.new_zeros(len(encoded), weights.out.shape[0])
    found: list[tuple[Tensor, Tensor]] = []
    for token in range(gates.shape[1]):
        heard = context if keep is None else context * keep[:, token]
        hidden, context, attended = step(gates[:, token], hidden, heard, attended, keys, encoded, outside, weights)
        attended = attended.detach()  # SpeechBrain does not learn through the location
        found.append((hidden, context))
    return torch.stack([one[0] for one in found], 1), torch.stack([one[1] for one in found], 1)


def fast_loop(
    gates: Tensor, keys: Tensor, encoded: Tensor, steps: Tensor, keep: Tensor | None, weights: Weights
) -> tuple[Tensor, Tensor]:
    """`reference_loop` with its derivative written out, on a GPU recorded (see `recorded`)."""
    needed = torch.is_grad_enabled() and any(one.requires_grad for one in (gates, keys, encoded, *weights))
    if needed and gates.is_cuda:
        return recorded_loop(_ON_GPU, gates, keys, encoded, steps, keep, weights)
    found: tuple[Tensor, Tensor] = _Loop.apply(gates, keys, encoded, steps, keep, *weights)  # type: ignore[no-untyped-call]
    return found


def recorded_loop(
    recordings: Recordings, gates: Tensor, keys: Tensor, encoded: Tensor, steps: Tensor, keep: Tensor | None,
    weights: Weights,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The same for batches of which many have one shape: they are filled up to one of a few."""
    size, tokens, _ = exact = len(gates), gates.shape[1], keys.shape[1]
    rows, columns, frames = (room - one for room, one in zip(recorded_shape(*exact), exact, strict=True))
    over_tokens, over_steps = (0, 0, 0, columns, 0, rows), (0, 0, 0, frames, 0, rows)
    hidden, contexts = _Recorded.apply(
        recordings, functional.pad(gates, over_tokens), functional.pad(keys, over_steps),
        functional.pad(encoded, over_steps), functional.pad(steps, (0, rows), value=1),
        None if keep is None else functional.pad(keep, over_tokens), *weights,
    )  # type: ignore[no-untyped-call]  # fmt: skip
    return hidden[:size, :tokens], contexts[:size, :tokens]


def recorded_shape(size: int, tokens: int, total: int) -> tuple[int, int, int]:
    """What a batch is filled up to, so that few shapes are recorded."""
    return rounded(size, _ROWS), rounded(tokens, _TOKENS), rounded(total, _STEPS)


class _Loop(torch.autograd.Function):
    """Kernel by kernel."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        return _forward_saving(ctx, inputs, keeping=any(ctx.needs_input_grad))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_result: Tensor) -> Tensors:
        return _of_saved(ctx.saved_tensors, of_result)


class _Recorded(torch.autograd.Function):
    """As a recording; kernel by kernel where another pass is still under way, or memory is short."""

    @staticmethod
    def forward(ctx: Any, recordings: Recordings, *inputs: Any) -> tuple[Tensor, Tensor]:
        ctx.claim, ctx.recordings, ctx.is_over = _Claim(), recordings, False
        ctx.recording = recordings.of(inputs) if recordings.claim(ctx.claim) else None
        if ctx.recording is not None:
            hidden, contexts = ctx.recording.run(inputs)
            return hidden.clone(), contexts.clone()
        return _forward_saving(ctx, inputs, keeping=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_result: Tensor) -> Tensors:
        if ctx.recording is None:
            return None, *_of_saved(ctx.saved_tensors, of_result)
        if ctx.is_over:
            raise RuntimeError("the loop over tokens was gone back through before; what it had kept is another pass's")
        ctx.is_over = True
        found = ctx.recording.run_back(of_result)
        grads = tuple(None if one is None else one.clone() for one in found)
        ctx.recordings.release()
        return None, *grads


def _forward_saving(ctx: Any, inputs: Tensors, keeping: bool) -> tuple[Tensor, Tensor]:
    hidden, contexts, *saved = _forward(*inputs, keeping=keeping)
    _, _, encoded, _, *rest = inputs
    ctx.save_for_backward(encoded, *rest, *saved)
    return hidden, contexts


def _of_saved(saved: Tensors, of_result: Tensors) -> Tensors:
    encoded, keep, *rest = saved
    parts = len(Weights._fields)
    return _backward((None, None, encoded, None, keep, *rest[:parts]), (None, None, *rest[parts:]), of_result)


class _Claim:
    """Lives as long as a pass whose backward may still come."""


def _forward(
    gates: Tensor, keys: Tensor, encoded: Tensor, steps: Tensor, keep: Tensor | None, *parts: Tensor,
    keeping: bool = True,
) -> Tensors:  # fmt: skip
    """Hidden states and contexts, [batch, tokens, ...], and what `_backward` needs where it is asked for.

    Buffers are [tokens, batch, ...]: a token's part is dense, and all of them are one matrix.
    """
    w = Weights(*parts)
    size, tokens, total = len(gates), gates.shape[1], keys.shape[1]
    reach = w.filters.shape[1] // 2
    keeps = keep.transpose(0, 1).contiguous() if keep is not None else None
    inputs = gates.transpose(0, 1).contiguous()
    width = w.query.shape[1]
    # Attention with zeros around it, the first before any token, so that the location's windows are views of it.
    padded = gates.new_zeros(tokens + 1, size, total + 2 * reach)
    attention = padded[:, :, reach : reach + total]
    first, outside = _first_attention(encoded, steps)
    attention[0] = first
    hidden = gates.new_zeros(tokens + 1, size, width)
    heard = gates.new_zeros(tokens, size, w.out.shape[0])
    contexts, sums = gates.new_empty(tokens, size, w.out.shape[0]), gates.new_empty(tokens, size, encoded.shape[2])
    turn, both, new = (gates.new_empty(tokens, size, some * width) for some in (3, 2, 1))
    by_context, by_hidden, by_query, by_out, by_filters = (
        weight.t() for weight in (w.context, w.hidden, w.query, w.out, w.filters)
    )
    tanhs = gates.new_empty(tokens, size, total, keys.shape[2]) if keeping else None
    scratch = torch.empty_like(keys)
    # The query is one more feature of the location, constant over the steps: the sum of three is one product.
    mixed = torch.cat([w.location.t().expand(size, -1, -1), w.location.new_empty(size, 1, keys.shape[2])], 1)
    features = gates.new_ones(tokens, size, total, w.location.shape[1] + 1)
    for t in range(tokens):
        if t:
            heard[t] = contexts[t - 1] if keeps is None else contexts[t - 1] * keeps[t]
        gate = torch.addmm(inputs[t], heard[t], by_context) if t else inputs[t]
        torch.addmm(w.hidden_bias, hidden[t], by_hidden, out=turn[t])
        torch.add(gate[:, : 2 * width], turn[t, :, : 2 * width], out=both[t]).sigmoid_()
        reset, update = both[t].chunk(2, 1)
        torch.addcmul(gate[:, 2 * width :], reset, turn[t, :, 2 * width :], out=new[t]).tanh_()
        torch.lerp(new[t], hidden[t], update, out=hidden[t + 1])
        features[t, :, :, :-1] = _windows(padded[t], w.filters.shape[1]) @ by_filters
        mixed[:, -1] = hidden[t + 1] @ by_query
        energies = scratch if tanhs is None else tanhs[t]
        torch.baddbmm(keys, features[t], mixed, out=energies).tanh_()
        scores = (energies @ w.energy).masked_fill_(outside, -torch.inf)
        attention[t + 1] = torch.softmax(scores, dim=-1)
        torch.bmm(attention[t + 1][:, None], encoded, out=sums[t][:, None])
        torch.addmm(w.out_bias, sums[t], by_out, out=contexts[t])
    saved = (padded, hidden, heard, sums, both, new, turn, features, tanhs) if keeping else ()
    return hidden[1:].transpose(0, 1), contexts.transpose(0, 1), *saved


def _backward(inputs: Tensors, found: Tensors, of_result: Tensors) -> Tensors:
    """Gradients of the inputs of `_forward`, of which `found` is what it returned."""
    _, _, encoded, _, keep, *parts = inputs
    w = Weights(*parts)
    _, _, padded, hidden, heard, sums, both, new, turn, features, tanhs = found
    of_hidden, of_contexts = of_result
    tokens, size, total, _ = features.shape
    reach, width = w.filters.shape[1] // 2, w.query.shape[1]
    attention = padded[1:, :, reach : reach + total].contiguous()
    reset, update, recurrent = both[:, :, :width], both[:, :, width:], turn[:, :, 2 * width :]
    stale = 1 - update
    keeps = keep.transpose(0, 1) if keep is not None else None
    grads = of_hidden.transpose(0, 1).contiguous(), of_contexts.transpose(0, 1).contiguous()
    # What the products after the loop need of every token.
    of_context, of_sums, of_scores = torch.empty_like(heard), torch.empty_like(sums), torch.empty_like(attention)
    of_query = hidden.new_empty(tokens, size, w.query.shape[0])
    of_gate, of_turn = (hidden.new_empty(tokens, size, 3 * width) for _ in range(2))
    of_located = hidden.new_empty(tokens, size * total, w.location.shape[1])
    of_keys = torch.zeros_like(tanhs[0])
    of_mixed = hidden.new_zeros(size, w.query.shape[0], features.shape[3])
    carried = hidden.new_zeros(size, width)
    later: Tensor | None = None  # of the context, from the next token's GRU
    for t in reversed(range(tokens)):
        if later is None:
            of_context[t] = grads[1][t]
        else:
            torch.add(grads[1][t], later, out=of_context[t])
        torch.mm(of_context[t], w.out, out=of_sums[t])
        of_attention = torch.bmm(encoded, of_sums[t][:, :, None])[:, :, 0]
        torch.ops.aten._softmax_backward_data.out(
            of_attention, attention[t], -1, of_attention.dtype, grad_input=of_scores[t]
        )
        before = torch.ops.aten.tanh_backward(of_scores[t][:, :, None] * w.energy, tanhs[t])
        of_keys += before
        of_features = torch.bmm(before.transpose(1, 2), features[t])
        of_query[t] = of_features[:, :, -1]
        of_mixed += of_features
        torch.mm(before.flatten(0, 1), w.location, out=of_located[t])
        gru = torch.addmm(grads[0][t] + carried, of_query[t], w.query)
        of_new = gru * stale[t]
        of_candidate = torch.ops.aten.tanh_backward(of_new, new[t])
        of_update = torch.ops.aten.sigmoid_backward(gru * (hidden[t] - new[t]), update[t])
        of_reset = torch.ops.aten.sigmoid_backward(of_candidate * recurrent[t], reset[t])
        torch.cat([of_reset, of_update, of_candidate], 1, out=of_gate[t])
        torch.cat([of_reset, of_update, of_candidate * reset[t]], 1, out=of_turn[t])
        carried = torch.addmm(gru * update[t], of_turn[t], w.hidden)
        if t:
            later = of_gate[t] @ w.context
            later = later if keeps is None else later * keeps[t]
    of_encoded = torch.bmm(attention.permute(1, 2, 0), of_sums.transpose(0, 1))
    of_energy = tanhs.flatten(0, 2).t() @ of_scores.flatten()
    windows = padded[:-1].unfold(2, w.filters.shape[1], 1).flatten(0, 2)
    of_filters = of_located.flatten(0, 1).t() @ windows
    gate, of_both, context = of_gate.flatten(0, 1), of_turn.flatten(0, 1), of_context.flatten(0, 1)
    return (
        of_gate.transpose(0, 1), of_keys, of_encoded, None, None,
        gate.t() @ heard.flatten(0, 1), of_both.t() @ hidden[:-1].flatten(0, 1), of_both.sum(0),
        of_query.flatten(0, 1).t() @ hidden[1:].flatten(0, 1), of_mixed[:, :, :-1].sum(0), of_filters, of_energy,
        context.t() @ sums.flatten(0, 1), context.sum(0),
    )  # fmt: skip


_ON_GPU = Recordings(_forward, 2, _backward, on_gpu)


def _first_attention(encoded: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Before any token all steps of an utterance alike, [batch, steps]; and which are padding."""
    outside = torch.arange(encoded.shape[1], device=encoded.device) >= steps[:, None]
    return (~outside).to(encoded.dtype) / steps[:, None], outside


def _windows(padded: Tensor, width: int) -> Tensor:
    """[batch, steps + width - 1] -> [batch, steps, width], a view."""
    return padded.unfold(1, width, 1)


def _as_weights(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """SpeechBrain's first attention weights are float32 whatever the model is; searching in float64 needs its own."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    return inputs[0].to(weight.dtype) if weight.dtype == torch.float64 else inputs[0]
