from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from speechmill.errors import SpeechmillError
from speechmill.metrics import read_metrics

WHOLE = '{"event": "train", "update": 3}\n'


def test_no_file_and_a_last_line_that_was_cut_off(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
    for cut in ("", '{"event": "va', "\n"):
        (tmp_path / "metrics.jsonl").write_text(WHOLE + cut)
        assert read_metrics(tmp_path) == [{"event": "train", "update": 3}]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"event": "va\n', "line 2: not valid JSON"),
        ("[]\n", "line 2: expected a JSON object"),
        ('{"event": "valid"}\n', "line 2: expected an `event` and a number `update`"),
        ('{"update": 1}\n', "line 2: expected an `event` and a number `update`"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(WHOLE + line + WHOLE)
    with pytest.raises(SpeechmillError, match=message):
        read_metrics(tmp_path)


def test_comparing_needs_no_torch() -> None:
    program = "import sys, speechmill.compare\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
