"""The command line: what it accepts, and one clear line with status 2 for what it does not."""

from __future__ import annotations

import argparse
import contextlib
import glob
import io
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml

from conftest import SHARD_SETTINGS
from speechmill import cli
from speechmill.cli.verb import recipe_of
from speechmill.errors import SpeechmillError
from trained import tiny_recipe

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = [
    "demo-corpus",
    "import",
    "select",
    "shard",
    "shards",
    "tokenizer",
    "train",
    "evaluate",
    "transcribe",
    "compare",
    "inspect",
]


def verbs() -> dict[str, argparse.ArgumentParser]:
    parser = cli.build_parser()
    action = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(action.choices)


def example(verb: str) -> list[str]:
    shown = re.search(r"example:\n\s+speechmill (.+)", verbs()[verb].format_help())
    assert shown, f"{verb} --help has no example"
    return shlex.split(shown[1])


def test_help_lists_the_verbs_in_the_order_of_the_pipeline() -> None:
    shown = cli.build_parser().format_help()
    listed = re.findall(r"^    ([a-z-]+)\s", shown, re.MULTILINE)
    assert [verb for verb in listed if verb in PIPELINE] == PIPELINE
    assert listed == list(verbs())


@pytest.mark.parametrize("verb", list(verbs()))
def test_examples_parse(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = example(verb)
    parsed = cli.parse_arguments(words)
    assert parsed.verb == verb == words[0]
    assert parsed.run is not None
    monkeypatch.chdir(ROOT)  # where the examples are to be typed
    for recipe in re.findall(r"hparams/\S+\.yaml", " ".join(words)):
        assert Path(recipe).is_file(), f"{verb}'s example names {recipe}"


@pytest.mark.parametrize("verb", ["train", "select", "shard", "tokenizer", "evaluate", "demo", "pipeline"])
def test_overrides_may_stand_behind_options(verb: str) -> None:
    overrides = ["train.updates=3", "select.drop_text=[a, b]"]
    option = {
        "evaluate": ["--split", "test"],
        "demo": ["--seed", "1"],
        "pipeline": ["--split", "test"],
        "train": ["--run", "there"],
    }.get(verb, ["--recipe", "recipe.yaml"])
    places = {"demo": ["a"], "train": ["a"], "evaluate": ["a"], "pipeline": ["bizspeech", "a", "b"]}.get(
        verb, ["a", "b"]
    )
    for words in (
        [*places, *option, *overrides],
        [*places, *overrides, *option],
        [*option, *places, *overrides],
        [*places, overrides[0], *option, overrides[1]],
    ):
        assert cli.parse_arguments([verb, *words]).overrides == overrides, words


@pytest.mark.parametrize(
    "words",
    [
        ["train", "a.yaml", "--run", "b", "updates"],
        ["inspect", "a", "b=c"],
        ["train", "a.yaml", "--run", "b", "--lr=3"],
        ["train", "a.yaml"],
        [],
        ["fly"],
    ],
)
def test_what_is_no_command_is_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("speechmill")


def test_an_unknown_option_shows_the_verbs_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["inspect", "a", "--lr=3"], ["shards", "verify", "a", "--lr=3"]):
        with pytest.raises(SystemExit):
            cli.main(words)
        verb = " ".join(words[:-2])
        assert capsys.readouterr().err.startswith(f"usage: speechmill {verb} ")


def test_help_imports_no_heavy_library() -> None:
    program = (
        "import sys\nfrom speechmill.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'polars', 'numpy', 'speechbrain', 'pyarrow', 'pydantic', 'matplotlib'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "From long recordings" in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def run(*words: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main([str(word) for word in words])
    return status, out.getvalue(), err.getvalue()


def refused(message: str, *words: object) -> None:
    status, out, err = run(*words)
    assert status == 2
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith(f"speechmill {words[0]}: ")
    assert re.search(message, lines[0]), lines[0]
    assert out == ""


@pytest.fixture
def corpus_copy(corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus, tmp_path / "corpus"))


@pytest.fixture
def recipe_path(shards: Path, tokenizer_path: Path, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe(shards, tokenizer_path).plain()), encoding="utf-8")
    return path


def test_no_such_folder(tmp_path: Path, recipe_path: Path) -> None:
    gone = tmp_path / "gone"
    refused("gone", "import", "bizspeech", gone, tmp_path / "out.parquet")
    refused("gone: no such manifest", "select", gone, tmp_path / "out.parquet")
    refused("gone: no such manifest", "shard", gone, tmp_path / "shards")
    refused("gone: no such folder of shards", "shards", "verify", gone)
    refused("gone: no such manifest", "tokenizer", gone, tmp_path / "tokenizer.model")
    refused("gone: no such file", "train", gone, "--run", tmp_path / "run")
    refused("gone: no such folder of shards", "train", recipe_path, "--run", tmp_path / "run", f"data.shards={gone}")
    refused("gone: not a run folder", "evaluate", gone)
    refused("gone: not a run folder", "transcribe", gone, "a.wav")
    refused("gone", "compare", gone)
    refused("gone: no such manifest", "inspect", gone)
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} <= {"recipe.yaml", "run"}
    assert not list((tmp_path / "run").glob("[!.]*"))


def test_not_a_manifest_not_a_run(tmp_path: Path, corpus: Path) -> None:
    text = tmp_path / "text.parquet"
    text.write_text("no table\n")
    for words in (
        ["select", text, tmp_path / "o"],
        ["shard", text, tmp_path / "s"],
        ["tokenizer", text, tmp_path / "t"],
        ["inspect", text],
    ):
        refused(r"text\.parquet: not a manifest", *words)
    refused("not a run folder", "evaluate", corpus)


def test_transcript_that_is_not_utf8_or_lacks_a_column(corpus_copy: Path, tmp_path: Path) -> None:
    # One bad call does not stop the others; only bad calls do.
    calls = sorted((corpus_copy / "MEDIA").iterdir())
    for call in calls[2:]:
        shutil.rmtree(call)
    bad = calls[0] / "transcript_timealigned.txt"
    whole = bad.read_text(encoding="utf-8")
    bad.write_bytes(whole.replace("S000", "S\xe9").encode("latin-1"))
    status, out, _ = run("import", "bizspeech", corpus_copy, tmp_path / "one.parquet")
    assert status == 0
    assert "not UTF-8" in out
    assert pl.read_parquet(tmp_path / "one.parquet")["call"].unique().to_list() == [calls[1].name]
    shutil.rmtree(calls[1])
    refused("not UTF-8", "import", "bizspeech", corpus_copy, tmp_path / "none.parquet")
    bad.write_text(whole.replace("SentenceTimeGen", "Time"), encoding="utf-8")
    refused("SentenceTimeGen", "import", "bizspeech", corpus_copy, tmp_path / "none.parquet")
    assert not (tmp_path / "none.parquet").exists()


def test_empty_corpus(tmp_path: Path) -> None:
    (tmp_path / "corpus" / "MEDIA").mkdir(parents=True)
    refused("corpus", "import", "bizspeech", tmp_path / "corpus", tmp_path / "out.parquet")


def test_unreadable_audio_only(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_text("no sound")
    table = pl.read_parquet(manifest).with_columns(recording=pl.lit(str(tmp_path / "bad.wav")))
    table.write_parquet(tmp_path / "bad.parquet")
    refused("not one utterance could be read", "shard", tmp_path / "bad.parquet", tmp_path / "shards", "--processes", 1)
    assert not (tmp_path / "shards" / "index.arrow").exists()


def test_tokenizer_larger_than_the_text_allows(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokenizer.model"
    refused(r"train text allows at most \d+ pieces", "tokenizer", manifest, out, "tokenizer.size=5000")
    assert not out.exists()


def test_recipes(recipe_path: Path, tmp_path: Path) -> None:
    arguments = ["train", recipe_path, "--run", tmp_path / "run"]
    refused(r"unknown key 'optim\.learning'.*", *arguments, "optim.learning=1")
    refused(r"command line: optim\.lr", *arguments, "optim.lr=fast")
    recipe_path.write_text("optim: [")
    refused(r"recipe\.yaml, line 1: not valid YAML", *arguments)
    recipe_path.write_bytes(b"name: \xff\n")
    refused(r"recipe\.yaml, line 1: not UTF-8", *arguments)


@pytest.mark.parametrize("name", ["../outside.flac", "/outside.flac", "utterance.pkl"])
def test_what_no_shard_may_hold(name: str, shards: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shards, tmp_path / "shards"))
    path = sorted(folder.glob("*.tar"))[0]
    member = tarfile.TarInfo(name)
    member.size = 4
    with tarfile.open(path, "a") as archive:
        archive.addfile(member, io.BytesIO(b"\x80\x04N."))  # the pickle of None
    status, out, err = run("shards", "verify", folder)
    assert status != 0
    assert "Traceback" not in out + err
    assert str(path) in out + err
    assert Path(name).name in out + err
    assert not list(tmp_path.rglob("outside.flac"))


def test_import_to_train_on_the_command_line(corpus: Path, recipe_path: Path, tmp_path: Path) -> None:
    calls = tmp_path / "test_calls.txt"
    calls.write_text("1010\n1011\n")
    excluded = tmp_path / "calls: [a], 'b' #1.txt"  # quoted on its way through YAML
    excluded.write_text("1000\n")

    def done(*words: object) -> str:
        status, out, err = run(*words)
        assert status == 0, err
        return out

    table, selected, shards = tmp_path / "corpus.parquet", tmp_path / "selected.parquet", tmp_path / "shards"
    commands: list[Callable[[], str]] = [
        lambda: done("import", "bizspeech", corpus, table),
        lambda: done(
            "select",
            table,
            selected,
            "--min-seconds",
            0.2,
            "--seed",
            3,
            "--exclude",
            excluded,
            f"select.test_calls={calls}",
        ),
        lambda: done(
            "shard",
            selected,
            shards,
            "--processes",
            1,
            f"shard.sample_rate={SHARD_SETTINGS.sample_rate}",
            f"features.sample_rate={SHARD_SETTINGS.sample_rate}",
            "shard.shard_seconds=30",
        ),
        lambda: done("tokenizer", selected, tmp_path / "own.model", "tokenizer.size=40"),
    ]
    for command in commands:
        command()
    table_of_splits = pl.read_parquet(selected)
    assert set(table_of_splits.filter(split="test")["call"]) == {"1010", "1011"}
    assert "1000" not in table_of_splits["call"]
    assert "whole" in done("shards", "verify", shards)
    assert "already there" in commands[2]()
    assert "train" in done("inspect", selected)
    assert "train" in done("inspect", shards)
    training = ["train", recipe_path, "--run", tmp_path / "run", "train.updates=2", "train.validate_every=2"]
    training.append("optim.warmup_updates=0")
    assert "2 updates, best validation WER" in done(*training)
    assert "already there, nothing to do" in done(*training)
    refused(r"optim\.lr is 0\.02 there", *training, "optim.lr=1")
    assert done("compare", tmp_path / "run", "--out", tmp_path / "report").count("\n") > 2


def test_unreadable_file_to_transcribe(recipe_path: Path, tmp_path: Path) -> None:
    assert run("train", recipe_path, "--run", tmp_path / "run", "train.updates=1", "optim.warmup_updates=0")[0] == 0
    refused(r"gone\.wav: no such recording", "transcribe", tmp_path / "run", tmp_path / "gone.wav")
    (tmp_path / "bad.wav").write_bytes(b"RIFF no sound")
    refused(r"bad\.wav: not audio", "transcribe", tmp_path / "run", tmp_path / "bad.wav", "--format", "json")


def test_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("speechmill.inspection.inspect_data", interrupted)
    assert cli.main(["inspect", "a.parquet"]) == 130
    assert capsys.readouterr().err == "speechmill inspect: interrupted; run the same command to go on.\n"


# Small enough for a test; an example in --help takes minutes.
SMALLER = {
    "demo-corpus": ["--hours=0.24"],
    "shard": ["--processes=1"],
    "train": [
        "train.updates=4", "train.validate_every=4", "train.log_every=1", "train.threads=1", "train.loader_workers=0",
        "optim.warmup_updates=1", "features.statistics_batches=2", "schedule.target_seconds=10", "model.size=16",
        "model.layers=1", "search.lm_order=2", "search.beam=2",
    ],
}  # fmt: skip


def test_recipes_of_the_checkout_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert recipe_of(cli.parse_arguments(["demo", "demo"])).name == "demo"
    with pytest.raises(SpeechmillError, match=r"hparams/none\.yaml: no such file"):
        recipe_of(cli.parse_arguments(["demo", "demo", "--recipe", "hparams/none.yaml"]))


def test_examples_work_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("espeakng_loader", reason="needs speechmill[demo]")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hparams").symlink_to(ROOT / "hparams")
    for verb in PIPELINE:
        words = [file for word in example(verb) for file in (sorted(glob.glob(word)) if "*" in word else [word])]
        status, out, err = run(*words, *SMALLER.get(verb, []))
        assert status == 0, err
        assert out.strip(), verb
    assert {path.name for path in tmp_path.iterdir()} == {"hparams", "mine"}  # and nothing of `make demo`
    assert (tmp_path / "mine" / "report" / "compare.html").is_file()
    assert (tmp_path / "mine" / "lengths.png").is_file()
