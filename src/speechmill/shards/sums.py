"""SHA256SUMS: the checksum of every file of a finished folder of shards, as `sha256sum --check` reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from speechmill.artefact import read_text, write_text
from speechmill.errors import SpeechmillError

SUMS_NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    write_text(folder / SUMS_NAME, sums_text(sums))


def sums_text(sums: Mapping[str, str]) -> str:
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))


def read_sums(folder: Path) -> dict[str, str]:
    """File name -> SHA-256. Raises SpeechmillError where there is none or a line is not one."""
    return parse_sums(read_text(folder / SUMS_NAME), str(folder / SUMS_NAME))


def known_sums(folder: Path) -> dict[str, str]:
    """As `read_sums`; empty where there is none that can be read (`verify` says so of the folder)."""
    try:
        return read_sums(folder)
    except SpeechmillError:
        return {}


def parse_sums(text: str, name: str) -> dict[str, str]:
    """As `read_sums`, of a text; `name`: where it comes from."""
    sums = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None or match[2].startswith("/") or ".." in match[2].split("/"):
            raise SpeechmillError(f"{name}, line {number}: not a checksum; 64 hex digits and a name were expected.")
        sums[match[2]] = match[1]
    return sums
