"""Greedy and beam search of an attention decoder alone: SpeechBrain's, with hypotheses that went astray told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from speechmill.models.base import Encoded, Found
from speechmill.models.caught import caught
from speechmill.settings import SearchSettings
from speechmill.tokenizer import BLANK

_EDGE = BLANK  # BOS and EOS share index 0 with blank, as in the thesis


def plain_search(
    greedy: Callable[..., nn.Module], beam: Callable[..., nn.Module], parts: dict[str, Any], encoded: Encoded,
    search: SearchSettings,
) -> list[Found]:  # fmt: skip
    """Search with SpeechBrain's searcher of a kind of decoder.

    Args:
        greedy, beam: the searchers.
        parts: what both are made of.
    """
    limits = {"bos_index": _EDGE, "eos_index": _EDGE, "min_decode_ratio": 0.0, "max_decode_ratio": 1.0}
    relative = (encoded.steps / encoded.states.shape[1]).float()
    chosen, width = (greedy, {}) if search.kind == "greedy" else (beam, {"beam_size": search.beam})
    searcher = chosen(**parts, **limits, **width)
    hypotheses = searcher(encoded.states, relative)[0]
    found = []
    # The searchers' limit is the batch's longest; alone, an utterance has as many tokens as steps at most.
    for hypothesis, most in zip(hypotheses, encoded.steps.tolist(), strict=True):
        tokens = [int(token) for token in hypothesis[:most] if int(token) != _EDGE]
        found.append(Found(tokens, caught(tokens, len(tokens) < most)))
    return found
