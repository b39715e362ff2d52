"""The demo corpus: a tiny one is built once and looked at from all sides."""

from __future__ import annotations

import builtins
import csv
import inspect
import json
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
import soundfile

pytest.importorskip("espeakng_loader", reason="needs speechmill[demo]")

from speechmill.corpora.demo import DemoSummary, make_demo_corpus
from speechmill.corpora.demo.accents import accented, table_name
from speechmill.corpora.demo.build import clock
from speechmill.corpora.demo.espeak import espeak, find_library, phoneme_table
from speechmill.corpora.demo.reading import decimal_words, price_words, read_sentence
from speechmill.corpora.demo.render import Speaker
from speechmill.corpora.demo.script import INSTRUCTIONS, Call, normalized, write_calls
from speechmill.corpora.demo.voices import FOREIGN, NATIVE, VARIANTS, Voice
from speechmill.errors import SpeechmillError

CALLS, HOURS = 4, 0.1
WRITTEN_WORDS_PER_HOUR = 8766  # as rendered: 127,050 words in 14.50 hours, pauses included


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoSummary]:
    out = tmp_path_factory.mktemp("demo") / "corpus"
    return out, make_demo_corpus(out, calls=CALLS, hours=HOURS, seed=1, workers=2)


@pytest.fixture(scope="module")
def script() -> list[Call]:
    return write_calls(120, 6.0, 0)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def seconds(text: str) -> float:
    hours, minutes, rest = text.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


def recordings(out: Path) -> list[Path]:
    return sorted((out / "MEDIA").glob("*/recording.*"))


def test_layout(corpus: tuple[Path, DemoSummary]) -> None:
    out, summary = corpus
    metadata = json.loads((out / "metadata" / "BizSpeech_MetaData.json").read_text(encoding="utf-8"))
    assert set(metadata) == {path.name for path in (out / "MEDIA").iterdir()}
    assert len(metadata) == summary.calls == CALLS
    assert 0.7 * HOURS < summary.hours < 1.6 * HOURS
    for event, entry in metadata.items():
        table = rows(out / "MEDIA" / event / "transcript_timealigned.txt")
        assert list(table[0]) == ["SentenceID", "SpeakerID", "Session", "SentenceTimeGen", "Sentence"]
        assert {row["Session"] for row in table} == {"presentation", "q-and-a"}
        assert table[-1]["SentenceID"] == "END"
        assert table[-1]["Sentence"] == ""
        assert entry["ceoID"] in {row["SpeakerID"] for row in table}
        assert INSTRUCTIONS in {row["Sentence"] for row in table}
        starts = [seconds(row["SentenceTimeGen"]) for row in table]
        assert all(first < second for first, second in pairwise(starts))
        assert len(recordings(out)) == CALLS


def test_one_and_two_workers_and_a_resumed_run_give_the_same_bytes(
    corpus: tuple[Path, DemoSummary], tmp_path: Path
) -> None:
    out, summary = corpus
    again = tmp_path / "again"
    assert make_demo_corpus(again, calls=CALLS, hours=HOURS, seed=1, workers=1) == summary
    assert files(again) == files(out)
    shutil.rmtree(again / "metadata")
    (again / "summary.json").unlink()
    lost = sorted((again / "MEDIA").iterdir())[1]
    shutil.move(lost, lost.with_name(f".{lost.name}.partial"))  # what a killed run leaves
    kept = sorted((again / "MEDIA").iterdir())[-1]
    before = kept.stat().st_mtime_ns
    assert make_demo_corpus(again, calls=CALLS, hours=HOURS, seed=1, workers=2) == summary
    assert files(again) == files(out)
    assert kept.stat().st_mtime_ns == before


def test_a_complete_corpus_is_left_alone_and_other_settings_are_refused(
    corpus: tuple[Path, DemoSummary], tmp_path: Path
) -> None:
    out, summary = corpus
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert make_demo_corpus(out, calls=CALLS, hours=HOURS, seed=1) == summary
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    with pytest.raises(SpeechmillError, match=r"other settings.*seed 1.*seed 2"):
        make_demo_corpus(out, calls=CALLS, hours=HOURS, seed=2)
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(SpeechmillError, match="not empty"):
        make_demo_corpus(tmp_path, calls=CALLS, hours=HOURS)


@pytest.mark.parametrize(("calls", "hours", "workers"), [(1, 0.1, 1), (4, 0.1, 0), (4, 0.0, 1), (4, 40.0, 1)])
def test_wishes_that_make_no_sense(tmp_path: Path, calls: int, hours: float, workers: int) -> None:
    with pytest.raises(SpeechmillError, match="demo corpus"):
        make_demo_corpus(tmp_path / "out", calls=calls, hours=hours, workers=workers)
    assert not (tmp_path / "out").exists()


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name == "espeakng_loader":
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "espeakng_loader", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(SpeechmillError, match=r"pip install 'speechmill\[demo\]'"):
        make_demo_corpus(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_words_lie_in_their_sentences_in_order(corpus: tuple[Path, DemoSummary]) -> None:
    out, _ = corpus
    for folder in (out / "MEDIA").iterdir():
        table = rows(folder / "transcript_timealigned.txt")
        words: dict[str, list[dict[str, str]]] = {}
        for row in rows(folder / "words.tsv"):
            words.setdefault(row["SentenceID"], []).append(row)
        for row, following in pairwise(table):
            said = words.get(row["SentenceID"], [])
            assert " ".join(word["Word"] for word in said) == (
                "" if row["Sentence"] == INSTRUCTIONS else row["Sentence"]
            )
            times = [float(word[key]) for word in said for key in ("Start", "End")]
            assert times == sorted(times)
            if times:
                assert times[0] == pytest.approx(seconds(row["SentenceTimeGen"]), abs=0.06)
                assert times[-1] <= seconds(following["SentenceTimeGen"])


def test_sentences_begin_where_sound_begins_in_wav_and_mp3(corpus: tuple[Path, DemoSummary]) -> None:
    out, _ = corpus
    kinds = set()
    for path in recordings(out):
        samples, rate = soundfile.read(path, dtype="float32")
        kinds.add((path.suffix, rate))
        table = rows(path.parent / "transcript_timealigned.txt")
        assert samples.ndim == 1
        assert seconds(table[-1]["SentenceTimeGen"]) < len(samples) / rate
        for row in table[:-1]:
            start = seconds(row["SentenceTimeGen"])
            around = np.abs(samples[round((start - 0.15) * rate) : round((start + 0.3) * rate)])
            loud = np.flatnonzero(around > 0.01) / rate - 0.15
            assert -0.02 < loud[0] < 0.12, (path, row)
    assert {suffix for suffix, _ in kinds} == {".wav", ".mp3"}
    assert {rate for _, rate in kinds} == {8000, 16000, 32000}


def test_mp3_keeps_times(tmp_path: Path) -> None:
    for rate in (8000, 16000, 32000):
        samples = np.zeros(2 * rate, dtype=np.float32)
        samples[rate : rate + rate // 10] = 0.5 * np.sin(0.2 * np.arange(rate // 10))
        soundfile.write(tmp_path / "a.mp3", samples, rate, format="MP3", subtype="MPEG_LAYER_III")
        decoded, _ = soundfile.read(tmp_path / "a.mp3")
        assert np.flatnonzero(np.abs(decoded) > 0.1)[0] / rate == pytest.approx(1.0, abs=0.01)


def test_no_sentence_is_said_twice(script: list[Call]) -> None:
    texts = [normalized(s.text) for call in script for s in call.sentences if s.text != INSTRUCTIONS]
    assert len(set(texts)) == len(texts)
    assert all(2 <= len(text.split()) <= 25 for text in texts)
    assert len({word for text in texts for word in text.split()}) >= 1000


def test_voices_belong_to_one_person_and_calls_to_one_kind(script: list[Call]) -> None:
    people = {s.speaker.id: s.speaker for call in script for s in call.sentences}
    assert len({person.voice for person in people.values()}) == len(people) >= 100
    homes: dict[str, set[str]] = {}
    for call in script:
        for sentence in call.sentences:
            assert sentence.speaker.voice.native == call.company.native
            homes.setdefault(sentence.speaker.id, set()).add(call.company.name)
    assert all(len(companies) == 1 for companies in homes.values())
    assert sum(call.company.native for call in script) / len(script) == pytest.approx(0.6, abs=0.02)
    assert len({p.voice.language for p in people.values() if not p.voice.native}) >= 10


def test_the_script_is_a_function_of_the_seed() -> None:
    assert write_calls(6, 0.3, 3) == write_calls(6, 0.3, 3)
    assert write_calls(6, 0.3, 3) != write_calls(6, 0.3, 4)


def test_figures_are_read_one_way() -> None:
    said = [
        (token.written, " ".join(token.spoken))
        for token in read_sentence(
            "Q3 sales were $3.5 billion, $1.27 a share, up 12.5% on 1,200 units in 2023 and 2005."
        )
    ]
    assert said == [
        ("Q3", "Q three"),
        ("sales", "sales"),
        ("were", "were"),
        ("$3.5", "three point five"),
        ("billion,", "billion dollars"),
        ("$1.27", "one dollar twenty seven cents"),
        ("a", "a"),
        ("share,", "share"),
        ("up", "up"),
        ("12.5%", "twelve point five percent"),
        ("on", "on"),
        ("1,200", "one thousand two hundred"),
        ("units", "units"),
        ("in", "in"),
        ("2023", "twenty twenty three"),
        ("and", "and"),
        ("2005.", "two thousand five"),
    ]
    assert " ".join(price_words("0.85")) == "eighty five cents"
    assert " ".join(decimal_words("1,234")) == "one thousand two hundred thirty four"


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return Speaker()


def test_every_voice_speaks_and_every_language_has_the_sounds(script: list[Call], speaker: Speaker) -> None:
    tokens = read_sentence("Revenue grew, thank you.")
    for voice in (Voice("en-us", variant, 50, 165) for variant in VARIANTS):
        samples, _ = speaker.say(tokens, voice)
        assert 20_000 < len(samples) < 70_000, voice
    espeak().set_voice("en-us")
    words = {word for call in script for s in call.sentences for t in read_sentence(s.spoken) for word in t.spoken}
    phonemes = {word: espeak().phonemes(word) for word in words}
    for language in FOREIGN:
        table = phoneme_table(find_library()[1], table_name(language))
        assert all(len(accented(word, phonemes[word], language, table)) > 4 for word in words), language


@pytest.mark.parametrize("language", ["en-us", "en-gb-scotland", "de", "ru"])
def test_word_times_are_those_of_the_sound(language: str, speaker: Speaker) -> None:
    """A word behind a comma begins where the silence ends; each word has a time of its own."""
    tokens = read_sentence("In the end, for the year, I am sure that it is, at $1.27, uh, not the same.")
    samples, words = speaker.say(tokens, Voice(language, "m3", 50, 165))
    assert all(word.end - word.start > 0.02 for word in words)
    loud = np.abs(samples) > 0.02 * np.abs(samples).max()
    for token, word, following in zip(tokens, words, words[1:], strict=False):
        if token.mark == ",":
            assert following.start - word.end > 0.02
            begin = round(following.start * 22050)
            assert np.flatnonzero(loud[begin:])[0] < 0.06 * 22050
            assert not loud[round(word.end * 22050) + 200 : begin - 200].any()


def test_a_foreign_accent_replaces_what_the_language_lacks() -> None:
    table = phoneme_table(find_library()[1], "de")
    assert accented("that", ["D", "'a", "t"], "de", table) == "[[z|E|t]]"
    assert accented("good", ["g", "'U", "d"], "de", table) == "[[g|'U|t]]"
    with pytest.raises(KeyError, match="no sound"):
        accented("x", ["nonsense"], "de", table)


def test_clock() -> None:
    for value in [0, 59.9994, 59.9996, 3600, *(Random(0).uniform(0, 9000) for _ in range(100))]:
        assert seconds(clock(value)) == pytest.approx(value, abs=0.00051)
    assert clock(3723.5) == "01:02:03.500"


def test_native_and_foreign_voices_are_told_apart() -> None:
    assert not set(NATIVE) & set(FOREIGN)
    assert Voice("en-029", "m1", 50, 160).native
    assert not Voice("pt-br", "m1", 50, 160).native


def test_the_default_corpus_keeps_its_promises() -> None:
    asked = {name: value.default for name, value in inspect.signature(make_demo_corpus).parameters.items()}
    script = write_calls(asked["calls"], asked["hours"], asked["seed"])
    sentences = [sentence for call in script for sentence in call.sentences]
    assert len(script) >= 60
    assert len({sentence.speaker.voice for sentence in sentences}) >= 100
    words = [word for s in sentences if s.text != INSTRUCTIONS for word in normalized(s.text).split()]
    assert len(set(words)) >= 500
    assert asked["hours"] >= 3
    assert len(words) / WRITTEN_WORDS_PER_HOUR == pytest.approx(asked["hours"], rel=0.05)


def test_the_digits_script_has_one_reader_a_call_and_times_for_each_digit(tmp_path: Path) -> None:
    summary = make_demo_corpus(tmp_path, calls=4, hours=0.03, script="digits")
    assert (summary.calls, summary.native_calls) == (4, 2)
    assert summary.hours == pytest.approx(0.03, rel=0.3)
    assert summary.word_types == 10
    for call in sorted((tmp_path / "MEDIA").iterdir()):
        assert soundfile.info(call / "recording.wav").samplerate == 8000
        told = [row for row in rows(call / "transcript_timealigned.txt") if row["Sentence"]]
        assert len({row["SpeakerID"] for row in told}) == 1
        said = [row["Word"].strip(",.").lower() for row in rows(call / "words.tsv")]
        assert said == [word.strip(".").lower() for row in told for word in row["Sentence"].split()]
    with pytest.raises(SpeechmillError, match="holds a demo corpus with other settings"):
        make_demo_corpus(tmp_path, calls=4, hours=0.1)
    with pytest.raises(SpeechmillError, match="no script 'songs'; there are earnings, digits"):
        make_demo_corpus(tmp_path / "songs", script="songs")
