"""What the terminal shows, to the letter."""

from __future__ import annotations

from speechmill.score.align import align
from speechmill.score.groups import score_utterance, scores
from speechmill.score.show import scores_table, show_alignment


def test_table() -> None:
    utterances = [score_utterance("1", "One two.", "one too"), score_utterance("2", "", "uh")]
    assert scores_table(scores(utterances, {"native": [True, False]})).splitlines() == [
        "                WER %  WER-P %  CER %  CER-P %   SER %  utterances  words  ins  del  sub",
        "-" * 88,
        "all            100.00   150.00  42.86    62.50  100.00           2      2    1    0    1",
        "native: false       -        -      -        -  100.00           1      0    1    0    0",
        "native: true    50.00   100.00  14.29    37.50  100.00           1      2    0    0    1",
        "WER and CER: thesis (upper case, punctuation stripped)",
    ]


def test_intervals_have_a_column_where_there_is_one() -> None:
    utterances = [score_utterance("1", "one two", "one too"), score_utterance("2", "one two", "one two")]
    found = scores(utterances, {"native": [True, False]})
    assert "interval" not in scores_table(found)
    found["interval"] = [0.1234, 0.4]
    table = scores_table(found).splitlines()
    assert table[0].split()[:4] == ["WER", "%", "interval", "WER-P"]
    assert table[2].startswith("all            25.00  12.34 - 40.00    25.00")
    assert table[3].startswith("native: false   0.00              -     0.00")


def test_alignment() -> None:
    alignment = align(["WE", "GREW", "SALES", "TODAY"], ["WE", "A", "GREW", "SALE", "TODAY", "UH"])
    assert show_alignment(alignment).splitlines() == [
        "REF: WE * GREW SALES TODAY **",
        "HYP: WE A GREW SALE  TODAY UH",
    ]


def test_empty_alignment() -> None:
    assert show_alignment([]) == "REF:\nHYP:"
