"""PocketSphinx on a few seconds of real speech."""

# ruff: noqa: SIM905

import itertools
from pathlib import Path

import numpy as np
import pytest
from scripted import sentences

from speechmill.align import judge, pocket
from speechmill.align.base import Passage, Sentence
from speechmill.align.match import match
from speechmill.align.pronounce import from_letters, pronounce
from speechmill.align.recording import align_recording
from speechmill.align.sphinx import Sphinx
from speechmill.align.spoken import first_reading
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


def test_a_learned_voice_hears_what_its_speaker_says_next(clips: tuple[np.ndarray, list[str]]) -> None:
    samples, texts = clips
    aligner = Sphinx()
    given = [Sentence(one.place, one.text, one.tokens, "reader") for one in sentences(texts)]
    aligner.prepare(given)
    heard = [word for piece in aligner.listen(samples) for word in piece]
    first = match(given, [word.word for word in heard])[0]
    assert first is not None
    end = heard[first.last - 1].end
    words = tuple((word, "reader") for word in first_reading(list(given[0].tokens)))
    aligner.learn_voices(samples, [Passage(0.0, end, words)])
    rest = samples[round(end * RATE) : round((end + 8) * RATE)]
    again = aligner.listen_again(rest, given[1:3])
    assert again is not None
    wanted = {word for sentence in given[1:3] for word in first_reading(list(sentence.tokens))}
    assert sum(word.word in wanted for word in again) > 0.8 * len(again) > 8
    aligner.learn_voices(samples, [Passage(0.0, 0.5, words)])  # far too short for its words: nothing is learned
    assert aligner.listen_again(rest, given[1:3]) == again


def test_cepstra_of_the_front_end(clips: tuple[np.ndarray, list[str]], tmp_path: Path) -> None:
    pocket.write_dictionary({"read"}, tmp_path / "words.dict")
    long = np.tile(clips[0][: 5 * RATE], 4)  # handed over in parts
    found = pocket.cepstra(long, tmp_path / "words.dict", "read")
    assert found.shape == (pytest.approx(2000, abs=4), pocket.CEPSTRA)
    short = pocket.cepstra(long[: 5 * RATE], tmp_path / "words.dict", "read")
    assert np.array_equal(short[:-1], found[: len(short) - 1])
    assert 10 < found[:, 0].max() < 200


def test_a_small_dictionary_has_the_words_of_the_large_one(tmp_path: Path) -> None:
    path = tmp_path / "words.dict"
    assert pocket.write_dictionary({"read", "blorfing", "你好"}, path) == {"read", "blorfing"}
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line.split()[0] for line in lines] == ["blorfing", "read", "read(2)"]
    assert all(len(line.split()) > 1 for line in lines)
    assert pocket.pronunciations(path)["read"] == [["R", "EH", "D"], ["R", "IY", "D"]]
