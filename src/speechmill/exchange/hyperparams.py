"""SpeechBrain's description of a recognizer: the HyperPyYAML from which `EncoderDecoderASR` is made."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from speechmill.errors import SpeechmillError
from speechmill.models.crdnn import CrdnnRecognizer
from speechmill.settings import CrdnnSettings, Recipe, SearchSettings

_PADDING = """\
# It was trained with its padding masked. SpeechBrain's encoder hears padding: in a batch of recordings of different
# lengths (transcribe_batch) it gives the shorter ones other texts than alone; transcribe_file has no padding.
"""
_FLOOR_DB = 80.0  # SpeechBrain's, which cannot be set


def parts_of(model: CrdnnRecognizer) -> nn.ModuleList:
    """The recognizer's parts in the order of SpeechBrain's recipes: encoder, embedding, decoder, CTC and attention
    heads."""
    return nn.ModuleList([model.encoder, model.embedding, model.decoder, model.ctc_head, model.head])


def check_expressible(recipe: Recipe, search: SearchSettings, run: Path) -> None:
    """Raise SpeechmillError where SpeechBrain's modules cannot do what the recipe or the search does."""
    features = recipe.features
    if features.utterance_mean or features.floor_db != _FLOOR_DB:
        raise SpeechmillError(
            f"{run}: SpeechBrain's features have a floor of {_FLOOR_DB:g} dB and no mean of the utterance; "
            f"this run has features.floor_db {features.floor_db:g} and utterance_mean {features.utterance_mean}."
        )
    if search.kind == "beam" and (search.ctc_weight or search.reads_language_model()):
        raise SpeechmillError(
            f"{run}: its search joins the decoder with CTC (search.ctc_weight {search.ctc_weight:g}) or a language "
            f"model (search.lm_order {search.lm_order}), which the exported folder has not; "
            f"give search.ctc_weight=0 search.lm_order=0 search.lm=ngram, or search.kind=greedy."
        )


def hyperparams(recipe: Recipe, tokens: int, search: SearchSettings) -> str:
    """The description, of a recipe and a search that can be expressed (see `check_expressible`)."""
    settings, features = recipe.model, recipe.features
    assert isinstance(settings, CrdnnSettings)
    padding = _PADDING if settings.mask_padding else ""
    blocks, kernel = len(settings.cnn_channels), settings.cnn_kernel
    return f"""\
# Written by `speechmill export`. Load it with speechbrain.inference.ASR.EncoderDecoderASR.from_hparams(source=FOLDER).
{padding}sample_rate: {features.sample_rate}
n_mels: {features.n_mels}
tokens: {tokens}

compute_features: !new:speechbrain.lobes.features.Fbank
  sample_rate: !ref <sample_rate>
  n_fft: {features.n_fft}
  n_mels: !ref <n_mels>
  win_length: {features.window_ms:g}
  hop_length: {features.hop_ms:g}

normalizer: !new:speechbrain.processing.features.InputNormalization
  norm_type: global

crdnn: !new:speechbrain.lobes.models.CRDNN.CRDNN
  input_shape: [null, null, !ref <n_mels>]
  activation: !name:torch.nn.LeakyReLU
  dropout: {settings.dropout:g}
  cnn_blocks: {blocks}
  cnn_channels: {settings.cnn_channels}
  cnn_kernelsize: [{kernel}, {kernel}]
  inter_layer_pooling_size: {[2] * blocks}
  time_pooling: true
  using_2d_pooling: false
  time_pooling_size: {settings.time_pooling}
  rnn_class: !name:speechbrain.nnet.RNN.LSTM
  rnn_layers: {settings.rnn_layers}
  rnn_neurons: {settings.rnn_size}
  rnn_bidirectional: true
  dnn_blocks: {settings.dnn_blocks}
  dnn_neurons: {settings.dnn_size}

embedding: !new:speechbrain.nnet.embedding.Embedding
  num_embeddings: !ref <tokens>
  embedding_dim: {settings.embedding_size}

attention_decoder: !new:speechbrain.nnet.RNN.AttentionalRNNDecoder
  enc_dim: {settings.dnn_size}
  input_size: {settings.embedding_size}
  rnn_type: gru
  attn_type: location
  hidden_size: {settings.decoder_size}
  attn_dim: {settings.attention_size}
  num_layers: 1
  scaling: 1.0
  channels: {settings.attention_channels}
  kernel_size: {settings.attention_kernel}
  dropout: {settings.dropout:g}

ctc_lin: !new:speechbrain.nnet.linear.Linear
  input_size: {settings.dnn_size}
  n_neurons: !ref <tokens>

seq_lin: !new:speechbrain.nnet.linear.Linear
  input_size: {settings.decoder_size}
  n_neurons: !ref <tokens>

asr: !new:torch.nn.ModuleList
  - [!ref <crdnn>, !ref <embedding>, !ref <attention_decoder>, !ref <ctc_lin>, !ref <seq_lin>]

encoder: !new:speechbrain.nnet.containers.LengthsCapableSequential
  input_shape: [null, null, !ref <n_mels>]
  compute_features: !ref <compute_features>
  normalize: !ref <normalizer>
  model: !ref <crdnn>

{_decoder(search)}
tokenizer: !new:sentencepiece.SentencePieceProcessor

audio_normalizer: !new:speechbrain.dataio.preprocess.AudioNormalizer
  sample_rate: !ref <sample_rate>

modules:
  encoder: !ref <encoder>
  decoder: !ref <decoder>

pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
  loadables:
    asr: !ref <asr>
    normalizer: !ref <normalizer>
    tokenizer: !ref <tokenizer>
"""


def _decoder(search: SearchSettings) -> str:
    """The same searchers with the same limits as `CrdnnRecognizer.transcribe`."""
    name = "S2SRNNGreedySearcher" if search.kind == "greedy" else "S2SRNNBeamSearcher"
    lines = [
        f"decoder: !new:speechbrain.decoders.seq2seq.{name}",
        "  embedding: !ref <embedding>",
        "  decoder: !ref <attention_decoder>",
        "  linear: !ref <seq_lin>",
        "  bos_index: 0",
        "  eos_index: 0",
        "  min_decode_ratio: 0.0",
        "  max_decode_ratio: 1.0",
    ]
    if search.kind == "beam":
        lines.append(f"  beam_size: {search.beam}")
    return "\n".join(lines) + "\n"
