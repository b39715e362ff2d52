from __future__ import annotations

from pathlib import Path

from corpus_fixtures import ALIGNED, tokens, untimed, write_lines

from speechmill.corpora.sentences import sentences, timed_units
from speechmill.nlp import NlpToken, read_nlp


def read(path: Path, *rows: str) -> list[NlpToken]:
    return read_nlp(write_lines(path, ALIGNED, *rows)).tokens


def reference_of(path: Path, rows: list[str]) -> list[NlpToken]:
    return read(path, *(f"{row}|||" for row in untimed(rows)))


def test_a_tagged_run_takes_the_time_of_what_was_said_for_it(tmp_path: Path) -> None:
    tags = {"2021": "3:YEAR", "twenty": "4:YEAR", "one": "4:YEAR"}  # the number differs, the class does not
    reference = reference_of(tmp_path / "a.nlp", tokens("In 2021 sales rose.", tags=tags))
    aligned = read(tmp_path / "b.nlp", *tokens("In twenty twenty one sales rose.", start=2.0, tags=tags))
    units = timed_units(reference, aligned)
    assert [(unit.tokens[0].token, unit.start, unit.end) for unit in units] == [
        ("In", 2.0, 2.4), ("2021", 2.5, 3.9), ("sales", 4.0, 4.4), ("rose", 4.5, 4.9),
    ]  # fmt: skip


def test_two_tokens_that_became_one_and_words_of_one_side_only(tmp_path: Path) -> None:
    tags = {"it": "7:CONTRACTION", "is": "7:CONTRACTION", "it's": "7:CONTRACTION"}
    reference = reference_of(tmp_path / "a.nlp", tokens("Now it is time, uh, to go.", tags=tags))
    aligned = read(tmp_path / "b.nlp", *tokens("Now it's time, to go.", tags=tags, start=0.0))
    units = timed_units(reference, aligned)
    assert [(len(unit.tokens), unit.start) for unit in units] == [
        (1, 0.0), (2, 0.5), (1, 1.0), (1, None), (1, 1.5), (1, 2.0),
    ]  # fmt: skip


def test_a_word_that_lasts_minutes_has_no_time(tmp_path: Path) -> None:
    rows = [*tokens("Yes.", start=1.0), "No|0|55.0|361.3|.||LC|[]|||"]
    units = timed_units(reference_of(tmp_path / "a.nlp", rows), read(tmp_path / "b.nlp", *rows))
    assert [unit.timed for unit in units] == [True, False]


def test_sentences_end_at_marks_and_where_another_speaks(tmp_path: Path) -> None:
    rows = [*tokens("Shall we? Yes…", 0, 0.0), *tokens("Well, then", 1, 1.5), *tokens("good.", 2, 3.0)]
    found = sentences(timed_units(reference_of(tmp_path / "a.nlp", rows), read(tmp_path / "b.nlp", *rows)))
    assert [(sentence.text, sentence.speaker, sentence.line) for sentence in found] == [
        ("Shall we?", "0", 2), ("Yes…", "0", 4), ("Well, then", "1", 5), ("good.", "2", 7),
    ]  # fmt: skip


def test_a_little_of_the_silence_belongs_to_a_sentence_unless_a_word_may_lie_in_it(tmp_path: Path) -> None:
    rows = [*tokens("One.", 0, 0.04), *tokens("Two.", 0, 1.0), *tokens("Lost.", 0), *tokens("Three.", 0, 3.0)]
    found = sentences(timed_units(reference_of(tmp_path / "a.nlp", rows), read(tmp_path / "b.nlp", *rows)))
    assert [(sentence.start, sentence.end, sentence.untimed) for sentence in found] == [
        (0.02, 0.54, 0), (0.9, 1.4, 0), (None, None, 1), (3.0, 3.4, 0),
    ]  # fmt: skip


def test_marks_of_what_was_not_understood(tmp_path: Path) -> None:
    rows = tokens("And <inaudible> <crosstalk> we.", 0, 0.0)
    found = sentences(timed_units(reference_of(tmp_path / "a.nlp", rows), read(tmp_path / "b.nlp", *rows)))
    assert found[0].marks == ["<crosstalk>", "<inaudible>"]
