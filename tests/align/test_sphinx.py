"""PocketSphinx on a few seconds of real speech."""

# ruff: noqa: SIM905

import itertools
from pathlib import Path

import numpy as np
import pytest
from scripted import sentences

from speechmill.align import judge
from speechmill.align.pronounce import from_letters, pronounce
from speechmill.align.recording import align_recording
from speechmill.align.sphinx import Sphinx
from speechmill.audio import RATE, decode

CORPUS = Path(__file__).parents[2].parent / "shared" / "data" / "ljspeech_part"
FALSE = "nobody ever mentioned oranges or the weather in spain"


@pytest.fixture(scope="module")
def clips() -> tuple[np.ndarray, list[str]]:
    if not CORPUS.is_dir():
        pytest.skip(f"{CORPUS} is not there: no real speech to align")
    rows = [line.split("|") for line in (CORPUS / "metadata.csv").read_text(encoding="utf-8").splitlines()[1:6]]
    return np.concatenate([decode(CORPUS / f"{row[0]}.flac") for row in rows]), [row[1] for row in rows]


def test_true_sentences_are_kept_in_their_place_and_false_ones_rejected(clips: tuple[np.ndarray, list[str]]) -> None:
    samples, texts = clips
    given = [texts[0], texts[2], texts[1], "Operator Instructions", FALSE, texts[4]]  # out of order, one replaced
    found = align_recording(Sphinx(), samples, sentences(given)).outcomes
    assert [outcome.kept for outcome in found] == [True, True, True, False, False, True]
    spans = [(found[place].start or 0.0, found[place].end or 0.0) for place in (0, 2, 1, 5)]
    assert all(before[1] <= after[0] + 0.01 for before, after in itertools.pairwise(spans))
    assert found[0].start == pytest.approx(0.0, abs=0.3)
    assert found[5].end == pytest.approx(len(samples) / RATE, abs=0.3)


def test_a_transcript_in_another_language_is_of_another_recording(clips: tuple[np.ndarray, list[str]]) -> None:
    samples, _ = clips
    german = [
        "Guten Morgen meine Damen und Herren und herzlich willkommen zu unserer Konferenz.",
        "Der Umsatz stieg im dritten Quartal um zwölf Prozent gegenüber dem Vorjahr.",
        "Wir erwarten für das gesamte Jahr eine weitere Verbesserung des Ergebnisses.",
    ]
    found = align_recording(Sphinx(), samples[: 12 * RATE], sentences(german)).outcomes
    assert {outcome.reason for outcome in found} == {judge.OTHER}


def test_words_that_no_dictionary_has(clips: tuple[np.ndarray, list[str]]) -> None:
    samples, _ = clips
    found = align_recording(Sphinx(), samples[: 4 * RATE], sentences(["xqzzt blorfing zzwick", "qwxyz vbnmk 你好"]))
    assert not any(outcome.kept for outcome in found.outcomes)


def test_silence_is_not_speech() -> None:
    found = align_recording(Sphinx(), np.zeros(6 * RATE, np.int16), sentences(["good morning everyone"]))
    assert [outcome.reason for outcome in found.outcomes] == [judge.NOT_SPOKEN]


def test_pronunciations_by_letters() -> None:
    assert from_letters("speak") == "S P IY K"
    assert from_letters("nation") == "N AE SH AH N"
    assert pronounce("'") is None
    assert pronounce("a" * 60) is None
    assert set(" ".join(filter(None, map(pronounce, ["maintz", "zeiner", "jenson's"]))).split()) <= {
        *"AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH".split()
    }
