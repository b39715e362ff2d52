"""The soak of training: what it refuses to call passed."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import soak_train


def test_a_kind_that_there_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        soak_train.main(["--kinds", "ddp2,hogwild", "--out", str(tmp_path / "soak.json")])
    assert ended.value.code == 2
    assert "no kind hogwild; there are single, ddp2" in capsys.readouterr().err


@pytest.mark.parametrize(("kills", "status"), [(0, 1), (2, 0)])
def test_nothing_tried_is_not_passed(kills: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak_train, "make_data", lambda *_: [])
    monkeypatch.setattr(soak_train.Soak, "undisturbed", lambda *_: tmp_path)
    monkeypatch.setattr(soak_train.Soak, "trial", lambda *_: {"at_update": 3, "killed": True, "failures": []})
    words = ["--kinds", "ddp2", "--kills", str(kills), "--out", str(tmp_path / "soak.json")]
    assert soak_train.main(words) == status
