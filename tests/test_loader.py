from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch

from speechmill.loader import Batch, BatchDataset, _Answers, batches, padded, utterances_of
from speechmill.ring import Borrower, Lender
from speechmill.schedule import LookAhead, Schedule
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


def spoil(index: Index, row: int) -> str:
    """Break the audio of one utterance; returns its id."""
    with index.shard_path(int(index.shard[row])).open("r+b") as stream:
        stream.seek(int(index.offset[row]) + int(index.size[row]) // 2)
        stream.write(bytes(40))
    return index.id(row)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_utterance_is_left_out_and_named(
    tmp_path: Path, shards: Path, tokenizer: Tokenizer, workers: int
) -> None:
    whole = load(dataset_of(open_index(shards), tokenizer), range(12))
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    index = open_index(copy)
    victims = [int(index.rows("train")[k]) for k in (0, 7, 20)]
    names = {spoil(index, row) for row in victims}
    found = load(dataset_of(index, tokenizer), range(12), workers)
    assert {damage.id for batch in found for damage in batch.damaged} == names
    for before, after in zip(whole, found, strict=True):
        assert after.number == before.number
        kept = [place for place, name in enumerate(before.ids) if name not in names]
        assert after.ids == [before.ids[place] for place in kept]
        assert [damage.id for damage in after.damaged] == [name for name in before.ids if name in names]
        for place, old in enumerate(kept):
            length, count = int(before.lengths[old]), int(before.target_lengths[old])
            assert (int(after.lengths[place]), int(after.target_lengths[place])) == (length, count)
            assert torch.equal(after.audio[place, :length], before.audio[old, :length])
            assert not after.audio[place, length:].any()
            assert torch.equal(after.targets[place, :count], before.targets[old, :count])
        if kept:
            assert after.audio.shape[1] == int(after.lengths.max())
    for damage in (damage for batch in found for damage in batch.damaged):
        assert re.match(rf"/\S*train-00000\d\.tar: the utterance '{damage.id}' is damaged: [^\n]*\.$", damage.reason)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_of_a_shard_that_is_gone_are_empty(
    tmp_path: Path, shards: Path, tokenizer: Tokenizer, workers: int
) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    damaged = dataset_of(open_index(copy), tokenizer)
    for path in copy.glob("train-*.tar"):
        path.write_bytes(path.read_bytes()[:2000])
    found = load(damaged, range(5), workers)
    assert any(not batch.ids for batch in found)
    for batch in found:
        assert len(batch.ids) + len(batch.damaged) == len(damaged.request(batch.number).rows)
        assert batch.audio.shape[0] == batch.lengths.shape[0] == batch.targets.shape[0] == len(batch.ids)
        assert (batch.audio.dtype, batch.lengths.dtype, batch.targets.dtype) == (torch.int16, torch.int64, torch.int64)


def test_the_fast_path_makes_the_batches_of_the_slow_one(tmp_path: Path, shards: Path, tokenizer: Tokenizer) -> None:
    index = open_index(Path(shutil.copytree(shards, tmp_path / "copy")))
    for row in index.rows("train")[[2, 3, 11]].tolist():
        spoil(index, row)
    dataset = dataset_of(index, tokenizer)
    damaged = 0
    for number in range(30):
        fast, slow = (dataset.assembler.batch(dataset.request(number), fast) for fast in (True, False))
        assert same(fast, slow)
        assert [damage.id for damage in fast.damaged] == [damage.id for damage in slow.damaged]
        damaged += len(fast.damaged)
    assert damaged >= 3


def test_pinned_batches_are_copies_of_the_same(dataset: BatchDataset) -> None:
    borrower = Borrower(1)
    lender = Lender(borrower.ring, 0, borrower.returned[0])
    handed = _Answers(dataset.assembler, borrower)._handed(dataset.request(3), lender)
    found = pickle.loads(ForkingPickler.dumps(handed)).batch()  # noqa: S301
    assert same(found, dataset[3])
    assert same(handed.batch(), dataset[3])


def test_batches_that_are_kept_stay_as_they_are(dataset: BatchDataset) -> None:
    kept = load(dataset, range(40), workers=1)
    assert all(same(batch, dataset[batch.number]) for batch in kept)


def test_workers_are_not_forked_from_this_process_and_bring_no_schedule(dataset: BatchDataset) -> None:
    assert len(pickle.dumps(dataset.assembler._index)) < 500
    loaded = batches(dataset, range(20), 2, pin=False)
    next(loaded)
    parents = {parent_of(worker.pid) for worker in multiprocessing.active_children() if worker.pid}
    assert len(parents) == 1
    assert parents != {os.getpid()}
    loaded.close()


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


def test_to_moves_the_audio_and_keeps_what_is_asked_for_numbers(dataset: BatchDataset) -> None:
    batch = dataset[0]
    moved = batch.to(torch.device("meta"))
    assert (moved.number, moved.ids) == (batch.number, batch.ids)
    assert (moved.audio.device.type, moved.audio.shape) == ("meta", batch.audio.shape)
    assert all(part is before for part, before in zip(moved[3:6], batch[3:6], strict=True))


def test_the_next_windows_shards_are_fetched_ahead(dataset: BatchDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    monkeypatch.setattr(
        ShardReader, "fetch_ahead", lambda _, shards, lanes: asked.append(shards[:lanes] + shards[lanes:])
    )
    load(dataset, range(4))
    ahead = LookAhead(dataset.schedule)
    assert asked == [shards for number in range(4) for shards in ahead.begun(number).ahead]
    assert len(asked) >= 2, "the first window asks for itself and for the second"


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


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def runs(process: int) -> bool:
    """Whether it is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Loads, tells its own and its workers' process ids, and goes on loading until it has all.
LOADS = """
import multiprocessing, os, signal, sys, time
from pathlib import Path
from test_loader import dataset_of
from speechmill.loader import batches
from speechmill.shards.index import open_index
from speechmill.tokenizer import load_tokenizer

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    dataset = dataset_of(open_index(Path(sys.argv[1])), load_tokenizer(Path(sys.argv[2])))
    loaded = batches(dataset, range(60), 1, pin=False)
    next(loaded)
    print(*[worker.pid for worker in multiprocessing.active_children()], flush=True)
    sys.stdin.readline()
    print(sum(1 for _ in loaded), flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def loading(tmp_path: Path, shards: Path, tokenizer_path: Path) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "loads.py").write_text(LOADS)
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "loads.py"), str(shards), str(tokenizer_path)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env=os.environ | {"PYTHONPATH": path},
    ) as process:  # fmt: skip
        yield process
        process.kill()


def answer(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    return [int(word) for word in process.stdout.readline().split()]


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("on\n")
    process.stdin.flush()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_leaves_the_workers(number: signal.Signals, loading: subprocess.Popen[str]) -> None:
    (worker,) = answer(loading)
    os.killpg(loading.pid, number)  # as Ctrl-C and Slurm do; the trainer itself saves and leaves when it has time
    tell(loading)
    assert answer(loading) == [59]
    assert worker


def test_no_worker_outlives_a_killed_trainer(loading: subprocess.Popen[str]) -> None:
    (worker,) = answer(loading)
    server = parent_of(worker)
    loading.kill()
    for _ in range(600):
        if not (runs(worker) or runs(server)):
            return
        time.sleep(0.1)
    pytest.fail("the worker of a killed process is still there after a minute")
