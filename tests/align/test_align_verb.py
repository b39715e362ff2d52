"""`speechmill align` as it is started: pocketsphinx on real speech, success, a kill, transcripts that no call has."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import soundfile
from benchmarks.damage import clips

from speechmill.audio import RATE
from speechmill.cli import main
from speechmill.manifest import read_manifest

CORPUS = Path(__file__).parents[2].parent / "shared" / "data" / "ljspeech_part"
WORDS = 200_000  # of the long transcript; the program was tried with a million (docs/align.md)


def recording(folder: Path, name: str, first: int, last: int) -> list[str]:
    """Some clips as one file, and what is said in it."""
    samples, said = clips(CORPUS, first, last)
    soundfile.write(folder / f"{name}.wav", samples, RATE, subtype="PCM_16")
    return [one.text for one in said]


def imported(folder: Path, transcripts: dict[str, list[str]]) -> Path:
    rows = [(f"{name}.wav", text) for name, texts in transcripts.items() for text in texts]
    pl.DataFrame(rows, ["audio", "text"], orient="row").write_csv(folder / "calls.csv")
    assert main(["import", "csv", str(folder / "calls.csv"), str(folder / "corpus.parquet"), "--ignore-times"]) == 0
    return folder / "corpus.parquet"


def test_a_kill_in_the_middle_costs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = imported(tmp_path, {f"call{n}": recording(tmp_path, f"call{n}", 3 * n, 3 * n + 3) for n in range(4)})
    whole, cut = tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    assert main(["align", str(source), str(whole)]) == 0
    assert "12 of 12 sentences" in capsys.readouterr().out
    command = [sys.executable, "-m", "speechmill", "align", str(source), str(cut)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        while process.poll() is None and not list(tmp_path.glob("cut.parts/*/state.json")):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    assert not cut.exists()
    assert main(["align", str(source), str(cut)]) == 0
    for beside in ("", ".words", ".sentences", ".spans", ".ledger"):
        name = f"{beside}.parquet"
        assert (tmp_path / f"cut{name}").read_bytes() == (tmp_path / f"whole{name}").read_bytes(), name
    assert not (tmp_path / "cut.parts").exists()


def test_another_language_and_words_that_nobody_can_say(tmp_path: Path) -> None:
    said = recording(tmp_path, "call", 0, 4)
    german = ["Der Vorstand erwartet im laufenden Jahr steigende Preise.", "Wir danken Ihnen für Ihre Aufmerksamkeit."]
    nobody = ["xqzv brfflk wzzt pqqrg", "ggrzx mmnbv tktk plqw rrr"]
    for name, wrong, reasons in (
        ("german", german * 4, {"transcript-of-another-recording"}),
        ("nobody", nobody * 4, {"transcript-of-another-recording"}),
        ("some", said[:3] + german + nobody, {"", "not-spoken"}),
    ):
        source = imported(tmp_path, {"call": wrong})
        assert main(["align", str(source), str(tmp_path / f"{name}.parquet")]) == 0
        found = pl.read_parquet(tmp_path / f"{name}.sentences.parquet")
        assert set(found["reason"]) <= reasons | {"something-else-spoken", "too-uncertain"}, name
        assert found.filter("kept")["text"].to_list() == (said[:3] if name == "some" else []), name


def test_a_long_transcript_of_which_little_was_said(tmp_path: Path) -> None:
    said = recording(tmp_path, "call", 0, 4)
    rng = random.Random(0)
    vocabulary = sorted({word for row in (CORPUS / "metadata.csv").read_text().split("\n") for word in row.split()[1:]})
    others = [" ".join(rng.choices(vocabulary, k=20)) for _ in range(WORDS // 20)]
    middle = len(others) // 2
    source = imported(tmp_path, {"call": [*others[:middle], *said, *others[middle:]]})
    assert main(["align", str(source), str(tmp_path / "out.parquet")]) == 0
    assert read_manifest(tmp_path / "out.parquet")["text"].to_list() == said
