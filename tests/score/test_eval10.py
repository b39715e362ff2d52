"""The published Eval-10 table of Earnings-21, from the references, candidates and outputs that Rev gave out."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechmill.score.report import comparison, report
from speechmill.score.scoring import score

DATA = Path(__file__).parents[3] / "shared" / "data" / "earnings21_eval10"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there")

PUBLISHED = {
    "google": 18.5,
    "amazon": 18.0,
    "microsoft": 16.2,
    "speechmatics": 16.7,
    "rev_kaldi": 12.2,
    "rev_espnet": 12.7,
    "kaldi_librispeech": 52.2,
}
"""WER in percent, from the documentation of Earnings-21."""
OURS = {
    "google": (17_894, 97_822),
    "amazon": (17_536, 97_444),
    "microsoft": (15_965, 99_088),
    "speechmatics": (16_572, 98_569),
    "rev_kaldi": (12_153, 99_415),
    "rev_espnet": (12_654, 99_544),
    "kaldi_librispeech": (51_397, 99_725),
}
"""The fewest errors, and the most words of a path with so few."""


@pytest.mark.parametrize("system", PUBLISHED)
def test_published_table(system: str) -> None:
    found = score(DATA / "references", DATA / "outputs" / system, alternatives=DATA / "normalizations")
    assert len(found.items) == 11
    assert found.rates.wer is not None
    within = 0.8 if system == "kaldi_librispeech" else 0.3
    assert 100 * found.rates.wer == pytest.approx(PUBLISHED[system], abs=within)
    assert (found.rates.word.errors, found.rates.word.words) == OURS[system]


def test_by_recording_by_entity_and_what_was_done() -> None:
    data = {"alternatives": DATA / "normalizations", "groups": DATA / "eval10-file-metadata.csv", "by": ["sector"]}
    scoring = score(DATA / "references", DATA / "outputs" / "rev_kaldi", normalize="none", **data)  # type: ignore[arg-type]
    found = report(scoring)
    assert sum(part["errors"] for part in found["by_recording"].values()) == found["errors"]
    assert sum(part["words"] for part in found["by"]["sector"].values()) == found["words"]
    assert found["interval"][0] < found["wer"] < found["interval"][1]
    assert found["entities"]["YEAR"]["entities"] == 333
    assert "lower case" in found["normalization"]
    assert "alternatives" in found["normalization"]
    assert any("4320211.ctm" in note for note in found["notes"])


def test_two_systems_by_calls_and_by_segments() -> None:
    """The figures of docs/scoring.md."""
    one, other = (
        score(DATA / "references", DATA / "outputs" / system, alternatives=DATA / "normalizations")
        for system in ("google", "amazon")
    )
    found = comparison(one, other)
    assert (round(100 * found["difference"], 2), round(found["p"], 2)) == (0.30, 0.54)
    assert (found["matched_pairs"]["segments"], round(found["matched_pairs"]["p"], 2)) == (10_206, 0.04)


def test_alternatives_matter() -> None:
    plain = score(DATA / "references", DATA / "outputs" / "google").rates
    taken = score(DATA / "references", DATA / "outputs" / "google", alternatives=DATA / "normalizations").rates
    assert plain.wer is not None
    assert taken.wer is not None
    assert plain.word.errors > taken.word.errors
    assert plain.word_p == taken.word_p
