"""Speechmill: from long recordings with transcripts to a trained, scored speech recognizer."""

__version__ = "0.1.0"
