"""Run a function of this folder in several ranks: real processes, a real group."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from speechmill.group import ALONE, Group, joined
from speechmill.loader import Batch
from speechmill.models import build_model
from speechmill.models.base import Recognizer
from speechmill.settings import CrdnnSettings, Recipe
from speechmill.strategies import build_strategy
from speechmill.strategies.base import Strategy
from speechmill.train.optim import build_optimizer

TOKENS = 9
CPU = torch.device("cpu")
TIMEOUT = 60.0

# BatchNorm, dropout, attention: all that could tell one way of training from another.
CRDNN = CrdnnSettings(
    cnn_channels=[4], rnn_layers=1, rnn_size=6, dnn_blocks=2, dnn_size=8, embedding_size=6, decoder_size=8,
    attention_size=8, attention_channels=2, attention_kernel=5, dropout=0.15,
)  # fmt: skip


def on_ranks(
    size: int, function: Callable[..., Any], *arguments: Any, folder: Path, together: bool = True
) -> list[Any]:
    """function(group, *arguments) on `size` ranks; what each returned, by rank.

    Not `together`: as if each had a machine of its own.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["speechmill.strategies.ddp", "speechmill.models.crdnn", "speechmill.train.optim"])
    port = _free_port()
    processes = []
    for rank in range(size):
        out = folder / f"{size}-{rank}.pt"
        out.unlink(missing_ok=True)
        process = context.Process(target=_rank, args=(rank, size, together, port, str(out), function, arguments))
        process.start()
        processes.append(process)
    for process in processes:
        process.join(TIMEOUT * 2)
    codes = [process.exitcode for process in processes]
    assert codes == [0] * size, f"the ranks ended with {codes}"
    return [torch.load(folder / f"{size}-{rank}.pt", weights_only=True) for rank in range(size)]


def _rank(
    rank: int, size: int, together: bool, port: int, out: str, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if together:
        os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size)}
    with joined(TIMEOUT) as group:
        torch.save(function(group, *arguments), out)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def build(settings: Recipe) -> Recognizer:
    torch.manual_seed(0)
    model = build_model(settings, TOKENS)
    return model.double() if settings.train.precision == "float64" else model


def make_batch(number: int, size: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(number)
    lengths = torch.randint(2000, 5000, (size,), generator=generator)
    audio = torch.randint(-3000, 3000, (size, int(lengths.max())), generator=generator, dtype=torch.int16)
    audio *= torch.arange(audio.shape[1]) < lengths[:, None]
    targets = torch.randint(1, TOKENS, (size, 4), generator=generator)
    target_lengths = torch.randint(1, 5, (size,), generator=generator)
    return Batch(number, [f"u{number}-{row}" for row in range(size)], audio, lengths, targets, target_lengths)


def uneven(number: int) -> Batch:
    """One to four utterances."""
    return make_batch(number, 1 + number * 7 % 4)


def strategy_of(settings: Recipe, group: Group = ALONE) -> Strategy:
    torch.set_num_threads(1)
    model = build(settings).train()
    optimizer = build_optimizer(model.parameters(), settings.optim)
    return build_strategy(model, optimizer, settings, CPU, group, 0, None, [0])


def trained(group: Group, settings: Recipe, updates: int) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses per token of some updates, and the parameters after them."""
    strategy = strategy_of(settings, group)
    losses = []
    for number in range(updates):
        stats = strategy.update([uneven(batch) for batch in strategy.mine(number)], number)
        losses.append(stats.loss / max(1, stats.tokens))
    return losses, {name: value.detach() for name, value in strategy.model.named_parameters()}
