"""The training loop: what it writes and keeps, what it refuses, losses that are not finite."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from conftest import SHARD_SETTINGS, tokenizer_settings
from speechmill.cli import main
from speechmill.config import override_recipe
from speechmill.errors import SpeechmillError
from speechmill.losses import LossSum
from speechmill.metrics import read_metrics
from speechmill.models.ctc import CtcRecognizer
from speechmill.models.ngram import NgramModel
from speechmill.settings import Recipe
from speechmill.shards.write import shard_manifest
from speechmill.text import normalize
from speechmill.tokenizer import Tokenizer, train_tokenizer
from speechmill.train.checkpoint import checkpoints, find_checkpoint
from speechmill.train.language import LANGUAGE_MODEL_NAME
from speechmill.train.loop import train
from speechmill.train.prepare import check_gpus_are_seen
from speechmill.train.runlog import read_config
from trained import (
    assert_names_the_last_batches,
    augmented_recipe,
    logged,
    stopped_run,
    undisturbed_run,
    weights,
)


@pytest.fixture(scope="module")
def recipe(shards: Path, tokenizer_path: Path) -> Recipe:
    return augmented_recipe(shards, tokenizer_path)


@pytest.fixture(scope="module")
def undisturbed(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed_run(recipe, tmp_path_factory)


@pytest.fixture
def unfinished(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return stopped_run(recipe, tmp_path / "run", monkeypatch)


def test_what_the_run_folder_holds(undisturbed: Path) -> None:
    records = read_metrics(undisturbed)
    assert [r["update"] for r in records if r["event"] == "train"] == list(range(3, 25, 3))
    assert [r["update"] for r in records if r["event"] == "valid"] == [8, 16, 24]
    assert set(records[0]) == {
        "event",
        "update",
        "seconds",
        "audio_seconds",
        "epoch",
        "loss",
        "lr",
        "grad_norm",
        "padding",
        "data_wait",
        "skipped",
        "damaged",
    }
    valid = next(r for r in records if r["event"] == "valid")
    assert set(valid) == {
        "event",
        "update",
        "seconds",
        "audio_seconds",
        "wer",
        "wer_p",
        "cer",
        "cer_p",
        "utterances",
        "valid_seconds",
    }
    best = min((r for r in records if r["event"] == "valid"), key=lambda r: r["wer"])
    end = records[-1]
    assert (end["event"], end["update"], end["best_update"], end["best_wer"]) == (
        "end",
        24,
        best["update"],
        best["wer"],
    )
    assert records[-3]["loss"] < records[0]["loss"], "it does not learn"
    assert all(0 <= r["padding"] < 0.5 and 0 <= r["data_wait"] <= 1 for r in records if r["event"] == "train")
    assert list((undisturbed / "events").glob("events.out.tfevents.*"))
    for name in ("config.yaml", "environment.json", "tokenizer.model", "tokenizer.model.json"):
        assert (undisturbed / name).is_file(), name


def test_the_last_and_the_best_are_kept(undisturbed: Path) -> None:
    best = read_metrics(undisturbed)[-1]["best_update"]
    assert [int(path.name[5:]) for path in checkpoints(undisturbed)] == sorted({best, 20, 24})
    assert find_checkpoint(undisturbed, "best").name == f"step_{best:08d}"


def test_a_finished_run_returns_at_once(recipe: Recipe, undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    monkeypatch.setattr("speechmill.train.loop.prepare", lambda *_: pytest.fail("nothing is left to do"))
    report = train(recipe, undisturbed)
    assert (report.finished, report.already_whole, report.updates) == (True, True, 24)
    assert report.best_wer == read_metrics(undisturbed)[-1]["best_wer"]
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path in before} == before


def test_a_finished_run_goes_on_to_more_updates(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[bool] = []
    monkeypatch.setattr("speechmill.train.loop.keep_freed", lambda: kept.append(True))
    run, constant = tmp_path / "run", override_recipe(recipe, ["optim.schedule=constant", "train.updates=4"])
    assert train(constant, run).finished
    assert train(override_recipe(constant, ["train.updates=6"]), run).finished
    assert kept == [True, True]  # what each frees is kept, see heap.py
    records = read_metrics(run)
    assert [r["update"] for r in records if r["event"] == "end"] == [6]
    assert [r["update"] for r in records if r["event"] == "train"] == [3, 6]


def test_updates_that_the_learning_rate_depends_on_stay(recipe: Recipe, undisturbed: Path, unfinished: Path) -> None:
    message = "was trained for 24 updates, train.updates is 27 here: with optim.schedule cosine"
    for run in (undisturbed, unfinished):
        with pytest.raises(SpeechmillError, match=message):
            train(override_recipe(recipe, ["train.updates=27"]), run)


def test_another_search_on_a_finished_run(recipe: Recipe, undisturbed: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    assert train(override_recipe(recipe, ["search.lm_order=2"]), run).already_whole
    assert read_config(run).search.lm_order == 2
    assert not (run / LANGUAGE_MODEL_NAME).exists(), "greedy search reads none"
    for order in (3, 2):
        other = override_recipe(recipe, ["search.kind=beam", f"search.lm_order={order}", "train.log_every=5"])
        assert train(other, run).already_whole
        assert NgramModel.load(run / LANGUAGE_MODEL_NAME).order == order
    assert read_config(run) == override_recipe(recipe, ["search.kind=beam", "search.lm_order=2"])
    assert logged(run) == logged(undisturbed)


def test_a_run_without_a_checkpoint_may_be_begun_anew(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, short = tmp_path / "run", override_recipe(recipe, ["train.max_nonfinite=1", "train.updates=4"])
    with monkeypatch.context() as patched:
        break_loss(patched, lambda call: call >= 0)
        with pytest.raises(SpeechmillError, match=r"lower optim\.lr in a new run folder"):
            train(override_recipe(short, ["search.kind=beam", "search.lm_order=2"]), run)
    assert (run / LANGUAGE_MODEL_NAME).is_file()
    assert train(override_recipe(short, ["optim.lr=0.001", "model.size=8"]), run).finished
    assert read_config(run).optim.lr == 0.001
    assert not (run / LANGUAGE_MODEL_NAME).exists(), "it was of another training"


def test_paths_in_the_run_folder_are_absolute(
    recipe: Recipe, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shards.parent)
    relative = override_recipe(recipe, [f"data.shards={shards.name}", "train.updates=4"])
    train(relative, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert Path(read_config(tmp_path / "run").data.shards) == shards.resolve()
    assert train(read_config(tmp_path / "run"), tmp_path / "run").already_whole


def test_another_recipe_is_refused_by_its_key(recipe: Recipe, undisturbed: Path) -> None:
    with pytest.raises(SpeechmillError, match=r"another recipe: optim\.lr is 0\.02 there and 0\.5 here"):
        train(override_recipe(recipe, ["optim.lr=0.5"]), undisturbed)


def test_another_tokenizer_is_refused(recipe: Recipe, unfinished: Path, manifest: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(manifest)
    longer = pl.col("text").str.replace_all("cost", "cost cost cost")  # the same characters, counted otherwise
    table.with_columns(longer).write_parquet(tmp_path / "other.parquet")
    other = tmp_path / "other.model"
    train_tokenizer(tmp_path / "other.parquet", other, tokenizer_settings(manifest))
    with pytest.raises(SpeechmillError, match="was trained with another tokenizer"):
        train(override_recipe(recipe, [f"data.tokenizer={other}"]), unfinished)


def test_a_tokenizer_that_is_not_the_recipes(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match=r"this tokenizer has kind char, the recipe's tokenizer\.kind is bpe"):
        train(override_recipe(recipe, ["tokenizer.kind=bpe"]), tmp_path / "run")


def test_a_checkpoint_of_another_recipe_is_refused(recipe: Recipe, unfinished: Path) -> None:
    other = override_recipe(recipe, ["model.size=24"])
    (unfinished / "config.yaml").unlink()
    with pytest.raises(SpeechmillError, match="step_00000010: a checkpoint of another recipe"):
        train(other, unfinished)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.shards=''", "data.shards is not set"),
        ("data.tokenizer=''", "data.tokenizer is not set"),
        ("data.shards=nowhere", "nowhere: no such folder of shards"),
        ("data.tokenizer=nowhere", "nowhere: no such tokenizer"),
    ],
)
def test_bad_input(recipe: Recipe, override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match=message):
        train(override_recipe(recipe, [override]), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_shards_of_another_rate(recipe: Recipe, tmp_path: Path) -> None:
    other = override_recipe(recipe, ["shard.sample_rate=16000", "features.sample_rate=16000", "features.n_fft=400"])
    with pytest.raises(SpeechmillError, match=r"holds audio at 8000 Hz, features\.sample_rate is 16000"):
        train(other, tmp_path / "run")


def test_no_validation_split_is_told_at_the_start(recipe: Recipe, manifest: Path, tmp_path: Path) -> None:
    pl.read_parquet(manifest).filter(pl.col("split") == "train").write_parquet(tmp_path / "train.parquet")
    shard_manifest(tmp_path / "train.parquet", tmp_path / "shards", SHARD_SETTINGS, 1)
    with pytest.raises(SpeechmillError, match="no split 'valid' here"):
        train(override_recipe(recipe, [f"data.shards={tmp_path / 'shards'}"]), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_shards_that_were_never_selected(
    recipe: Recipe, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pl.read_parquet(manifest).with_columns(split=pl.lit("")).write_parquet(tmp_path / "all.parquet")
    assert main(["shard", str(tmp_path / "all.parquet"), str(tmp_path / "shards"), "shard.sample_rate=8000"]) == 0
    assert "note: " in (shown := capsys.readouterr().out)
    assert "all.parquet has no splits; for training run `speechmill select` first" in shown
    with pytest.raises(SpeechmillError, match="no split 'valid' here; there is 'all'; run `speechmill select` on"):
        train(override_recipe(recipe, [f"data.shards={tmp_path / 'shards'}"]), tmp_path / "run")


def test_a_tokenizer_without_the_letters_of_the_text_is_refused_at_the_start(
    recipe: Recipe, manifest: Path, tmp_path: Path
) -> None:
    """Upper-case words without punctuation, as many models have them; the text is as written."""
    letters = set(" ".join(map(normalize, pl.read_parquet(manifest).filter(split="train")["text"]))) - {" "}
    upper = recipe.tokenizer.model_copy(update={"size": len(letters) + 2, "text": "normalized"})
    train_tokenizer(manifest, tmp_path / "upper.model", upper)
    taken = Tokenizer((tmp_path / "upper.model").read_bytes(), upper.model_copy(update={"text": "as_written"}))
    taken.save(tmp_path / "wrong.model")
    asked = [f"tokenizer.size={len(taken)}", f"data.tokenizer={tmp_path / 'wrong.model'}"]
    with pytest.raises(SpeechmillError, match=r"wrong\.model: \d+ of the \d+ pieces .* set tokenizer\.text=normalized"):
        train(override_recipe(recipe, asked), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("device", "variables", "refused"),
    [
        ("auto", {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0"}, True),
        ("auto", {"SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "2"}, True),
        ("auto", {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "0"}, True),
        ("auto", {"SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "0"}, False),
        ("auto", {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0", "CUDA_VISIBLE_DEVICES": ""}, False),
        ("auto", {"SLURM_JOB_ID": "7"}, False),
        ("auto", {"CUDA_VISIBLE_DEVICES": "0"}, False),
        ("cpu", {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0"}, False),
    ],
)
def test_gpus_of_a_job_that_torch_does_not_see(
    device: str, variables: dict[str, str], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    recipe = override_recipe(Recipe(), [f"train.device={device}"])
    if not refused:
        return check_gpus_are_seen(recipe)
    with pytest.raises(SpeechmillError, match=r"this Slurm job has GPUs \(\w+=\d\).*train\.device=cpu"):
        check_gpus_are_seen(recipe)


def break_loss(patched: pytest.MonkeyPatch, when: Any) -> None:
    true_loss, calls = CtcRecognizer.loss, iter(range(10**6))

    def loss(self: CtcRecognizer, *args: Any, **kwargs: Any) -> LossSum:
        found = true_loss(self, *args, **kwargs)
        return LossSum(found.sum * float("nan"), found.count) if when(next(calls)) else found

    patched.setattr(CtcRecognizer, "loss", loss)


def test_a_loss_that_is_not_finite_is_skipped_and_counted(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_loss(monkeypatch, lambda call: call in (3, 8))  # one of the two batches of updates 2 and 5
    assert train(override_recipe(recipe, ["train.updates=6"]), tmp_path / "run").finished
    records = [record for record in read_metrics(tmp_path / "run") if record["event"] == "train"]
    assert [record["skipped"] for record in records] == [1, 2]
    assert all(record["loss"] < 100 for record in records)
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())


def test_too_many_in_a_row_stop_training(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_loss(monkeypatch, lambda call: call >= 10)
    with pytest.raises(SpeechmillError, match="3 updates in a row had a loss or gradient that is not finite") as error:
        train(override_recipe(recipe, ["train.max_nonfinite=3"]), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert "optim.lr" in str(error.value)
    assert_names_the_last_batches(str(error.value), recipe)
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step_00000004"]
