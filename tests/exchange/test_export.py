"""What is exported gives elsewhere what it gives here; and what SpeechBrain wrote can be trained on here."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import sentencepiece
import soundfile
import torch
from benchmarks.brain import build_brain
from speechbrain.inference.ASR import EncoderDecoderASR
from speechbrain.lobes.features import Fbank

from conftest import RATE, sound, words_of
from speechmill.artefact import read_json
from speechmill.cli import main
from speechmill.config import override_recipe
from speechmill.errors import SpeechmillError
from speechmill.evaluate import open_recognizer
from speechmill.exchange import imported
from speechmill.exchange.export import Acoustic, export
from speechmill.exchange.imported import import_model
from speechmill.features import LogMel
from speechmill.metrics import read_metrics
from speechmill.models import build_model
from speechmill.settings import ConformerSettings, CrdnnSettings, CtcSettings, FeatureSettings, LossSettings, Recipe
from speechmill.strategies.step import batch_loss
from speechmill.tokenizer import load_tokenizer
from speechmill.train.checkpoint import checkpoints, read_weights
from speechmill.train.data import batches_of, open_train_index
from speechmill.train.loop import train
from speechmill.train.runlog import read_config
from speechmill.transcribe import transcribe
from trained import tiny_recipe, write_recipe

UTTERANCES = 50
SIZES = CrdnnSettings(
    cnn_channels=[8, 8], time_pooling=4, rnn_layers=1, rnn_size=24, dnn_blocks=1, dnn_size=24, dropout=0.0,
    embedding_size=16, decoder_size=24, attention_size=24, attention_channels=4, attention_kernel=10,
    mask_padding=True,
)  # fmt: skip


def recipe_of(shards: Path, tokenizer_path: Path, model: CrdnnSettings | CtcSettings | ConformerSettings) -> Recipe:
    recipe = tiny_recipe(shards, tokenizer_path)
    train_settings = recipe.train.model_copy(update={"updates": 80, "validate_every": 80, "checkpoint_every": 80})
    return recipe.model_copy(update={"model": model, "loss": LossSettings(ctc_epochs=0), "train": train_settings})


@pytest.fixture(scope="module")
def run(shards: Path, tokenizer_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attention") / "run"
    train(recipe_of(shards, tokenizer_path, SIZES), folder)
    return folder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    paths = []
    for number in range(UTTERANCES):
        clean = sound(words_of(1000 + number // 6, number % 6))
        paths.append(folder / f"{number}.wav")
        soundfile.write(paths[-1], clean + 0.005 * rng.standard_normal(len(clean)), RATE, subtype="PCM_16")
    return paths


@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_speechbrain_transcribes_the_same(run: Path, recordings: list[Path], kind: str, tmp_path: Path) -> None:
    out = tmp_path / "speechbrain"
    assert main(["export", str(run), str(out), f"search.kind={kind}", "search.beam=4"]) == 0
    theirs = EncoderDecoderASR.from_hparams(source=str(out), savedir=str(out))
    recipe = override_recipe(read_config(run), [f"search.kind={kind}", "search.beam=4"])
    # Ours puts CTC's text where the decoder repeats itself; SpeechBrain has nothing of the kind.
    ours = replace(open_recognizer(run, recipe, "best"), mend=False)
    found = [transcribe(ours, path).text for path in recordings]
    assert found == [theirs.transcribe_file(str(path)) for path in recordings]
    assert len(set(found)) > 10, "too few different texts to show much"


def test_it_loads_in_another_process_without_a_network(run: Path, recordings: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "speechbrain"
    export(run, out, "speechbrain")
    script = (
        "import socket, sys\n"
        "def refuse(*_): raise OSError('no network in this test')\n"
        "socket.socket.connect = refuse\n"
        "from speechbrain.inference.ASR import EncoderDecoderASR\n"
        "assert not any(name.startswith('speechmill') for name in sys.modules)\n"
        f"print(EncoderDecoderASR.from_hparams(source={str(out)!r}).transcribe_file({str(recordings[0])!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    ours = replace(open_recognizer(run, read_config(run), "best"), mend=False)
    assert done.stdout.splitlines()[-1].strip() == transcribe(ours, recordings[0]).text.strip()


def test_features_are_speechbrains_with_their_floor() -> None:
    ours = LogMel(FeatureSettings())
    theirs = Fbank(sample_rate=16000, n_fft=400, n_mels=40)
    generator = torch.Generator().manual_seed(0)
    audio = 0.1 * torch.randn(2, 16000, generator=generator)
    audio[:, 4000:12000] = 0.0  # silence, raised to the floor
    expected = theirs(audio)
    found, _ = ours.log_mel(audio, torch.tensor([16000, 16000]))
    assert float(expected[0].max() - expected[0].min()) == pytest.approx(80.0, abs=1e-3)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


@pytest.fixture(scope="module")
def of_kind(run: Path, shards: Path, tokenizer_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind of model; `attention, padding heard` is as train.yaml has it."""
    models: dict[str, CrdnnSettings | CtcSettings | ConformerSettings] = {
        "attention, padding heard": SIZES.model_copy(update={"mask_padding": False}),
        "ctc": CtcSettings(size=16, layers=2, stride=4, channels=4),
        "conformer": ConformerSettings(
            size=16, heads=2, layers=1, feedforward=24, kernel=5, channels=4, decoder_layers=1, dropout=0.0
        ),
    }
    runs = {"attention": run}
    for kind, model in models.items():
        recipe = recipe_of(shards, tokenizer_path, model)
        short = recipe.train.model_copy(update={"updates": 4, "validate_every": 4, "checkpoint_every": 4})
        runs[kind] = tmp_path_factory.mktemp("kinds") / "run"
        train(recipe.model_copy(update={"train": short}), runs[kind])
    return runs


@pytest.mark.parametrize("kind", ["attention", "attention, padding heard", "ctc", "conformer"])
@pytest.mark.parametrize("form", ["torchscript", "onnx"])
def test_the_file_computes_the_same_for_any_shape(
    kind: str, form: str, of_kind: dict[str, Path], tmp_path: Path
) -> None:
    folder = of_kind[kind]
    export(folder, tmp_path / "out", form)
    recognizing = open_recognizer(folder, read_config(folder), "best")
    for size, frames in ((1, 57), (3, 200), (2, 120)):
        features = torch.randn(size, frames, 16) * 10 - 40
        lengths = torch.tensor([frames, frames - 30, frames // 2][:size])
        with torch.inference_mode():
            expected, steps = Acoustic(recognizing.model).eval()(features, lengths)
        if form == "onnx":
            session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
            given = {"features": features.numpy(), "frames": lengths.numpy()}
            found, found_steps = (torch.from_numpy(one) for one in session.run(None, given))
        else:
            found, found_steps = torch.jit.load(tmp_path / "out" / "model.pt")(features, lengths)
        assert found_steps.tolist() == steps.tolist()
        for row, most in enumerate(steps.tolist()):
            torch.testing.assert_close(found[row, :most], expected[row, :most], rtol=1e-3, atol=1e-4)
    assert read_json(tmp_path / "out" / "model.json")["blank"] == 0
    assert read_json(tmp_path / "out" / "model.json").get("device") == ("cpu" if form == "torchscript" else None)


def test_a_speechbrain_model_is_trained_on(
    shards: Path, tokenizer_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own modules, saved as its recipes save them; the command that is printed trains on."""
    recipe = recipe_of(shards, tokenizer_path, SIZES)
    torch.manual_seed(5)
    brain = build_brain(recipe, recipe.tokenizer.size)
    source = tmp_path / "speechbrain"
    source.mkdir()
    parts = [brain.modules[name] for name in ("encoder", "embedding", "decoder", "ctc_lin", "seq_lin")]
    torch.save(torch.nn.ModuleList(parts).state_dict(), source / "asr.ckpt")
    statistics = {"count": 1, "glob_mean": torch.full((16,), -30.0), "glob_std": torch.full((16,), 20.0)}
    torch.save(statistics, source / "normalizer.ckpt")
    shutil.copy(tokenizer_path, source / "tokenizer.ckpt")
    path, begun = write_recipe(recipe, tmp_path / "recipe.yaml"), tmp_path / "begun"
    command = ["import-model", str(source), str(begun), "--recipe", str(path), "train.updates=6",
               "train.validate_every=6", "train.checkpoint_every=6", "train.log_every=1"]  # fmt: skip
    assert main(command) == 0
    printed = capsys.readouterr().out
    weights = read_weights(checkpoints(begun)[-1], recipe.model_fingerprint())
    for name, theirs in brain.modules["encoder"].state_dict().items():
        assert torch.equal(weights[f"encoder.{name}"], theirs), name
    for ours, theirs in (("ctc_head", "ctc_lin"), ("head", "seq_lin"), ("embedding", "embedding")):
        for name, value in brain.modules[theirs].state_dict().items():
            assert torch.equal(weights[f"{ours}.{name}"], value), name
    assert main(command) == 0, "again, and nothing to do"
    assert main(printed.split("`")[1].split()[1:]) == 0, "the command that it prints"
    assert [int(one.name.removeprefix("step_")) for one in checkpoints(begun)][-1] == 6
    # The first update's loss is that of SpeechBrain's weights, not of new ones.
    trained_on = read_config(begun)
    dataset = batches_of(open_train_index(trained_on), load_tokenizer(tokenizer_path), trained_on, [0])
    model = build_model(trained_on, trained_on.tokenizer.size).train()
    model.load_state_dict(weights)
    torch.manual_seed(0)
    sums = [batch_loss(model, dataset[number], trained_on, with_ctc=True) for number in range(2)]
    first = next(record for record in read_metrics(begun) if record["event"] == "train")
    assert first["update"] == 1
    assert first["loss"] == pytest.approx(
        sum(one.sum.item() for one in sums) / sum(one.count for one in sums), rel=1e-4
    )
    assert main(command) == 0, "trained on since, and still nothing to do"
    assert checkpoints(begun)[-1].name == "step_00000006"


def test_an_import_that_was_cut_off_is_begun_again(
    run: Path, shards: Path, tokenizer_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(run, tmp_path / "speechbrain", "speechbrain")
    recipe, begun = recipe_of(shards, tokenizer_path, SIZES), tmp_path / "begun"
    with monkeypatch.context() as patched:
        patched.setattr(imported, "start_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            import_model(tmp_path / "speechbrain", begun, recipe)
    assert not (begun / "config.yaml").exists()
    assert checkpoints(begun), "the weights are there before anything trains on"
    import_model(tmp_path / "speechbrain", begun, recipe)
    old, new = (read_weights(checkpoints(folder)[-1], recipe.model_fingerprint()) for folder in (run, begun))
    assert all(torch.equal(value, new[name]) for name, value in old.items() if not name.startswith("log_mel"))


@pytest.mark.parametrize("kind", ["missing", "sizes", "pieces", "damaged", "letters"])
def test_what_does_not_fit_is_told_in_a_line(
    run: Path, kind: str, shards: Path, tokenizer_path: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "speechbrain"
    export(run, folder, "speechbrain")
    recipe = recipe_of(shards, tokenizer_path, SIZES)
    if kind == "missing":
        (folder / "normalizer.ckpt").unlink()
        expected = "no normalizer.ckpt here"
    elif kind == "sizes":
        recipe = recipe_of(shards, tokenizer_path, SIZES.model_copy(update={"rnn_size": 20}))
        expected = (
            r"the encoder does not fit the recipe's model: RNN\.\S+ is \[96, \d+\], expected \[80, \d+\]; look at"
        )
    elif kind == "pieces":
        recipe = recipe.model_copy(update={"tokenizer": recipe.tokenizer.model_copy(update={"size": 99})})
        expected = "tokenizer.size is 99"
    elif kind == "letters":
        of_figures(folder / "tokenizer.ckpt", recipe.tokenizer.size)
        expected = r"tokenizer\.ckpt: .* unknown to this tokenizer.*set tokenizer\.text=normalized"
    else:
        (folder / "asr.ckpt").write_bytes(b"not weights")
        expected = "cannot be read as weights"
    with pytest.raises(SpeechmillError, match=expected) as caught:
        import_model(folder, tmp_path / "run", recipe)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not checkpoints(tmp_path / "run")


def of_figures(path: Path, size: int) -> None:
    """Put a model of so many pieces there that has no letter of the tests' texts."""
    made = io.BytesIO()
    texts = iter(["".join(chr(0x391 + k) for k in range(size - 2))])  # Greek capitals and what follows them
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts, model_writer=made, vocab_size=size, model_type="char", character_coverage=1.0,
        unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1, minloglevel=2, normalization_rule_name="identity",
    )  # fmt: skip
    path.write_bytes(made.getvalue())


def test_what_speechbrain_cannot_do_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "run"
    shutil.copytree(run, other)
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("utterance_mean: false", "utterance_mean: true"))
    assert main(["export", str(other), str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
    capsys.readouterr()
    (tmp_path / "there").mkdir()
    assert main(["export", str(run), str(tmp_path / "there")]) == 2
    assert "is there already" in capsys.readouterr().err
    joint = ["search.kind=beam", "search.ctc_weight=0.4"]
    assert main(["export", str(run), str(tmp_path / "out"), *joint]) == 2
    assert "joins the decoder with CTC (search.ctc_weight 0.4)" in capsys.readouterr().err
    assert main(["export", str(run), str(tmp_path / "out"), "train.updates=5"]) == 2
    assert "is no setting of the search" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_second_export_finds_the_first(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", str(run), str(tmp_path / "out")]
    assert main(command) == 0
    assert main(command) == 0
    assert "already there" in capsys.readouterr().out
    assert main([*command, "search.kind=beam"]) == 2
    assert "is not this export" in capsys.readouterr().err
