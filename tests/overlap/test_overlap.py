from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import soundfile
from speechlike import RATE, speechlike

from speechmill.cli import main
from speechmill.errors import SpeechmillError
from speechmill.manifest import SCHEMA, write_manifest
from speechmill.overlap import overlap


def manifest(path: Path, *items: tuple[str, str, Path]) -> str:
    """A manifest of (call, text, audio): each an utterance of four seconds."""
    rows = [
        (f"{call}_{number}", str(audio), 0.0, 4.0, text, "", call, "", None, "")
        for number, (call, text, audio) in enumerate(items)
    ]
    write_manifest(pl.DataFrame(rows, schema=SCHEMA, orient="row"), path)
    return str(path)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """A and B share a call's audio (as MP3, with other text) and one text (with other audio); C shares nothing."""
    folder = tmp_path_factory.mktemp("two")
    for number in range(6):
        soundfile.write(folder / f"{number}.wav", speechlike(4.0, number), RATE)
    soundfile.write(folder / "0.mp3", speechlike(4.0, 0), RATE, format="MP3", subtype="MPEG_LAYER_III")
    a = manifest(folder / "a.parquet", ("x", "revenue grew by twelve percent this year", folder / "0.wav"),
                 ("x", "nothing of this is in the other one", folder / "1.wav"),
                 ("y", "our margins rose in the third quarter", folder / "2.wav"))  # fmt: skip
    b = manifest(folder / "b.parquet", ("u", "somebody wrote down something else for this", folder / "0.mp3"),
                 ("v", "Our margins rose in the third quarter.", folder / "3.wav"))  # fmt: skip
    c = manifest(folder / "c.parquet", ("w", "a text that stands nowhere else at all", folder / "4.wav"))
    return a, b, c


def test_audio_and_text_by_call(two: tuple[str, str, str]) -> None:
    found = overlap(two[0], two[1])
    assert found.pairs["audio"].select("a", "b").rows() == [("x_0", "u_0")]
    assert found.pairs["text"].select("a", "b", "similarity").rows() == [("y_2", "v_1", 1.0)]
    assert found.calls["audio"].select("a", "b", "utterances_a", "utterances_b").rows() == [("x", "u", 1, 1)]
    assert found.calls["audio"].select("share_a", "share_b").row(0) == pytest.approx((0.5, 1.0), abs=0.1)
    assert found.calls["text"].rows() == [("y", "v", 1, 1, 1.0, 1.0)]


def test_the_command_says_what_it_found_and_its_status_too(
    two: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["overlap", two[0], two[1], "--json", str(tmp_path / "o.json")]) == 1
    text = capsys.readouterr().out
    assert "same audio: utterances 1 of A (33.3%), 1 of B (50.0%), in 1 pairs of calls" in text
    assert "they share something" in text
    written = json.loads((tmp_path / "o.json").read_text())
    assert written["audio"]["pairs"][0]["a"] == "x_0"
    assert written["a"] == {"manifest": two[0], "utterances": 3, "calls": 2, "hours": 0.0033}
    assert main(["overlap", two[0], two[2]]) == 0
    assert "nothing in common was found" in capsys.readouterr().out
    assert main(["overlap", two[0], two[1], "--by", "text", "--json", "-"]) == 1
    assert set(json.loads(capsys.readouterr().out)) == {"a", "b", "text", "not_compared"}


def test_a_manifest_with_itself_shares_everything(two: tuple[str, str, str]) -> None:
    found = overlap(two[0], two[0])
    assert {(a, b) for a, b in found.pairs["audio"].select("a", "b").rows()} == {(x, x) for x in ("x_0", "x_1", "y_2")}
    assert found.calls["text"]["share_a"].to_list() == [1.0, 1.0]


def test_one_sentence_of_a_whole_calls_transcript_is_little_of_it(tmp_path: Path, two: tuple[str, str, str]) -> None:
    rest = " ".join(f"Sentence {number} has words{number} of its{number} own{number}." for number in range(60))
    whole = manifest(tmp_path / "w.parquet", ("w", f"Our margins rose in the third quarter. {rest}", tmp_path / "x"))
    found = overlap(whole, two[0], ("text",))
    assert found.pairs["text"].select("a", "b", "words").rows() == [("w_0", "y_2", 7)]
    assert found.calls["text"].rows() == [("w", "y", 1, 1, round(7 / 427, 4), 1.0)]


def test_audio_that_is_gone_is_told_before_anything_is_read(
    two: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = manifest(tmp_path / "gone.parquet", ("x", "our margins rose in the third quarter", tmp_path / "gone.wav"))
    assert main(["overlap", two[0], gone]) == 2
    assert "1 of its 1 recordings are not there any more" in capsys.readouterr().err
    assert overlap(two[0], gone, ("text",)).pairs["text"].height == 1


def test_what_is_no_manifest(tmp_path: Path, two: tuple[str, str, str]) -> None:
    with pytest.raises(SpeechmillError, match="no such manifest"):
        overlap(str(tmp_path / "x.parquet"), two[0])
    write_manifest(pl.DataFrame(schema=SCHEMA), tmp_path / "empty.parquet")
    with pytest.raises(SpeechmillError, match="no rows"):
        overlap(two[0], str(tmp_path / "empty.parquet"))


def test_a_corpus_may_stand_for_a_manifest(tmp_path: Path, two: tuple[str, str, str]) -> None:
    soundfile.write(tmp_path / "part.wav", speechlike(4.0, 2)[RATE // 2 : 3 * RATE], RATE)
    (tmp_path / "t.csv").write_text("audio,text\npart.wav,whatever was said\n")
    found = overlap(f"csv:{tmp_path / 't.csv'}", two[0])
    assert found.pairs["audio"].select("a", "b").rows() == [("part_2", "y_2")]


def test_one_call_on_both_sides_of_a_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "long.wav", speechlike(40.0, 9), RATE)
    soundfile.write(tmp_path / "copy.wav", speechlike(40.0, 9), RATE)
    sides = {"a": "long.wav,some words of the first half,0,18,c1", "b": "copy.wav,and others of the second,20,40,c9",
             "c": "long.wav,and others of the second,20,40,c1"}  # fmt: skip
    for name, row in sides.items():
        (tmp_path / f"{name}.csv").write_text(f"audio,text,start,end,call\n{row}\n")
    for other, call in (("b", "c9"), ("c", "c1")):
        names = [f"csv:{tmp_path / side}.csv" for side in ("a", other)]
        assert main(["overlap", *names]) == 1
        assert "they share something" in capsys.readouterr().out
        found = overlap(*names)
        assert found.calls["audio"].rows() == [("c1", call, 0, 0, 0.0, 0.0, pytest.approx(39.6, abs=0.2))]
        assert found.pairs["audio"].is_empty()
