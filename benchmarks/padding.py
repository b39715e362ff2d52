"""Padding and mixing of our schedule, SpeechBrain's DynamicBatchSampler and Lhotse's DynamicBucketingSampler.

The same lengths for all three (log-normal around 6 s, clipped to 1-60 s), batches of at most 180 s with their padding,
ours with the schedule of `hparams/train.yaml`. Mixing is measured by how often neighbours in file order share a batch,
against two utterances chosen by chance, and by how far utterances travel from where they are read.

    python -m benchmarks.padding [--quick] [--json -]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from speechmill.artefact import write_json
from speechmill.config import load_recipe
from speechmill.schedule import Epoch, Utterances
from speechmill.settings import ScheduleSettings

RATE = 16000  # Hz
SHARD_SECONDS = 3600.0  # of audio, as in hparams/dataset.yaml
RESULT = Path(__file__).parent / "results" / "padding.json"
TRAIN_RECIPE = Path(__file__).parent.parent / "hparams" / "train.yaml"
_NEAR = 50  # places in file order within which a call's next utterances lie

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def utterance_seconds(count: int, seed: int = 0) -> Floats:
    """Log-normal around 6 s, clipped to 1-60 s, as in earnings calls. The mean is 8.2 s: 9 million are 20,600 h."""
    return np.clip(np.exp(np.random.default_rng(seed).normal(np.log(6.0), 0.8, count)), 1.0, 60.0)


def padding_figures(quick: bool) -> dict[str, Any]:
    """Padding (a share of the batches) and mixing of the three, by name; those of ours have no suffix."""
    seconds = utterance_seconds(100_000 if quick else 1_000_000)
    settings = load_recipe(TRAIN_RECIPE).schedule
    figures: dict[str, Any] = {
        "utterances": len(seconds), "hours": round(float(seconds.sum()) / 3600, 1),
        "target_seconds": settings.target_seconds, "limit_seconds": settings.limit_seconds,
    }  # fmt: skip
    sides: dict[str, Callable[[], tuple[list[Ints], Floats | None]]] = {
        "": lambda: _ours(seconds, settings),
        "_speechbrain": lambda: (_speechbrain(seconds, settings), None),
        "_lhotse": lambda: (_lhotse(seconds, settings), None),
    }
    for suffix, make in sides.items():
        started = time.perf_counter()
        batches, read_at = make()
        spent = time.perf_counter() - started
        measured = mixing(seconds, batches, read_at) | {"schedule_seconds": round(spent, 3)}
        figures |= {f"{name}{suffix}": value for name, value in measured.items()}
    window = window_chance(seconds, settings)
    figures["window_chance"] = window
    figures["near_to_window_chance"] = round(figures["near_share_a_batch"] / window, 3)
    return figures


def _ours(seconds: Floats, settings: ScheduleSettings) -> tuple[list[Ints], Floats]:
    """The batches, and at which second of the epoch's sequential reading each utterance comes by."""
    epoch = epoch_of(seconds, settings)
    batches = [epoch.batch(k) for k in range(len(epoch))]
    starts = epoch.utterances.shard_starts
    order = np.concatenate(
        [np.arange(starts[s], starts[s + 1]) for window in epoch.windows for s in np.sort(window.shard)]
    )
    read_at = np.empty(len(seconds))
    read_at[order] = np.cumsum(seconds[order])
    return batches, read_at


def epoch_of(seconds: Floats, settings: ScheduleSettings) -> Epoch:
    """Our first epoch of utterances of these lengths, an hour to a shard."""
    shard = (np.cumsum(seconds) // SHARD_SECONDS).astype(np.int64)
    count = len(seconds)
    return Epoch(
        Utterances(np.arange(count), shard, np.round(seconds * RATE).astype(np.int64), np.zeros(count), RATE),
        settings, 0,
    )  # fmt: skip


def _speechbrain(seconds: Floats, settings: ScheduleSettings) -> list[Ints]:
    """With 200 buckets, as in SpeechBrain's LibriSpeech recipes; it shuffles the whole set, so reading is random."""
    from speechbrain.dataio.sampler import DynamicBatchSampler

    sampler = DynamicBatchSampler(
        range(len(seconds)), settings.target_seconds, num_buckets=200, shuffle=True, batch_ordering="random",
        lengths_list=seconds.tolist(),
    )  # fmt: skip
    return [np.array(batch) for batch in sampler]


def _lhotse(seconds: Floats, settings: ScheduleSettings) -> list[Ints]:
    """With 30 buckets, as in icefall's LibriSpeech recipe, and the default buffer of 20,000 utterances."""
    from lhotse import MonoCut
    from lhotse.dataset import DynamicBucketingSampler

    class Cuts:
        def __iter__(self) -> Iterator[MonoCut]:
            for number, length in enumerate(seconds.tolist()):
                yield MonoCut(str(number), 0.0, length, 0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = DynamicBucketingSampler(
            Cuts(), max_duration=settings.target_seconds, num_buckets=30, shuffle=True, world_size=1, rank=0
        )
        return [np.array([int(cut.id) for cut in batch]) for batch in sampler]


def mixing(seconds: Floats, batches: list[Ints], read_at: Floats | None = None) -> dict[str, float]:
    """Padding, and how well an epoch is mixed.

    `neighbours_share_a_batch`: of direct neighbours in file order, and `near_...`: of those at most 50 places apart,
    the share that are in one batch; `chance`: of any two utterances of the epoch. `travel_hours`: the median distance
    between where an utterance is read (in file order, where `read_at` does not say) and where it is trained on.
    """
    sizes = np.array([len(batch) for batch in batches])
    padded = sum(float(seconds[batch].max()) * len(batch) for batch in batches)
    members = np.concatenate(batches)
    number = np.empty(len(seconds), dtype=np.int64)
    number[members] = np.repeat(np.arange(len(batches)), sizes)
    chance = float((sizes * (sizes - 1.0)).sum() / (len(seconds) * (len(seconds) - 1.0)))
    neighbours = float((number[1:] == number[:-1]).mean())
    near = float(np.mean([(number[d:] == number[:-d]).mean() for d in range(1, _NEAR + 1)]))
    trained_at = np.empty(len(seconds))
    trained_at[members] = np.cumsum(seconds[members])
    read_at = np.cumsum(seconds) if read_at is None else read_at
    return {
        "padding": round(1.0 - float(seconds[members].sum()) / padded, 5),
        "batch_seconds": round(padded / len(batches), 1),
        "chance": chance,
        "neighbours_share_a_batch": neighbours,
        "neighbours_to_chance": round(neighbours / chance, 3),
        "near_share_a_batch": near,
        "travel_hours": round(float(np.median(np.abs(trained_at - read_at))) / 3600, 2),
    }


def window_chance(seconds: Floats, settings: ScheduleSettings) -> float:
    """The chance that two utterances of one window of ours share a batch: what a perfect shuffle in it would give."""
    epoch = epoch_of(seconds, settings)
    sizes = np.array([len(epoch.batch(k)) for k in range(len(epoch))], dtype=np.float64)
    held = np.bincount(epoch.window, weights=sizes)
    pairs = np.bincount(epoch.window, weights=sizes * (sizes - 1))
    return float((pairs / np.maximum(1, held - 1)).sum() / held.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100,000 utterances instead of a million")
    parser.add_argument("--json", metavar="PATH", type=Path, default=RESULT, help="-: print it (default: %(default)s)")
    args = parser.parse_args()
    from benchmarks.machine import machine  # not at the head: who only takes the lengths needs no torch

    result = padding_figures(args.quick) | {"machine": machine()}
    if str(args.json) == "-":
        json.dump(result, sys.stdout, indent=1)
        print()
    else:
        write_json(args.json, result)


if __name__ == "__main__":
    main()
