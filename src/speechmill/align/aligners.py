"""Aligners by name: `pocketsphinx`, `ctc:RUN`, `mms`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from speechmill.align.base import Aligner
from speechmill.errors import SpeechmillError


def _sphinx(_: str) -> Aligner:
    from speechmill.align.sphinx import Sphinx

    return Sphinx()


def _ctc(detail: str) -> Aligner:
    if not detail:
        raise SpeechmillError("align: ctc needs a run folder, as in --aligner ctc:mine/run.")
    from speechmill.align.ctc import Ctc, RunEmitter

    return Ctc(RunEmitter(Path(detail)))


def _mms(_: str) -> Aligner:
    from speechmill.align.mms import Mms

    return Mms()


_MAKERS: dict[str, Callable[[str], Aligner]] = {"pocketsphinx": _sphinx, "ctc": _ctc, "mms": _mms}


def open_aligner(name: str) -> Aligner:
    """The aligner of a name. Raises SpeechmillError for one that is not known or cannot be had."""
    kind, _, detail = name.partition(":")
    if kind not in _MAKERS:
        raise SpeechmillError(f"align: {name!r} is no aligner; known: pocketsphinx, ctc:RUN (a run folder), mms.")
    return _MAKERS[kind](detail)
