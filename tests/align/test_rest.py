"""Speech that no sentence has, as utterances with what a model hears."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scripted import Scripted, manifest, said

from speechmill.align import run
from speechmill.align.base import Transcribed
from speechmill.align.recording import Outcome
from speechmill.align.rest import gaps, hear_rest, with_wildcards
from speechmill.align.run import align_manifest
from speechmill.audio import Pcm
from speechmill.errors import SpeechmillError
from speechmill.inspection import inspect_ledger
from speechmill.manifest import read_manifest
from speechmill.select import select
from speechmill.settings import AlignSettings, SelectSettings

A = "we saw strong demand in europe this year"
B = "margins were a little lower than we had planned"
C = "the second half should bring better prices for steel"


def test_gaps_are_what_lies_between() -> None:
    assert list(gaps([(2.0, 3.0), (1.0, 1.5), (2.5, 4.0)], 6.0)) == [
        (0.0, 0.8), (1.7, 1.8), (4.2, 6.0),
    ]  # fmt: skip
    assert list(gaps([], 6.0)) == [(0.0, 6.0)]
    assert list(gaps([(0.0, 5.98)], 6.0)) == []


def test_words_that_are_not_clear_are_wildcards() -> None:
    assert with_wildcards(told(margins=0.9, where=0.3, uh=0.5, lower=0.6, than=0.1)) == "margins ★ lower ★"
    assert with_wildcards([]) == ""


def told(**sure: float) -> list[Transcribed]:
    return [Transcribed(word, value, 0.0, 0.1) for word, value in sure.items()]


class Hearing(Scripted):
    """Also hears B, clearly but for a word, in any sound."""

    def hear(self, samples: Pcm) -> list[Transcribed]:
        assert not len(samples) or np.any(samples)
        return told(**{word: 0.2 if word == "little" else 0.9 for word in B.split()})


@pytest.mark.parametrize(("sure", "found"), [(0.9, 1), (0.5, 0)])
def test_a_piece_is_kept_where_words_are_clear(sure: float, found: int) -> None:
    samples, _, spans = said([A, B, C])
    kept = [Outcome(place, "kept", 0.9, *spans[place]) for place in (0, 2)]
    aligner = Scripted([])
    aligner.hear = lambda _: told(margins=sure, were=sure, lower=0.9)  # type: ignore[method-assign]
    rest, unclear = hear_rest(aligner, samples, kept, AlignSettings())
    assert [one.text for one in rest] == ["margins were lower"] * found
    places = [(one.start, one.end) for one in rest] + unclear
    assert len(places) == 1, "it is speech, too, where it is not clear"
    assert places[0] == pytest.approx(spans[1], abs=0.02)
    assert hear_rest(aligner, samples, kept, AlignSettings(min_seconds=20)) == ([], [])


@pytest.mark.parametrize(("heard", "speech"), [([0.9], True), ([0.9, 0.3], True), ([0.3, 0.3], False), ([], False)])
def test_few_words_are_speech_where_one_is_clear(heard: list[float], speech: bool) -> None:
    samples, _, _ = said([A])
    aligner = Scripted([])
    aligner.hear = lambda _: [Transcribed("you", sure, 0.0, 0.1) for sure in heard]  # type: ignore[method-assign]
    rest, unclear = hear_rest(aligner, samples, [], AlignSettings())
    assert not rest
    assert bool(unclear) == speech


def test_pieces_are_as_short_as_utterances_may_be() -> None:
    samples, _, _ = said([A, B, C])
    aligner = Scripted([])
    aligner.hear = lambda _: told(you=0.9) * 3  # type: ignore[method-assign]
    rest, _ = hear_rest(aligner, samples, [], AlignSettings(min_seconds=0.3, max_seconds=0.9))
    assert rest
    assert max(one.end - one.start for one in rest) <= 0.9 + 1e-6


def test_from_the_recording_to_the_training_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, heard, spans = said([A, B, C])
    monkeypatch.setattr(run, "open_aligner", lambda name: Hearing(heard) if name == "ctc:run" else Scripted(heard))
    monkeypatch.setattr(run, "_OPEN", {})
    source = manifest(tmp_path, {"one": (samples, [A, C]), "two": (samples, [A, B, C])}, company="Acme")
    out = tmp_path / "out.parquet"
    with pytest.raises(SpeechmillError, match=r"align\.hear_rest: pocketsphinx hears only"):
        align_manifest(source, out, AlignSettings(hear_rest=True))
    align_manifest(source, out, AlignSettings(hear_rest=True), "ctc:run")
    rows = read_manifest(out)
    assert rows["id"].to_list() == ["one_0", "one_0_heard-1", "one_1", "two_0", "two_1", "two_2"]
    one = rows.row(1, named=True)
    assert (one["text"], one["known_text"]) == ("", B.replace("little", "★"))
    assert (one["call"], one["company"], one["speaker"], one["native"]) == ("one", "Acme", None, True)
    assert one["confidence"] == pytest.approx(8 / 9)
    assert one["start"] == pytest.approx(spans[1][0], abs=0.02)
    accounts = pl.read_parquet(tmp_path / "out.spans.parquet").filter(pl.col("reason") == "heard")
    assert accounts.select("kind", "start", "end").rows() == [("kept", one["start"], one["end"])]
    assert "kept" in str(inspect_ledger(out))

    settings = SelectSettings(valid_calls=["two"], shares={"train": 0.5, "valid": 0.5, "test": 0.0})  # type: ignore[arg-type]
    plain = select(rows, settings)
    assert plain.dropped.select("id", "reason").rows() == [("one_0_heard-1", "not-written")]
    taken = select(rows, settings.model_copy(update={"wildcards": True})).table
    assert taken.filter(split="train")["text"].to_list() == [A, B.replace("little", "★"), C]
    other = select(rows, settings.model_copy(update={"wildcards": True, "valid_calls": ["one"]}))
    assert other.dropped.select("id", "reason").rows() == [("one_0_heard-1", "not-written")], "it is not scored"


def test_a_recording_of_another_transcript_is_not_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, heard, _ = said([A, B, C])
    monkeypatch.setattr(run, "open_aligner", lambda _: Hearing(heard))
    monkeypatch.setattr(run, "_OPEN", {})
    source = manifest(tmp_path, {"one": (samples, ["nobody ever said anything about oranges"])})
    align_manifest(source, tmp_path / "out.parquet", AlignSettings(hear_rest=True), "ctc:run")
    assert read_manifest(tmp_path / "out.parquet").is_empty()
