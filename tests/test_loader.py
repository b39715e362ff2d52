from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from speechmill.errors import SpeechmillError
from speechmill.loader import Batch, BatchDataset, batches, padded, utterances_of
from speechmill.schedule import Schedule
from speechmill.settings import ScheduleSettings
from speechmill.shards.index import Index, open_index
from speechmill.shards.read import ShardReader
from speechmill.shards.tokens import token_counts
from speechmill.tokenizer import Tokenizer

SETTINGS = ScheduleSettings(target_seconds=6, limit_seconds=8, window_shards=2, length_jitter=0.1)


def dataset_of(index: Index, tokenizer: Tokenizer) -> BatchDataset:
    return BatchDataset(index, Schedule(utterances_of(index, "train", tokenizer), SETTINGS), tokenizer)


@pytest.fixture
def dataset(index: Index, tokenizer: Tokenizer) -> BatchDataset:
    return dataset_of(index, tokenizer)


def same(a: Batch, b: Batch) -> bool:
    return (a.number, a.ids) == (b.number, b.ids) and all(
        torch.equal(x, y) for x, y in zip(a[2:6], b[2:6], strict=True)
    )


def load(dataset: BatchDataset, numbers: Iterable[int], workers: int = 0) -> list[Batch]:
    return list(batches(dataset, numbers, workers, pin=False))


def test_a_batch_is_the_audio_and_the_targets_of_its_utterances(
    dataset: BatchDataset, index: Index, tokenizer: Tokenizer
) -> None:
    reader = ShardReader(index)
    row_of = {name: row for row, name in enumerate(index.table.column("id").to_pylist())}
    for batch in load(dataset, range(4)):
        assert (batch.audio.dtype, batch.targets.dtype) == (torch.int16, torch.int64)
        assert (batch.lengths.dtype, batch.target_lengths.dtype) == (torch.int64, torch.int64)
        assert batch.audio.shape == (len(batch.ids), int(batch.lengths.max()))
        assert batch.targets.shape == (len(batch.ids), int(batch.target_lengths.max()))
        for place, name in enumerate(batch.ids):
            length, count = int(batch.lengths[place]), int(batch.target_lengths[place])
            assert (batch.audio[place, :length].numpy() == reader.audio(row_of[name])).all()
            assert not batch.audio[place, length:].any()
            assert batch.targets[place, :count].tolist() == tokenizer.encode(reader.about(row_of[name])["text"])
            assert not batch.targets[place, count:].any()


def test_an_epoch_holds_each_utterance_of_the_split_once(dataset: BatchDataset, index: Index) -> None:
    dataset.schedule.locate(10_000)
    count = dataset.schedule.epoch_starts[1]
    ids = [name for batch in load(dataset, range(count)) for name in batch.ids]
    assert sorted(ids) == sorted(index.id(row) for row in index.rows("train"))
    assert count > 5


def test_workers_and_start_change_nothing(dataset: BatchDataset) -> None:
    alone = load(dataset, range(30))
    assert [batch.number for batch in alone] == list(range(30))
    together = load(dataset, range(30), workers=2)
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))
    later = load(dataset, range(17, 30))
    assert all(same(a, b) for a, b in zip(alone[17:], later, strict=True))
    chosen = load(dataset, [25, 3])  # in the order that is asked for
    assert all(same(a, b) for a, b in zip([alone[25], alone[3]], chosen, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_shard_is_one_clear_line(tmp_path: Path, shards: Path, tokenizer: Tokenizer, workers: int) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    damaged = dataset_of(open_index(copy), tokenizer)
    for path in copy.glob("train-*.tar"):
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(SpeechmillError, match=r"^/\S*train-00000\d\.tar: the utterance '\S*' is damaged[^\n]*again\.$"):
        load(damaged, range(10), workers)


def test_utterances_of_a_split_with_and_without_tokens(index: Index, tokenizer: Tokenizer) -> None:
    known = utterances_of(index, "valid", tokenizer)
    assert known.rows.tolist() == index.rows("valid").tolist()
    assert known.tokens.tolist() == token_counts(index, tokenizer)[known.rows].tolist()
    assert known.samples.tolist() == index.samples[known.rows].tolist()
    assert known.shard.tolist() == index.shard[known.rows].tolist()
    assert known.sample_rate == index.sample_rate
    assert utterances_of(index, "valid", None).tokens.tolist() == [0] * len(known.rows)


def test_padded_puts_zeros_behind() -> None:
    stacked, lengths = padded([np.array([1, 2, 3], np.int16), np.array([4], np.int16)], np.int16)
    assert stacked.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert stacked.dtype == torch.int16
    assert lengths.tolist() == [3, 1]
    empty, lengths = padded([np.array([], np.int64)], np.int64)
    assert (empty.tolist(), lengths.tolist()) == ([[0]], [0])


def test_to_moves_tensors_and_keeps_names(dataset: BatchDataset) -> None:
    batch = dataset[0]
    moved = batch.to(torch.device("meta"))
    assert (moved.number, moved.ids) == (batch.number, batch.ids)
    assert {part.device.type for part in moved[2:6]} == {"meta"}
    assert [part.shape for part in moved[2:6]] == [part.shape for part in batch[2:6]]


def test_the_next_windows_shards_are_fetched_ahead(dataset: BatchDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    monkeypatch.setattr(ShardReader, "fetch_ahead", lambda _, shards: asked.append(shards))
    load(dataset, range(4))
    assert asked == [dataset.schedule.shards_ahead(number).tolist() for number in range(4)]
    assert asked[0], "the first window asks for the second"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_outlives_a_signal_and_ends_when_closed(number: signal.Signals, dataset: BatchDataset) -> None:
    loaded = batches(dataset, range(50), 1, pin=False)
    first = next(loaded)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, number)
    rest = [next(loaded) for _ in range(20)]
    assert [batch.number for batch in (first, *rest)] == list(range(21))
    loaded.close()
    assert multiprocessing.active_children() == []
    assert worker.exitcode == 0
