"""Scoring: alignment, counts, rates, groups. Nothing here imports torch; it works on any recognizer's output."""

from speechmill.score.align import Edit, align, count_errors, distance
from speechmill.score.counts import Counts, Total
from speechmill.score.groups import UtteranceScore, score_utterance, scores, worst
from speechmill.score.rates import Rates, score_pairs
from speechmill.score.show import scores_table, show_alignment

__all__ = [
    "Counts",
    "Edit",
    "Rates",
    "Total",
    "UtteranceScore",
    "align",
    "count_errors",
    "distance",
    "score_pairs",
    "score_utterance",
    "scores",
    "scores_table",
    "show_alignment",
    "worst",
]
