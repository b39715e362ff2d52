"""A foreign accent: English phonemes said with the sounds of another language.

A voice that reads English spelling by its own letter rules is hardly English any more. A foreign speaker of English
knows the words but lacks some of the sounds; so the English voice says which phonemes a word has, and each is replaced
by the first of its candidates that the other language's phoneme table holds.
"""

# ruff: noqa: SIM905  (words are read best as a line of words)

from __future__ import annotations

# English phoneme (eSpeak mnemonic) -> candidates, best first; a blank parts a sequence of phonemes.
_CANDIDATES: dict[str, tuple[str, ...]] = {
    "@": ("@",),
    "a": ("a",),
    "aa": ("a",),
    "A:": ("A:", "a:", "A", "a"),
    "0": ("O", "o"),
    "O:": ("O:", "o:", "O", "o"),
    "V": ("V", "a"),
    "E": ("E", "e"),
    "I": ("I", "i"),
    "i:": ("i:", "i"),
    "i": ("i",),
    "U": ("U", "u"),
    "u:": ("u:", "u"),
    "3:": ("W: r", "Y: r", "W r", "E r", "e r"),
    "eI": ("eI", "ei", "EI", "e: i", "e i"),
    "aI": ("aI", "ai", "a i"),
    "OI": ("OI", "oI", "OY", "oi", "o i"),
    "aU": ("aU", "au", "a u"),
    "oU": ("oU", "ou", "o: u", "o u"),
    "l-": ("@ l",),
    "n-": ("@ n",),
}
# Phonemes that are built from, or variants of, those above.
_SAME: dict[str, str] = {
    "@2": "@",
    "@5": "@",
    "@-": "@",
    "a#": "@",
    "I#": "I",
    "I2": "I",
    "E2": "E",
    "0#": "0",
    "O2": "0",
    "3": "@ r",
    "A@": "A: r",
    "O@": "O: r",
    "o@": "O: r",
    "e@": "E r",
    "i@": "i: r",
    "i@3": "i: r",
    "U@": "U r",
    "aI@": "aI @",
    "aI3": "aI @ r",
    "aU@": "aU @ r",
    "IR": "i: r",
    "VR": "3:",
    "@L": "l-",
    "r-": "",
    "r/": "r",
    "t#": "t",
    "t2": "t",
    "d#": "d",
    "z#": "z",
    "z/2": "z",
    "w#": "w",
    "L": "l",
    "l/": "l",
    "?": "",
    ";": "",
}
_DEVOICED = {"b": "p", "d": "t", "g": "k", "v": "f", "z": "s", "dZ": "tS", "Z": "S"}

# What a language does otherwise: sounds that it lacks, and the sound of its r.
_HABITS: dict[str, dict[str, str]] = {
    "de": {"T": "s", "D": "z", "w": "v", "a": "E"},
    "fr": {"T": "s", "D": "z", "h": "", "I": "i", "U": "u"},
    "es": {"D": "d", "h": "x", "v": "b", "z": "s", "Z": "S", "r": "**"},
    "it": {"T": "t", "D": "d", "h": "", "I": "i", "r": "R"},
    "pl": {"T": "t", "D": "d", "h": "x", "r": "R"},
    "sv": {"T": "t", "D": "d", "w": "v", "z": "s", "r": "R"},
    "nl": {"T": "t", "D": "d", "a": "E"},
    "pt": {"T": "t", "D": "d", "I": "i"},
    "ro": {"T": "t", "D": "d", "I": "i", "r": "R"},
    "cs": {"T": "t", "D": "d", "w": "v", "r": "R"},
    "hu": {"T": "s", "D": "z", "w": "v", "r": "R"},
    "fi": {"T": "t", "D": "d", "w": "v", "z": "s", "Z": "S", "r": "R"},
    "no": {"T": "t", "D": "d", "w": "v", "z": "s", "r": "R"},
    "tr": {"T": "t", "D": "d", "w": "v", "r": "R"},
    "da": {"T": "t", "D": "d", "w": "v", "z": "s"},
    "ru": {"T": "s", "D": "z", "w": "v", "h": "x", "r": "R"},
    "hi": {"T": "t", "D": "d", "w": "v", "t": "t.", "d": "d."},
}
_FINAL_DEVOICING = frozenset({"de", "pl", "nl", "cs", "ru"})
# Phoneme table of a voice where it is not the voice's first two letters.
_TABLES = {"nb": "no"}
_STRESS = "',%="
_WEAK = frozenset(
    "a an the of to in on and or for with at by from as is are was were be been it its that this we our you your they "
    "their i my he she has have had do will would can could not but so than then us them".split()
)


def table_name(language: str) -> str:
    """'pt-br' -> 'pt', 'nb' -> 'no'."""
    return _TABLES.get(language, language.split("-")[0])


def accented(word: str, phonemes: list[str], language: str, table: frozenset[str]) -> str:
    """The word as phoneme input for a voice of `language`: bank, ["b", "'a", "N", "k"] -> [[b|'a|N|k]].

    `table` holds the mnemonics that the language has. Bars keep neighbours from being read as one mnemonic.
    """
    habits = _HABITS[table_name(language)]
    said: list[str] = []
    for phoneme in phonemes:
        bare = phoneme.lstrip(_STRESS)
        stress = phoneme[: len(phoneme) - len(bare)].strip("%=")
        if word.lower() in _WEAK:
            stress = ""
        sounds = _sounds(bare, habits, table)
        if sounds and not (said and said[-1] == sounds[0] == habits.get("r", "r")):  # one r is enough
            said += [stress + sounds[0], *sounds[1:]]
    if table_name(language) in _FINAL_DEVOICING and said and said[-1] in _DEVOICED:
        said[-1] = _DEVOICED[said[-1]]
    return f"[[{'|'.join(said)}]]"


def _sounds(phoneme: str, habits: dict[str, str], table: frozenset[str]) -> list[str]:
    if phoneme in _SAME:
        return [sound for part in _SAME[phoneme].split() for sound in _sounds(part, habits, table)]
    if phoneme in habits:
        return habits[phoneme].split()
    for candidate in _CANDIDATES.get(phoneme, (phoneme,)):
        parts = [habits.get(part, part) if part == "r" else part for part in candidate.split()]
        if all(part in table for part in parts):
            return parts
    raise KeyError(f"no sound for {phoneme!r}")
