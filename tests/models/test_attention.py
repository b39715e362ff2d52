"""Teaching the attention decoder gives SpeechBrain's outputs and gradients."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.brain import exact_attention
from speechbrain.nnet.RNN import AttentionalRNNDecoder
from test_encoder import close, distance
from torch import Tensor

from speechmill.config import load_recipe
from speechmill.errors import SpeechmillError
from speechmill.models import attention, recorded
from speechmill.models.attention import AttentionDecoder
from speechmill.models.recorded import Body, Record, Recordings, Tensors
from speechmill.schedule import Schedule, Utterances
from speechmill.settings import CrdnnSettings

HPARAMS = Path(__file__).resolve().parents[2] / "hparams"
SMALL = CrdnnSettings(
    dnn_size=12, embedding_size=6, decoder_size=16, attention_size=20, attention_channels=3, attention_kernel=5,
    dropout=0.0,
)  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("loop", ["fast_loop", "reference_loop"])
@pytest.mark.parametrize("thesis", [False, True])
def test_outputs_and_gradients_are_speechbrains(
    dtype: torch.dtype, loop: str, thesis: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_recipe(HPARAMS / "train.yaml").model if thesis else SMALL
    assert isinstance(settings, CrdnnSettings)
    monkeypatch.setattr(attention, "fast_loop", getattr(attention, loop))
    torch.manual_seed(0)
    decoder = AttentionDecoder(settings.model_copy(update={"dropout": 0.0})).to(dtype)
    embedded = torch.randn(3, 7, settings.embedding_size, dtype=dtype, requires_grad=True)
    encoded = torch.randn(3, 15, settings.dnn_size, dtype=dtype, requires_grad=True)
    steps = torch.tensor([15, 9, 4])
    leaves = [embedded, encoded, *decoder.parameters()]
    with exact_attention():
        theirs, _ = AttentionalRNNDecoder.forward(decoder, embedded, encoded, steps / 15)
    ours = decoder.teach(embedded, encoded, steps)
    close(ours, theirs)
    weight = torch.randn_like(theirs)
    expected = torch.autograd.grad((theirs * weight).sum(), leaves)
    for one, other in zip(torch.autograd.grad((ours * weight).sum(), leaves), expected, strict=True):
        close(one, other)


def test_dropout_falls_on_what_the_cell_is_given() -> None:
    """With the same factors the written derivative is PyTorch's."""
    torch.manual_seed(0)
    decoder = AttentionDecoder(SMALL.model_copy(update={"dropout": 0.5})).double().train()
    embedded = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    encoded = torch.randn(2, 8, 12, dtype=torch.float64, requires_grad=True)
    leaves = [embedded, encoded, *decoder.parameters()]
    found = []
    for loop in (attention.fast_loop, attention.reference_loop):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(attention, "fast_loop", loop)
            torch.manual_seed(1)
            out = decoder.teach(embedded, encoded, torch.tensor([8, 3]))
        found.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for one, other in zip(*found, strict=True):
        close(one, other)
    assert not torch.equal(found[0][0], decoder.eval().teach(embedded, encoded, torch.tensor([8, 3])))


def test_without_gradients_it_keeps_nothing() -> None:
    decoder = AttentionDecoder(SMALL)
    given = torch.randn(2, 5, 6), torch.randn(2, 8, 12), torch.tensor([8, 3])
    with torch.no_grad():
        close(decoder.teach(*given), decoder.teach(*given).detach())


def test_padded_steps_are_not_attended() -> None:
    decoder = AttentionDecoder(SMALL).double()
    embedded, encoded = torch.randn(1, 5, 6, dtype=torch.float64), torch.randn(1, 8, 12, dtype=torch.float64)
    steps = torch.tensor([6])
    close(decoder.teach(embedded, encoded, steps), decoder.teach(embedded, encoded[:, :6], steps))


def test_bfloat16_is_near() -> None:
    """As the demo's attention recipe trains where the processor is fast at it."""
    torch.manual_seed(0)
    decoder = AttentionDecoder(SMALL)
    wide = AttentionDecoder(SMALL).double()
    wide.load_state_dict(decoder.state_dict())
    embedded, encoded, steps = torch.randn(3, 7, 6), torch.randn(3, 15, 12), torch.tensor([15, 9, 4])
    with torch.autocast("cpu", torch.bfloat16):
        found = decoder.teach(embedded, encoded, steps).float()
    expected = wide.teach(embedded.double(), encoded.double(), steps)
    weight = torch.randn_like(found)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    assert float((found - expected).detach().norm() / expected.detach().norm()) < 0.02
    far = distance(decoder, wide)
    assert max(far.values()) < 0.1, far


def again(body: Body) -> tuple[Callable[[], None], Tensors]:
    """What a CUDA graph does, without one: the same places are written again."""
    places = body()

    def replay() -> None:
        for place, value in zip(places, body(), strict=True):
            if place is not None:
                place.copy_(value)

    return replay, places


def recordings(record: Record = again) -> Recordings:
    return Recordings(attention._forward, 2, attention._backward, lambda: record)


def loop_inputs(size: int, tokens: int, total: int, dropout: bool = False, device: str = "cpu") -> tuple[Any, ...]:
    decoder = AttentionDecoder(SMALL).double().to(device)
    cell, attn = decoder.rnn.rnn_cells[0], decoder.attn
    shapes = {"gates": (size, tokens, 48), "keys": (size, total, 20), "encoded": (size, total, 12)}
    given = [torch.randn(shape, dtype=torch.float64, device=device, requires_grad=True) for shape in shapes.values()]
    steps = torch.randint(1, total + 1, (size,), device=device)
    keep = torch.rand(size, tokens, 20, dtype=torch.float64, device=device).round() * 2 if dropout else None
    weights = attention.Weights(
        cell.weight_ih[:, 6:], cell.weight_hh, cell.bias_hh, attn.mlp_dec.weight, attn.mlp_loc.weight,
        attn.conv_loc.weight[:, 0].double(), attn.mlp_attn.weight[0], attn.mlp_out.weight, attn.mlp_out.bias,
    )  # fmt: skip
    return *given, steps, keep, attention.Weights(*(one.detach().requires_grad_() for one in weights))


def of_loop(loop: Callable[..., tuple[Tensor, Tensor]], inputs: tuple[Any, ...]) -> list[Tensor]:
    hidden, contexts = loop(*inputs)
    leaves = [*inputs[:3], *inputs[5]]
    loss = (hidden.square().sum() + (contexts * hidden[:, :, :1]).sum()) * 0.1
    return [hidden, contexts, *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("dropout", [False, True])
def test_recorded_passes_are_the_plain_ones(dropout: bool) -> None:
    torch.manual_seed(0)
    kept = recordings()
    shapes = [(3, 7, 21), (4, 8, 32), (3, 6, 17), (1, 1, 1), (4, 5, 32)]  # three of them are one shape, rounded up
    for shape in shapes:
        inputs = loop_inputs(*shape, dropout)
        expected = of_loop(attention.fast_loop, inputs)
        found = of_loop(partial(attention.recorded_loop, kept), inputs)
        for one, other in zip(found, expected, strict=True):
            close(one, other)
    assert len(kept._kept) == 2


def test_what_the_backward_pass_needs_is_no_recordings_own() -> None:
    """On a GPU its memory is then the next recording's, too."""
    left: list[weakref.ref[Tensor]] = []

    def record(body: Body) -> tuple[Callable[[], None], Tensors]:
        places = body()
        if not left:  # it is the forward pass's
            left.extend(weakref.ref(one) for one in places[2:])
        return lambda: None, places

    *given, weights = loop_inputs(2, 4, 16)
    made = recordings(record).of((*given, *weights))
    assert made is not None
    alive = {one.untyped_storage().data_ptr() for one in (ref() for ref in left) if one is not None}
    assert len(left) == 9
    assert alive <= {one.untyped_storage().data_ptr() for one in made.result}, "the hidden states are"


def test_a_pass_begun_before_the_last_one_ended_is_made_plainly() -> None:
    torch.manual_seed(0)
    kept = recordings()
    loop = partial(attention.recorded_loop, kept)
    first, second = loop_inputs(2, 4, 16), loop_inputs(2, 4, 16)
    results = [loop(*inputs) for inputs in (first, second)]
    for inputs, (hidden, contexts) in zip((first, second), results, strict=True):
        grads = torch.autograd.grad(hidden.sum() + contexts.square().sum(), inputs[:3], retain_graph=True)
        expected = attention.fast_loop(*inputs)
        wanted = torch.autograd.grad(expected[0].sum() + expected[1].square().sum(), inputs[:3])
        for one, other in zip(grads, wanted, strict=True):
            close(one, other)
    with pytest.raises(RuntimeError, match="gone back through before"):
        results[0][0].sum().backward()
    del results, hidden, contexts
    assert kept.claim(attention._Claim())  # nobody has the recordings any more


def test_what_nobody_used_has_no_gradient_of_the_pass_before() -> None:
    torch.manual_seed(0)
    loop = partial(attention.recorded_loop, recordings())
    inputs = loop_inputs(2, 4, 16)
    of_loop(loop, inputs)
    (only,) = torch.autograd.grad(loop(*inputs)[0].sum(), inputs[:1])
    (wanted,) = torch.autograd.grad(attention.fast_loop(*inputs)[0].sum(), inputs[:1])
    close(only, wanted)


def test_recordings_go_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    kept = recordings()
    of_loop(partial(attention.recorded_loop, kept), loop_inputs(2, 4, 16))
    (first,) = kept._kept.values()
    assert first is not None
    monkeypatch.setattr(recorded, "budget", lambda _: 2.5 * first.size)
    for tokens in (4, 8, 12, 4, 12):
        inputs = loop_inputs(2, tokens, 16)
        expected = of_loop(attention.fast_loop, inputs)
        for one, other in zip(of_loop(partial(attention.recorded_loop, kept), inputs), expected, strict=True):
            close(one, other)
        assert kept._taken == sum(one.size for one in kept._kept.values() if one) <= 2.5 * first.size
    assert len(kept._kept) == 2, "of the two that came after all had gone"
    monkeypatch.setattr(recorded, "budget", lambda _: 0.5 * first.size)
    for _ in range(2):
        of_loop(partial(attention.recorded_loop, kept), loop_inputs(2, 16, 16))
    assert list(kept._kept.values()) == [None], "it would go again each time"


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no room"), RuntimeError("CUDA error: out of memory")])
def test_without_memory_for_a_recording_it_is_done_plainly_and_not_tried_again(error: RuntimeError) -> None:
    tried = []

    def full(_: Body) -> tuple[Callable[[], None], Tensors]:
        tried.append(1)
        raise error

    kept = recordings(full)
    for _ in range(2):
        inputs = loop_inputs(2, 4, 16)
        found = of_loop(partial(attention.recorded_loop, kept), inputs)
        for one, other in zip(found, of_loop(attention.fast_loop, inputs), strict=True):
            close(one, other)
    assert len(tried) == 1


def test_a_device_that_refuses_ends_it_with_the_way_out() -> None:
    def refuse(_: Body) -> tuple[Callable[[], None], Tensors]:
        raise RuntimeError("not permitted when the stream is capturing\nmore of it")

    kept, inputs = recordings(refuse), loop_inputs(2, 4, 16)
    with pytest.raises(SpeechmillError, match=r"\(not permitted when .* capturing\); use train\.record=false") as error:
        attention.recorded_loop(kept, *inputs)
    assert "\n" not in str(error.value)
    with recorded.recording(allowed=False):
        found = of_loop(partial(attention.recorded_loop, kept), inputs)
    for one, other in zip(found, of_loop(attention.fast_loop, inputs), strict=True):
        close(one, other)


def test_memory_is_given_back_once_and_for_all_recordings() -> None:
    kept = recordings()
    of_loop(partial(attention.recorded_loop, kept), loop_inputs(2, 4, 16))
    assert recorded.forget()
    assert (kept._kept, kept._taken) == ({}, 0)
    assert not recorded.forget()


def test_few_shapes_are_recorded_of_a_long_training() -> None:
    """Over the batches of train.yaml, with utterances of a wide spread of lengths and rates of speech."""
    recipe = load_recipe(HPARAMS / "train.yaml")
    rate, count, dice = recipe.features.sample_rate, 100_000, np.random.default_rng(0)
    seconds = dice.lognormal(np.log(7), 0.6, count).clip(1, recipe.select.max_seconds)
    tokens = np.maximum(1, seconds * dice.normal(3.2, 0.6, count)).astype(int)
    hours = (seconds.cumsum() // 3600).astype(int)
    utterances = Utterances(np.arange(count), hours, (seconds * rate).astype(int), tokens, rate)
    schedule = Schedule(utterances, recipe.schedule)
    batches = [schedule.batch(number) for number in range(3000)]
    exact = [(len(one), tokens[one].max() + 1, math.ceil(25 * seconds[one].max())) for one in batches]
    shapes = [attention.recorded_shape(*one) for one in exact]
    assert all((np.array(shape) >= one).all() for shape, one in zip(shapes, exact, strict=True))
    assert len(set(shapes)) < 130, "95 of 100 batches of an epoch are started as a recording"
    grown = np.array(shapes).sum(0) / np.array(exact).sum(0)
    assert (grown < 1.12).all(), "rows, tokens and steps with what they are filled up with"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: recordings of CUDA are not tried")
def test_recordings_on_a_gpu_are_the_plain_loop() -> None:
    torch.manual_seed(0)
    for shape in ((3, 7, 21), (4, 8, 32), (3, 6, 17)):
        inputs = loop_inputs(*shape, dropout=True, device="cuda")
        plain = [one.detach().cpu().requires_grad_(one.requires_grad) for one in (*inputs[:5], *inputs[5])]
        expected = of_loop(attention.fast_loop, (*plain[:5], attention.Weights(*plain[5:])))
        for one, other in zip(of_loop(attention.fast_loop, inputs), expected, strict=True):
            close(one.cpu(), other)
