"""A run's recognizer for others: a folder that SpeechBrain loads, or one file of TorchScript or ONNX."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from speechmill.artefact import (
    fingerprint,
    locked,
    read_json,
    sha256_file,
    write_json,
    write_text,
    written,
    written_folder,
)
from speechmill.errors import SpeechmillError
from speechmill.evaluate import open_recognizer
from speechmill.exchange.hyperparams import check_expressible, hyperparams, parts_of
from speechmill.models.attending import AttentionRecognizer
from speechmill.models.base import Encoded, Recognizer
from speechmill.models.crdnn import CrdnnRecognizer
from speechmill.models.ctc import CtcRecognizer
from speechmill.recognize import Recognizing
from speechmill.settings import Recipe, SearchSettings
from speechmill.train.prepare import TOKENIZER_NAME
from speechmill.train.runlog import read_config
from speechmill.train.weights import weight_files

_VERSION = 1  # of what is written: raise it where the same run would give other files
EXPORT_NAME = "export.json"  # in the folder: names what it was made of
_EXAMPLE = (2, 120)  # utterances and frames that the exported computation is traced with; neither is fixed by it


def export(run: Path, out: Path, form: str, checkpoint: str = "best", search: SearchSettings | None = None) -> bool:
    """Write the recognizer of a run as `form`, one of FORMATS: the folder `out`, complete or absent.

    Returns whether it was there already, of the same weights, form and search.

    Args:
        search: that SpeechBrain's folder decodes with; None takes the recipe's.
    Raises SpeechmillError where the form is not known, or has no place for what the recipe does.
    """
    if form not in FORMATS:
        raise SpeechmillError(f"export: {form!r} is no format; known: {', '.join(FORMATS)}.")
    recipe = read_config(run)
    chosen = search or recipe.search
    weights = [sha256_file(path) for path in weight_files(run, checkpoint)]
    decoded = chosen.model_dump(mode="json") if form == "speechbrain" else None  # the others have no search
    made_of = fingerprint([_VERSION, weights, form, decoded, recipe.model_fingerprint(), recipe.loss.refit_updates])
    with locked(out):
        if out.exists():
            if (out / EXPORT_NAME).is_file() and read_json(out / EXPORT_NAME).get("fingerprint") == made_of:
                return True
            raise SpeechmillError(f"{out}: is there already and is not this export; remove it or choose another place.")
        recognizing = open_recognizer(run, recipe, checkpoint, search)
        recognizing.model.cpu()
        with written_folder(out) as partial:
            FORMATS[form](recognizing, recipe, run, partial)
            write_json(partial / EXPORT_NAME, {"fingerprint": made_of, "format": form})
    return False


def _speechbrain(recognizing: Recognizing, recipe: Recipe, run: Path, folder: Path) -> None:
    """Files for SpeechBrain's `EncoderDecoderASR.from_hparams(source=FOLDER)`, named after its loadables."""
    model = recognizing.model
    if not isinstance(model, CrdnnRecognizer):
        raise SpeechmillError(
            f"{run}: --format speechbrain is for model.kind crdnn, this run's is {recipe.model.kind}; "
            f"use --format torchscript or onnx."
        )
    check_expressible(recipe, recognizing.search, run)
    write_text(folder / "hyperparams.yaml", hyperparams(recipe, len(recognizing.tokenizer), recognizing.search))
    torch.save(parts_of(model).state_dict(), folder / "asr.ckpt")
    # Frozen: SpeechBrain's normalisation changes its statistics in training only.
    log_mel = model.log_mel
    torch.save({"count": 1, "glob_mean": log_mel.mean, "glob_std": log_mel.deviation}, folder / "normalizer.ckpt")
    with written(folder / "tokenizer.ckpt") as partial:
        partial.write_bytes((run / TOKENIZER_NAME).read_bytes())


class Acoustic(nn.Module):
    """Log-mel features in dB, as `LogMel.log_mel` gives them -> log probabilities of CTC, and the steps of each.

    features [batch, frames, n_mels], frames [batch] -> [batch, steps, tokens], [batch].
    """

    def __init__(self, model: Recognizer) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        model = self.model
        normal = model.log_mel.normalize(features, frames)
        if isinstance(model, CtcRecognizer):
            outputs, steps = model.log_probs(normal, frames)
            return outputs[-1], steps
        assert isinstance(model, AttentionRecognizer)
        states, steps = model.encoded(normal, frames)
        return torch.log_softmax(model.ctc_logits(Encoded(states, steps)), dim=-1), steps


def acoustic(recognizing: Recognizing) -> tuple[Acoustic, tuple[Tensor, Tensor]]:
    """The module that is exported, and example inputs."""
    model = recognizing.model
    if isinstance(model, CrdnnRecognizer):
        model.encoder.plain = True  # operations that every runtime has
    size, frames = _EXAMPLE
    lengths = torch.linspace(frames, frames // 2, size).long()
    # What is exported recognizes; the Conformer's own in-place operations would refuse parameters that are trained.
    return Acoustic(model).eval().requires_grad_(False), (
        torch.randn(size, frames, model.log_mel.settings.n_mels),
        lengths,
    )


def _torchscript(recognizing: Recognizing, recipe: Recipe, run: Path, folder: Path) -> None:
    module, example = acoustic(recognizing)
    with torch.inference_mode(), _quietly():
        torch.jit.trace(module, example, check_trace=False).save(str(folder / "model.pt"))  # type: ignore[no-untyped-call]
    _describe(recognizing, recipe, run, folder, device="cpu")  # tracing writes down where tensors are made


def _onnx(recognizing: Recognizing, recipe: Recipe, run: Path, folder: Path) -> None:
    module, example = acoustic(recognizing)
    axes = {"features": {0: "batch", 1: "frames"}, "frames": {0: "batch"},
            "log_probs": {0: "batch", 1: "steps"}, "steps": {0: "batch"}}  # fmt: skip
    try:
        with torch.inference_mode(), _quietly():
            torch.onnx.export(
                module, example, str(folder / "model.onnx"), input_names=["features", "frames"],
                output_names=["log_probs", "steps"], dynamic_axes=axes, dynamo=False, opset_version=17,
            )  # fmt: skip
    except (ModuleNotFoundError, torch.onnx.errors.OnnxExporterError) as error:
        missing = isinstance(error, ModuleNotFoundError) or "not installed" in str(error)
        what = "the package onnx is missing (pip install 'speechmill[onnx]')" if missing else str(error).splitlines()[0]
        raise SpeechmillError(f"{run}: cannot be written as ONNX: {what}.") from error
    _describe(recognizing, recipe, run, folder)


def _describe(recognizing: Recognizing, recipe: Recipe, run: Path, folder: Path, **more: str) -> None:
    """What a user of the file has to know, and the tokenizer."""
    recognizing.tokenizer.save(folder / TOKENIZER_NAME)
    about = {
        "inputs": {"features": "[batch, frames, n_mels] float32, log-mel in dB", "frames": "[batch] int64"},
        "outputs": {"log_probs": "[batch, steps, tokens] of CTC, natural logarithms", "steps": "[batch] int64"},
        "blank": 0,
        "features": recipe.features.model_dump(mode="json"),
        "run": run.resolve().name,
        **more,
    }
    write_json(folder / "model.json", about)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Tracing warns of every number that it reads from a shape; tests/exchange run the file with other shapes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


FORMATS: dict[str, Callable[[Recognizing, Recipe, Path, Path], None]] = {
    "speechbrain": _speechbrain,
    "torchscript": _torchscript,
    "onnx": _onnx,
}
