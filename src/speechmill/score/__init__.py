"""Scoring: alignment, counts, rates, groups. Nothing here imports torch; it works on any recognizer's output."""

from speechmill.score.align import Edit, align, count_errors, distance
from speechmill.score.counts import Counts, Total
from speechmill.score.groups import score_utterance, scores, worst
from speechmill.score.rates import Rates, score_pairs
from speechmill.score.result import Entity, Scoring, Sound, UtteranceScore
from speechmill.score.show import scores_table, show_alignment

__all__ = [
    "Counts",
    "Edit",
    "Entity",
    "Rates",
    "Scoring",
    "Sound",
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
