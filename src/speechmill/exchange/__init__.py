"""Recognizers in the formats of other toolkits, out and in."""
