"""Pronunciations (ARPAbet) of words that a dictionary lacks: from eSpeak NG where it is installed, else by letters."""

from __future__ import annotations

import re
from functools import cache

from speechmill.corpora.demo.espeak import Espeak, espeak
from speechmill.errors import SpeechmillError

# eSpeak NG's phonemes of American English -> ARPAbet (the 39 phones of the CMU dictionary).
_PHONES: dict[str, str] = {
    "@": "AH", "@2": "AH", "@5": "AH", "@-": "AH", "a#": "AH", "V": "AH", "a": "AE", "aa": "AE", "&": "AE",
    "A:": "AA", "A": "AA", "0": "AA", "0#": "AA", "O:": "AO", "O": "AO", "O2": "AO", "E": "EH", "E2": "EH", "e": "EH",
    "I": "IH", "I#": "IH", "I2": "IH", "i": "IY", "i:": "IY", "U": "UH", "u:": "UW", "u": "UW", "3": "ER", "3:": "ER",
    "eI": "EY", "aI": "AY", "OI": "OY", "aU": "AW", "oU": "OW", "A@": "AA R", "O@": "AO R", "o@": "AO R", "e@": "EH R",
    "i@": "IH R", "i@3": "IH R", "U@": "UH R", "aI@": "AY ER", "aI3": "AY ER", "aU@": "AW ER", "IR": "IH R",
    "VR": "ER", "@L": "AH L", "l-": "AH L", "n-": "AH N", "r-": "R", "r": "R", "r/": "R", "R": "R", "t": "T",
    "t#": "T", "t2": "T", "*": "T", "d": "D", "d#": "D", "z": "Z", "z#": "Z", "z/2": "Z", "w": "W", "w#": "W",
    "l": "L", "L": "L", "l/": "L", "p": "P", "b": "B", "k": "K", "g": "G", "f": "F", "v": "V", "T": "TH", "D": "DH",
    "s": "S", "S": "SH", "Z": "ZH", "h": "HH", "tS": "CH", "dZ": "JH", "m": "M", "n": "N", "N": "NG", "j": "Y",
    "x": "K", "?": "", ";": "", "n^": "N Y",
}  # fmt: skip
# Letters and groups of letters -> phones, longest first: rough, and enough for a name between words that are known.
_LETTERS: dict[str, str] = {
    "tion": "SH AH N", "sion": "ZH AH N", "ough": "OW", "eigh": "EY", "igh": "AY", "sch": "SH", "tch": "CH",
    "dge": "JH", "ch": "CH", "sh": "SH", "th": "TH", "ph": "F", "wh": "W", "ck": "K", "ng": "NG", "qu": "K W",
    "kn": "N", "wr": "R", "ee": "IY", "ea": "IY", "oo": "UW", "ou": "AW", "ow": "OW", "oi": "OY", "oy": "OY",
    "ai": "EY", "ay": "EY", "ei": "IY", "ey": "IY", "ie": "IY", "au": "AO", "aw": "AO", "ew": "UW", "er": "ER",
    "ir": "ER", "ur": "ER", "or": "AO R", "ar": "AA R", "bb": "B", "cc": "K", "dd": "D", "ff": "F", "gg": "G",
    "ll": "L", "mm": "M", "nn": "N", "pp": "P", "rr": "R", "ss": "S", "tt": "T", "zz": "Z", "ce": "S", "ci": "S IH",
    "a": "AE", "b": "B", "c": "K", "d": "D", "e": "EH", "f": "F", "g": "G", "h": "HH", "i": "IH", "j": "JH", "k": "K",
    "l": "L", "m": "M", "n": "N", "o": "AA", "p": "P", "q": "K", "r": "R", "s": "S", "t": "T", "u": "AH", "v": "V",
    "w": "W", "x": "K S", "y": "IY", "z": "Z",
}  # fmt: skip
_GROUP = re.compile("|".join(sorted(_LETTERS, key=len, reverse=True)))
_STRESS = "',%=|"
_LONGEST = 40  # letters: what is longer is no word, and its phones would fill the search


def pronounce(word: str) -> str | None:
    """The phones of a lower-case word, blank-separated ARPAbet; None where it has no letters, or far too many."""
    letters = re.sub(r"[^a-z]", "", word)
    if not letters or len(letters) > _LONGEST:
        return None
    return from_espeak(word) or from_letters(letters)


def from_espeak(word: str) -> str | None:
    """The phones that eSpeak NG says; None where it is not installed or says a sound that ARPAbet lacks."""
    speaker = _speaker()
    if speaker is None:
        return None
    phones: list[str] = []
    for mnemonic in speaker.phonemes(word):
        bare = mnemonic.lstrip(_STRESS)
        if bare not in _PHONES:
            return None
        phones += _PHONES[bare].split()
    return " ".join(phones) or None


def from_letters(word: str) -> str | None:
    """Phones by rules for letters; a final e is silent."""
    plain = re.sub(r"(?<=[a-z]{2}[^aeiou])e$", "", re.sub(r"[^a-z]", "", word))
    return " ".join(_LETTERS[group] for group in _GROUP.findall(plain)) or None


@cache
def _speaker() -> Espeak | None:
    try:
        speaker = espeak()
        speaker.set_voice("en-us")
    except SpeechmillError:  # the extra is not installed: letters do
        return None
    return speaker
