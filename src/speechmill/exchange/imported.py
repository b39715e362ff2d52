"""A SpeechBrain checkpoint of the thesis's architecture -> the run folder of a recipe, to train on or evaluate."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechmill.artefact import fingerprint, locked, read_json, sha256_file, write_json
from speechmill.errors import SpeechmillError
from speechmill.group import ALONE
from speechmill.models import build_model
from speechmill.models.crdnn import CrdnnRecognizer
from speechmill.settings import CrdnnSettings, Recipe
from speechmill.strategies.single import Single
from speechmill.tokenizer import Tokenizer
from speechmill.train.checkpoint import TrainState, checkpoints, save_checkpoint
from speechmill.train.data import batches_of, check_letters, open_train_index
from speechmill.train.loop import with_absolute_paths
from speechmill.train.optim import build_optimizer
from speechmill.train.prepare import TOKENIZER_NAME, start_run
from speechmill.train.refit import fit_head

IMPORTED_NAME = "imported.json"  # in the run folder, written last: names what it was made of
_BEGUN = "step_00000000"
# What decides on the shapes of each part.
_SETTINGS = {
    "encoder": "features.n_mels and model.cnn_channels, cnn_kernel, rnn_layers, rnn_size, dnn_blocks, dnn_size",
    "embedding": "tokenizer.size and model.embedding_size",
    "decoder": "model.dnn_size, embedding_size, decoder_size, attention_size, attention_channels, attention_kernel",
    "ctc_head": "tokenizer.size and model.dnn_size",
    "head": "tokenizer.size and model.decoder_size",
}
_MODELS, _NORMALIZERS, _TOKENIZERS = ("asr.ckpt", "model.ckpt"), ("normalizer.ckpt",), ("tokenizer.ckpt",)


def import_model(source: Path, run: Path, recipe: Recipe, refit_ctc: bool = False) -> Recipe:
    """Begin the run folder `run` at update 0 with SpeechBrain's weights; returns the recipe to train it on with.

    Of the same files and model it is not begun again, also where training has gone on since; one that was cut off is.

    Args:
        source: a folder with the model (asr.ckpt or model.ckpt: a list of encoder, embedding, decoder and two linear
            layers, as SpeechBrain's attention recipes save it), normalizer.ckpt and tokenizer.ckpt. Its YAML, which
            could run code, is not read.
        recipe: has the architecture's sizes, and data.shards. Its tokenizer is that of `source`.
        refit_ctc: fit the CTC head anew to the encoder, for models whose training went on without it.
    Raises SpeechmillError where a file is missing or does not fit the recipe.
    """
    if not isinstance(recipe.model, CrdnnSettings):
        raise SpeechmillError(f"import-model: the recipe's model.kind is {recipe.model.kind}, expected crdnn.")
    files = [_find(source, names) for names in (_MODELS, _NORMALIZERS, _TOKENIZERS)]
    tokenizer = _tokenizer(files[2], recipe)
    data = recipe.data.model_copy(update={"tokenizer": str(run / TOKENIZER_NAME)})
    recipe = with_absolute_paths(recipe.model_copy(update={"data": data}))
    made_of = {"fingerprint": fingerprint([recipe.model_fingerprint(), refit_ctc, *map(sha256_file, files)])}
    note = run / IMPORTED_NAME
    if checkpoints(run):
        if note.is_file() and read_json(note) == made_of:
            return recipe
        if note.is_file() or checkpoints(run)[-1].name != _BEGUN:
            raise SpeechmillError(f"{run}: has checkpoints already; choose another run folder.")
    model = build_model(recipe, len(tokenizer))
    assert isinstance(model, CrdnnRecognizer)
    _load_weights(model, files[0])
    _load_statistics(model, files[1])
    index = open_train_index(recipe)
    state = TrainState(shards=index.fingerprint)
    dataset = batches_of(index, tokenizer, recipe, state.epoch_starts)
    check_letters(dataset, tokenizer, files[2])
    run.mkdir(parents=True, exist_ok=True)
    with locked(run):
        tokenizer.save(run / TOKENIZER_NAME)
        if refit_ctc:
            fit_head(model, model.ctc_head, dataset, recipe, ALONE)
        optimizer = build_optimizer(model.parameters(), recipe.optim)
        frozen = Single(model, optimizer, recipe, torch.device("cpu")).freeze(0)
        # The weights first: what a killed import leaves must not be trained on from random ones.
        save_checkpoint(run, state, frozen, recipe)
        start_run(recipe, run, torch.device("cpu"), model, dataset.schedule)
        write_json(note, made_of)
    return recipe


def _find(source: Path, names: tuple[str, ...]) -> Path:
    found = next((source / name for name in names if (source / name).is_file()), None)
    if found is None:
        raise SpeechmillError(f"{source}: no {' or '.join(names)} here; a folder of a SpeechBrain model was expected.")
    return found


def _tokenizer(path: Path, recipe: Recipe) -> Tokenizer:
    try:
        tokenizer = Tokenizer(path.read_bytes(), recipe.tokenizer)
    except RuntimeError as error:
        raise SpeechmillError(f"{path}: not a SentencePiece model ({error}).") from error
    if len(tokenizer) != recipe.tokenizer.size:
        raise SpeechmillError(
            f"{path}: has {len(tokenizer)} pieces, the recipe's tokenizer.size is {recipe.tokenizer.size}; "
            f"set tokenizer.size={len(tokenizer)}."
        )
    return tokenizer


def _load_weights(model: CrdnnRecognizer, path: Path) -> None:
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, value in _read(path).items():
        number, dot, rest = name.partition(".")
        if not dot or not number.isdigit() or not isinstance(value, Tensor):
            raise SpeechmillError(f"{path}: {name!r} is no parameter of a list of modules, e.g. 0.CNN.block_0...")
        parts[number][rest] = value
    ordered = [parts[number] for number in sorted(parts, key=int)]
    taken = {
        "encoder": [part for part in ordered if any(name.startswith("CNN.") for name in part)],
        "embedding": [part for part in ordered if "Embedding.weight" in part],
        "decoder": [part for part in ordered if any(name.startswith("attn.") for name in part)],
    }
    linear = [part for part in ordered if "w.weight" in part]
    taken |= {"ctc_head": linear[:1], "head": linear[1:2]}
    for name, found in taken.items():
        if len(found) != 1:
            raise SpeechmillError(f"{path}: {len(found)} parts that look like the {name}, expected one.")
        module = model.get_submodule(name)
        if wrong := _mismatch(found[0], module.state_dict()):
            raise SpeechmillError(
                f"{path}: the {name} does not fit the recipe's model: {wrong}; look at {_SETTINGS[name]}."
            )
        module.load_state_dict(found[0])


def _mismatch(found: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    """The first weight that has another shape, or that only one side has; empty where all fit."""
    shapes = [{name: list(value.shape) for name, value in side.items()} for side in (found, expected)]
    for name in dict.fromkeys([*expected, *found]):
        theirs, ours = (str(side.get(name, "not there")) for side in shapes)
        if theirs != ours:
            return f"{name} is {theirs}, expected {ours}"
    return ""


def _load_statistics(model: CrdnnRecognizer, path: Path) -> None:
    values = _read(path)
    mean, deviation = values.get("glob_mean"), values.get("glob_std")
    if not isinstance(mean, Tensor) or not isinstance(deviation, Tensor) or mean.shape != model.log_mel.mean.shape:
        raise SpeechmillError(
            f"{path}: no global mean and deviation of {len(model.log_mel.mean)} bins (features.n_mels) in it."
        )
    model.log_mel.set_statistics(mean, deviation)


def _read(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file; each is told
        why = str(error).partition(". ")[0]  # torch goes on with a page of advice to its programmers
        raise SpeechmillError(f"{path}: cannot be read as weights ({type(error).__name__}: {why}).") from error
    if not isinstance(values, dict):
        raise SpeechmillError(f"{path}: weights by name were expected, found {type(values).__name__}.")
    return values
