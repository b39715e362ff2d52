"""Earnings-call-like recordings with exact times, spoken by eSpeak NG."""

from speechmill.corpora.demo.build import DemoSummary, make_demo_corpus

__all__ = ["DemoSummary", "make_demo_corpus"]
