"""The programs that time searches and place words: what they tell of a small run, and of words made by hand."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from benchmarks import decode, words

from speechmill.artefact import read_json
from speechmill.config import override_recipe
from speechmill.hypothesis import Hypothesis, Word
from speechmill.models.ngram import NgramModel
from speechmill.train.loop import train
from trained import tiny_recipe


def test_each_search_is_timed_and_scored(
    shards: Path, tokenizer_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override_recipe(
        tiny_recipe(shards, tokenizer_path), ["search.kind=beam", "search.lm_order=3", "search.beam=3"]
    )
    train(recipe, tmp_path / "run")
    forgot: list[int] = []
    true_forget = NgramModel.forget
    monkeypatch.setattr(NgramModel, "forget", lambda self: (forgot.append(len(self._cache)), true_forget(self)))
    out = tmp_path / "decode.json"
    monkeypatch.setattr(
        "sys.argv", ["decode", str(tmp_path / "run"), "--out", str(out), "--repeat", "2", "--utterances", "7"]
    )
    decode.main()
    found = {record["search"]: record for record in read_json(out)["searches"]}
    assert set(found) == {"greedy", "beam", "beam + n-gram"}
    for record in found.values():
        assert record["utterances"] == 7
        assert record["threads"] == 1
        assert record["machine"]["cores"] > 0
        assert 0 < record["rtf"] < 100
        assert record["wer"] >= 0
        assert record["audio_seconds"] == pytest.approx(found["greedy"]["audio_seconds"])
    assert forgot[0] == 0 < forgot[1], (
        "two timed rounds and one with times, each begun without what the last had scored"
    )
    assert len(forgot) == 3
    assert found["beam + n-gram"]["settings"]["lm_order"] == 3


def test_words_are_compared_with_the_known_times(tmp_path: Path) -> None:
    recording = tmp_path / "call" / "recording.wav"
    recording.parent.mkdir()
    (recording.parent / "words.tsv").write_text(
        "sentence\tword\tstart\tend\nS0001\tCash\t10.0\t10.4\nS0001\tgrew,\t10.5\t10.9\nS0001\tagain.\t11.0\t11.5\n"
    )
    pl.DataFrame({"id": ["call_S0001"], "recording": [str(recording)], "start": [9.5]}).write_parquet(
        tmp_path / "selected.parquet"
    )
    heard = Hypothesis(
        "Cash threw again.",
        (Word("Cash", 0.52, 0.9, 0.9), Word("threw", 1.0, 1.4, 0.4), Word("again.", 1.5, 2.1, 0.8)),
    )
    found = words.compared(["call_S0001"], [heard], tmp_path / "selected.parquet")
    assert (found["timed"], found["words"]) == (pytest.approx(2 / 3), 3)
    assert found["start_bias_seconds"] == pytest.approx(0.01)  # 20 ms late and on time
    assert found["end_bias_seconds"] == pytest.approx(0.05)  # on time and 100 ms late
    assert found["median_seconds"] == pytest.approx(0.01)
    assert found["confidence_auc"] == 1.0
