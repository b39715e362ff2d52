"""Alignment: recordings with untimed, unreliable transcripts become timed utterances; every second has its account."""
