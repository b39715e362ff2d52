"""What a scoring is made into: blocks, recordings, texts that are not too long."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speechmill.errors import SpeechmillError
from speechmill.score.report import blocks, comparison, report
from speechmill.score.scoring import score

LINES = [
    {"id": "u1", "text": "a b", "hyp": "a", "call": "c1", "speaker": "ann"},
    {"id": "u2", "text": "c d", "hyp": "c d", "call": "c1"},
    {"id": "u3", "text": "e " * 400, "hyp": "", "audio": "c3.wav"},
]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


def test_blocks_are_calls_and_recordings_where_there_is_none(manifest: Path) -> None:
    scoring = score(manifest, manifest, block="speaker")
    assert blocks(scoring, None) == (["c1", "c1", "c3"], "call")
    assert blocks(scoring, "recording") == (["c1", "c1", "c3"], "recording")
    with pytest.raises(SpeechmillError, match="--block speaker: 2 of 3 have none"):
        blocks(scoring, "speaker")
    with pytest.raises(SpeechmillError, match="--block company: neither"):
        blocks(scoring, "company")


def test_by_recording_and_long_texts(manifest: Path) -> None:
    found = report(score(manifest, manifest))
    assert {name: (part["errors"], part["words"]) for name, part in found["by_recording"].items()} == {
        "c1": (1, 4), "c3": (400, 400),
    }  # fmt: skip
    worst = found["worst"][0]
    assert (worst["id"], len(worst["reference"]), worst["reference"][-1]) == ("u3", 301, "…")
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_two_systems_need_the_same_references(manifest: Path, tmp_path: Path) -> None:
    scoring = score(manifest, manifest)
    assert comparison(scoring, scoring)["difference"] == 0
    (tmp_path / "r.trn").write_text("a (u1)\n")
    with pytest.raises(SpeechmillError, match="not scored on the same references"):
        comparison(scoring, score(tmp_path / "r.trn", tmp_path / "r.trn"))
