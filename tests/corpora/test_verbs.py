"""The verbs import and export-manifest as they are typed."""

from __future__ import annotations

from pathlib import Path

import corpus_fixtures
import pytest

from speechmill.cli import main


def test_import_and_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = corpus_fixtures.earnings22(tmp_path / "e22")
    assert main(["import", "earnings22", str(root), str(tmp_path / "e22.parquet")]) == 0
    shown = capsys.readouterr().out
    for line in ("6 utterances", "5 calls", "past-recording-end 1", "not read: 5: missing-recording", "timed: false"):
        assert line in shown
    assert main(["select", str(tmp_path / "e22.parquet"), str(tmp_path / "s.parquet"), "--min-seconds", "0.2",
                 "select.shares={train: 1, valid: 0, test: 0}"]) == 0  # fmt: skip
    assert "untimed 2" in capsys.readouterr().out
    assert main(["export-manifest", str(tmp_path / "s.parquet"), str(tmp_path / "s.json"), "--format", "nemo"]) == 0
    assert "4 utterances" in capsys.readouterr().out
    assert len((tmp_path / "s.json").read_text().splitlines()) == 4


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "nemo", str(tmp_path / "x.json"), str(tmp_path / "x.parquet")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
