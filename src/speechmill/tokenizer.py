"""SentencePiece tokenizers with a fingerprint. Index 0 is unknown, blank, BOS and EOS at once, as in the thesis."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import sentencepiece

from speechmill.artefact import disk_errors, fingerprint, locked, read_json, sha256, tidy, write_json, written
from speechmill.errors import SpeechmillError
from speechmill.manifest import scan_manifest
from speechmill.progress import track
from speechmill.settings import TokenizerSettings
from speechmill.text import WILDCARD, normalize
from speechmill.workers import cores

BLANK = 0
ANYTHING = -1  # a wildcard's id: no token of the model's, any of them may be said there
_MARK = "\u2581"  # SentencePiece's, for a space
_MANY = 100_000  # texts of which the pieces take more than a few seconds
_THREADS = 4  # fixed: the unigram trainer's sums depend on it


class Tokenizer:
    """Text to token ids and back. `fingerprint` names the model's bytes and its settings."""

    def __init__(self, model: bytes, settings: TokenizerSettings) -> None:
        self._model = model
        self.settings = settings
        self.fingerprint = fingerprint({"model": sha256(model), "settings": settings.model_dump(mode="json")})
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)

    def __len__(self) -> int:
        return int(self._pieces.get_piece_size())

    def __getstate__(self) -> tuple[bytes, TokenizerSettings]:
        return self._model, self.settings

    def __setstate__(self, state: tuple[bytes, TokenizerSettings]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def encode(self, text: str) -> list[int]:
        """The ids of a text; characters that training never saw become 0, unknown; wildcards in a row are one
        `ANYTHING`.
        """
        text = normalize(text) if self.settings.text == "normalized" else text
        ids: list[int] = []
        for number, part in enumerate(text.split(WILDCARD)):
            if number and ids[-1:] != [ANYTHING]:
                ids.append(ANYTHING)
            ids += self._pieces.encode(part)
        return ids

    def counts(self, texts: list[str]) -> npt.NDArray[np.int32]:
        """How many ids `encode` gives for each of some texts; on all cores."""
        if self.settings.text == "normalized":
            texts = [normalize(text) for text in texts]
        ids: list[list[int]] = self._pieces.encode(texts, num_threads=cores())
        lengths = (len(self.encode(text) if WILDCARD in text else each) for text, each in zip(texts, ids, strict=True))
        return np.fromiter(lengths, np.int32, len(texts))

    def decode(self, ids: list[int]) -> str:
        """The text of ids; 0 (unknown) is left out."""
        text: str = self._pieces.decode([token for token in ids if token != BLANK])
        return text

    def begins_word(self, token: int) -> bool:
        """Whether a token has the mark of a new word."""
        return str(self._pieces.id_to_piece(token)).startswith(_MARK)

    def letters(self, token: int) -> str:
        """A token's characters without that mark."""
        return str(self._pieces.id_to_piece(token)).removeprefix(_MARK)

    def save(self, path: Path, source: str | None = None) -> None:
        """Write the SentencePiece model at `path` and its settings beside it, those last: they say that it is whole.

        Args:
            source: fingerprint of the text and the settings that it was trained on.
        """
        with disk_errors(path):
            _note_path(path).unlink(missing_ok=True)  # the note of an older model must not vouch for this one
        with written(path) as partial:
            partial.write_bytes(self._model)
        note = {"fingerprint": self.fingerprint, "pieces": len(self), "settings": self.settings.model_dump(mode="json")}
        write_json(_note_path(path), note | ({"source": source} if source else {}))


def load_tokenizer(path: Path) -> Tokenizer:
    """Open a tokenizer. SpeechmillError where the model or its note is missing, or they do not belong together."""
    if not path.is_file():
        raise SpeechmillError(f"{path}: no such tokenizer; make one with `speechmill tokenizer`.")
    if not _note_path(path).is_file():
        raise SpeechmillError(
            f"{path}: not a tokenizer of Speechmill, which has {_note_path(path).name} beside it; make one with "
            f"`speechmill tokenizer`."
        )
    note = read_json(_note_path(path))
    try:
        expected = note["fingerprint"]
        tokenizer = Tokenizer(path.read_bytes(), TokenizerSettings(**note["settings"]))
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise SpeechmillError(f"{path}: not a tokenizer of Speechmill ({error}).") from error
    if tokenizer.fingerprint != expected:
        raise SpeechmillError(f"{path}: was changed after its note was written; remove it and train it again.")
    return tokenizer


def train_tokenizer(manifest: Path, out: Path, settings: TokenizerSettings) -> tuple[Tokenizer, bool]:
    """Train on the texts of the manifest's train split; returns the tokenizer and whether it was there already.

    Raises SpeechmillError where the text does not allow so many pieces, or `out` is a tokenizer of other settings.
    """
    texts = _train_texts(manifest)
    source = fingerprint({"texts": sha256("\n".join(texts).encode()), "settings": settings.model_dump(mode="json")})
    if out.is_file() and _note_path(out).is_file():
        there = load_tokenizer(out)
        if read_json(_note_path(out)).get("source", source) == source and there.settings == settings:
            tidy(out)
            return there, True
        raise SpeechmillError(
            f"{out}: a tokenizer of another text or other settings; remove it or choose another name."
        )
    tokenizer = Tokenizer(_train(texts, settings, manifest), settings)
    with locked(out):
        tokenizer.save(out, source)
    return tokenizer, False


def check_tokenizer(tokenizer: Tokenizer, settings: TokenizerSettings, path: Path) -> None:
    """Raise SpeechmillError where a tokenizer is not the one that a recipe asks for."""
    for name, wanted in settings.model_dump().items():
        found = getattr(tokenizer.settings, name)
        if found != wanted:
            raise SpeechmillError(
                f"{path}: this tokenizer has {name} {found}, the recipe's tokenizer.{name} is {wanted}; "
                f"train one with `speechmill tokenizer` or change the recipe."
            )


def _note_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _train_texts(manifest: Path) -> list[str]:
    rows = scan_manifest(manifest).filter(pl.col("split") == "train")
    texts = rows.select(pl.col("text").str.replace_all(WILDCARD, " ", literal=True)).collect()["text"].to_list()
    if not texts:
        raise SpeechmillError(f"{manifest}: no rows in the train split; run `speechmill select` first.")
    return texts


def _train(texts: list[str], settings: TokenizerSettings, manifest: Path) -> bytes:
    if settings.text == "normalized":
        texts = [normalize(text) for text in texts]
    try:
        model = _run_trainer(texts, settings, settings.size)
        if settings.kind == "char":
            _check_characters(texts, settings, manifest)
    except RuntimeError as error:
        raise SpeechmillError(_explain(str(error), settings, manifest)) from error
    return model


def _check_characters(texts: list[str], settings: TokenizerSettings, manifest: Path) -> None:
    # Of single characters SentencePiece makes fewer pieces than it is asked for, or leaves some out, and says nothing.
    pieces = sentencepiece.SentencePieceProcessor(model_proto=_run_trainer(texts, settings, 2**20)).get_piece_size()
    if pieces != settings.size:
        most = "at most" if pieces < settings.size else "at least"
        raise SpeechmillError(
            f"{manifest}: a char tokenizer of its train text has {most} {pieces} pieces, tokenizer.size asks for "
            f"{settings.size}; set tokenizer.size={pieces}."
        )


def _run_trainer(texts: list[str], settings: TokenizerSettings, size: int) -> bytes:
    options: dict[str, Any] = {
        "vocab_size": size,
        "model_type": settings.kind,
        "character_coverage": settings.character_coverage,
        "unk_id": BLANK, "bos_id": -1, "eos_id": -1, "pad_id": -1,
        "num_threads": _THREADS,
        "input_sentence_size": 2_000_000, "shuffle_input_sentence": True,
        "max_sentence_length": 100_000,
        "minloglevel": 2,
    }  # fmt: skip
    model = io.BytesIO()
    sentences = _told(texts, size)
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=sentences, model_writer=model, **options)
    return model.getvalue()


def _told(texts: list[str], size: int) -> Iterator[str]:
    """The texts, with a bar; what SentencePiece does when it has them all it does not tell."""
    yield from track(texts, "tokenizer", len(texts), "sentences")
    if len(texts) >= _MANY:
        print(f"tokenizer: SentencePiece chooses {size} pieces; that may take minutes", file=sys.stderr, flush=True)


def _explain(error: str, settings: TokenizerSettings, manifest: Path) -> str:
    most = re.search(r"value <= (\d+)", error)
    if most:
        return (
            f"{manifest}: its train text allows at most {most[1]} pieces, tokenizer.size asks for {settings.size}; "
            f"set tokenizer.size={most[1]} or less."
        )
    least = re.search(r"smaller than required_chars\. \d+ vs (\d+)", error)
    if least:
        return (
            f"{manifest}: the characters of its train text need {least[1]} pieces, tokenizer.size asks for "
            f"{settings.size}; set tokenizer.size={least[1]} or more."
        )
    if "sentences_.empty()" in error:
        return f"{manifest}: the texts of its train split are empty, so there is nothing to train a tokenizer on."
    if "vocab" in error.lower():
        return f"{manifest}: its train text does not allow {settings.size} pieces (tokenizer.size): {error.strip()}"
    return f"{manifest}: no tokenizer could be trained: {error.strip()}"
