from __future__ import annotations

import pickle
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from conftest import RATE, SHARD_SETTINGS
from speechmill.errors import SpeechmillError
from speechmill.loader import BatchDataset, utterances_of
from speechmill.schedule import Schedule
from speechmill.settings import ScheduleSettings, ShardFolder
from speechmill.shards.index import Index, open_index
from speechmill.shards.mixture import Mixture, open_data
from speechmill.shards.read import ShardReader
from speechmill.shards.tokens import token_counts
from speechmill.shards.write import shard_manifest
from speechmill.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def other(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same utterances in other shards: names of shards and of utterances are there twice."""
    folder = tmp_path_factory.mktemp("other") / "shards"
    shard_manifest(manifest, folder, SHARD_SETTINGS.model_copy(update={"seed": 7, "shard_seconds": 9.0}), processes=1)
    return folder


@pytest.fixture(scope="module")
def mixture(shards: Path, other: Path) -> Index:
    return open_data([ShardFolder(path=str(shards)), ShardFolder(path=str(other), weight=0.5)])


def test_a_mixture_reads_as_its_parts_behind_one_another(mixture: Index, shards: Path, other: Path) -> None:
    parts = [open_index(shards), open_index(other)]
    assert len(mixture) == sum(len(part) for part in parts)
    reader = ShardReader(mixture)
    expected = [(part, row) for part in parts for row in range(len(part))]
    for row, (part, place) in list(enumerate(expected))[::7]:
        assert mixture.id(row) == part.id(place)
        assert mixture.shard_path(int(mixture.shard[row])) == part.shard_path(int(part.shard[place]))
        assert (reader.audio(row) == ShardReader(part).audio(place)).all()
        assert reader.about(row) == ShardReader(part).about(place)
    for column in ("split", "call", "speaker", "session"):
        names = mixture.names(column)
        assert [names[code] for code in mixture.codes(column)] == [
            part.names(column)[code] for part in parts for code in part.codes(column)
        ]
    assert mixture.rows("valid").tolist() == [
        *parts[0].rows("valid"), *(parts[1].rows("valid") + len(parts[0]))
    ]  # fmt: skip


def test_another_process_opens_the_same_mixture(mixture: Index) -> None:
    again = pickle.loads(pickle.dumps(mixture))  # noqa: S301
    assert isinstance(again, Mixture)
    assert again.fingerprint == mixture.fingerprint
    assert (again.offset == mixture.offset).all()
    assert [again.id(row) for row in (0, len(again) - 1)] == [mixture.id(row) for row in (0, len(mixture) - 1)]


def test_folders_order_and_weights_name_the_data(shards: Path, other: Path) -> None:
    def name(*folders: tuple[Path, float]) -> str:
        return open_data([ShardFolder(path=str(path), weight=weight) for path, weight in folders]).fingerprint

    names = [
        name((shards, 1)), name((shards, 1), (other, 1)), name((other, 1), (shards, 1)), name((shards, 1), (other, 2))
    ]  # fmt: skip
    assert len(set(names)) == 4
    assert open_data(str(shards)).fingerprint == open_index(shards).fingerprint


def test_token_counts_are_those_of_the_parts(mixture: Index, shards: Path, other: Path, tokenizer: Tokenizer) -> None:
    assert token_counts(mixture, tokenizer).tolist() == [
        *token_counts(open_index(shards), tokenizer), *token_counts(open_index(other), tokenizer)
    ]  # fmt: skip


def test_an_epoch_has_each_folder_as_often_as_its_weight_says(mixture: Index, tokenizer: Tokenizer) -> None:
    assert isinstance(mixture, Mixture)
    settings = ScheduleSettings(target_seconds=6, limit_seconds=8, window_shards=2)
    utterances = utterances_of(mixture, "train", tokenizer)
    assert [part.weight for part in utterances.parts] == [Fraction(1), Fraction(1, 2)]
    schedule = Schedule(utterances, settings)
    schedule.locate(0)
    while len(schedule.epoch_starts) < 5:
        schedule.locate(schedule.epoch_starts[-1])
    dataset = BatchDataset(mixture, schedule, tokenizer)
    seen = [0, 0]
    for epoch in range(4):
        counts: Counter[int] = Counter()
        for number in range(schedule.epoch_starts[epoch], schedule.epoch_starts[epoch + 1]):
            rows = utterances.rows[schedule.batch(number)]
            counts.update(rows.tolist())
            assert dataset[number].ids == [mixture.id(row) for row in rows.tolist()]
        first = [row for row in counts if row < len(mixture.parts[0])]
        assert len(first) == len(utterances.rows[: utterances.parts[0].end])
        assert set(counts.values()) == {1}
        seen[0] += len(first)
        seen[1] += len(counts) - len(first)
    passes = [4, 2]
    sizes = [utterances.parts[0].end, utterances.parts[1].end - utterances.parts[0].end]
    assert seen == [size * times for size, times in zip(sizes, passes, strict=True)]


def test_folders_that_do_not_go_together(tmp_path: Path, shards: Path, manifest: Path) -> None:
    fast = tmp_path / "fast"
    shard_manifest(manifest, fast, SHARD_SETTINGS.model_copy(update={"sample_rate": 2 * RATE}), processes=1)
    with pytest.raises(SpeechmillError, match=r"fast: holds audio at 16000 Hz, .* at 8000 Hz"):
        open_data([ShardFolder(path=str(shards)), ShardFolder(path=str(fast))])
    with pytest.raises(SpeechmillError, match="is there twice"):
        open_data([ShardFolder(path=str(shards)), ShardFolder(path=str(shards), weight=2)])
    with pytest.raises(SpeechmillError, match="too small"):
        open_data([ShardFolder(path=str(shards), weight=1e-5)])
    with pytest.raises(SpeechmillError, match=r"data\.shards is not set"):
        open_data([])
    with pytest.raises(SpeechmillError, match="no such folder of shards"):
        open_data([ShardFolder(path=str(tmp_path / "none"))])


def test_a_folder_without_the_split_is_named(tmp_path: Path, shards: Path, manifest: Path) -> None:
    import polars as pl

    from speechmill.manifest import read_manifest, write_manifest

    write_manifest(read_manifest(manifest).filter(pl.col("split") == "test"), tmp_path / "test.parquet")
    shard_manifest(tmp_path / "test.parquet", tmp_path / "tests", SHARD_SETTINGS, processes=1)
    mixed = open_data([ShardFolder(path=str(shards)), ShardFolder(path=str(tmp_path / "tests"))])
    with pytest.raises(SpeechmillError, match=r"tests: has no utterances of the split that is mixed"):
        utterances_of(mixed, "train", None)
    assert np.array_equal(mixed.rows("valid"), open_index(shards).rows("valid"))
