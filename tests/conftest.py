"""Fixtures shared by the tests: a tiny corpus whose words are tones, and what each stage makes of it.

Session-scoped: tests read them and change only copies (`shutil.copytree`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import soundfile
from hypothesis import HealthCheck, settings

from slurm_cluster import cluster  # noqa: F401  (a fixture)
from speechmill.corpora import import_corpus
from speechmill.select import select_manifest
from speechmill.settings import SelectSettings, ShardSettings, TokenizerSettings
from speechmill.shards.index import Index, open_index
from speechmill.shards.write import shard_manifest
from speechmill.tokenizer import Tokenizer, load_tokenizer, train_tokenizer

settings.register_profile(
    "speechmill", derandomize=True, deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("speechmill")


def calm_lazy_modules() -> None:
    """Hypothesis asks every module for its file; SpeechBrain's lazy ones then import what is not installed (k2)."""
    importutils = sys.modules.get("speechbrain.utils.importutils")
    if importutils is not None:
        importutils.LazyModule.__file__ = None  # type: ignore[attr-defined]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems() -> None:
    calm_lazy_modules()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    calm_lazy_modules()


RATE = 8000  # Hz, of the recordings and of the shards
CALLS = 12
ROWS = 6  # utterances of a call
# A word is a tone of a quarter of a second.
TONES = {
    "cash": 400,
    "cost": 550,
    "debt": 740,
    "growth": 980,
    "margin": 1280,
    "price": 1650,
    "sales": 2100,
    "share": 2700,
}
WORD_SECONDS = 0.25
GAP_SECONDS = 0.05
TEST_CALLS = ["1010", "1011"]
VALID_CALLS = ["1008", "1009"]
SHARD_SETTINGS = ShardSettings(sample_rate=RATE, shard_seconds=15.0, group_shards=2)


def words_of(call: int, row: int) -> list[str]:
    rng = np.random.default_rng([call, row])
    return [list(TONES)[k] for k in rng.integers(0, len(TONES), 2 + (call + row) % 6)]


def sound(words: list[str], tuning: float = 1.0) -> npt.NDArray[np.float64]:
    """The tones of some words, [samples] between -1 and 1, silence around each."""
    gap = np.zeros(round(GAP_SECONDS * RATE))
    time = np.arange(round(WORD_SECONDS * RATE)) / RATE
    fade = np.minimum(1.0, np.minimum(time, time[::-1]) / 0.01)
    tones = [[0.4 * fade * np.sin(2 * np.pi * TONES[word] * tuning * time), gap] for word in words]
    return np.concatenate([gap, *(part for tone in tones for part in tone)])


def sentence(words: list[str]) -> str:
    """As written: a capital and a full stop, which WER-P counts and WER does not."""
    return " ".join(words).capitalize() + "."


def write_call(media: Path, call: int, native: bool) -> None:
    rng = np.random.default_rng(call)
    folder = media / str(call)
    folder.mkdir(parents=True)
    lines = ["SentenceID\tSpeakerID\tSession\tSentenceTimeGen\tSentence"]
    audio, at = [], 0
    for row in range(ROWS):
        words = words_of(call, row)
        session = "presentation" if row < ROWS // 2 else "q-and-a"
        lines.append(f"S{row:03d}\t{call}{row % 2}\t{session}\t00:00:{at / RATE:06.3f}\t{sentence(words)}")
        audio.append(sound(words, 1.0 if native else 1.03))
        at += len(audio[-1])
    lines.append(f"END\t{call}0\tq-and-a\t00:00:{at / RATE:06.3f}\t")
    noisy = np.concatenate(audio) + 0.005 * rng.standard_normal(at)
    soundfile.write(folder / "recording.wav", np.clip(noisy, -1, 1), RATE, subtype="PCM_16")
    (folder / "transcript_timealigned.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 calls of 6 utterances (0.65 to 2.15 s) in the BizSpeech layout, WAV at 8 kHz, every second call native."""
    source = tmp_path_factory.mktemp("corpus")
    about = {}
    for call in range(1000, 1000 + CALLS):
        native = call % 2 == 0
        write_call(source / "MEDIA", call, native)
        about[str(call)] = {
            "partition": 5 if native else 2,
            "ceoID": f"{call}0",
            "company": f"C{call}",
            "country": "XX",
        }
    (source / "metadata").mkdir()
    (source / "metadata" / "BizSpeech_MetaData.json").write_text(json.dumps(about), encoding="utf-8")
    return source


@pytest.fixture(scope="session")
def manifest(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Imported and selected: 8 calls of train, 2 of valid, 2 of test; one of each two is native."""
    folder = tmp_path_factory.mktemp("manifest")
    import_corpus("bizspeech", corpus, folder / "corpus.parquet")
    wish = SelectSettings(min_seconds=0.2, valid_calls=VALID_CALLS, test_calls=TEST_CALLS)
    select_manifest(folder / "corpus.parquet", folder / "selected.parquet", wish)
    return folder / "selected.parquet"


@pytest.fixture(scope="session")
def shards(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shards of `manifest` at 8 kHz: several of train, one or two of valid and test."""
    folder = tmp_path_factory.mktemp("shards") / "shards"
    shard_manifest(manifest, folder, SHARD_SETTINGS, processes=1)
    return folder


@pytest.fixture(scope="session")
def index(shards: Path) -> Index:
    return open_index(shards)


@pytest.fixture(scope="session")
def tokenizer_path(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of single characters, as written, of all that the train text has."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    train_tokenizer(manifest, path, tokenizer_settings(manifest))
    return path


@pytest.fixture(scope="session")
def tokenizer(tokenizer_path: Path) -> Tokenizer:
    return load_tokenizer(tokenizer_path)


def tokenizer_settings(manifest: Path) -> TokenizerSettings:
    texts = pl.read_parquet(manifest).filter(split="train")["text"]
    characters = set("".join(texts)) - {" "}
    # Two more: unknown, and the mark that SentencePiece puts for a space.
    return TokenizerSettings(kind="char", size=len(characters) + 2)
