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
    search: SearchSettings, apart: bool = True,
) -> list[Found]:  # fmt: skip
    """Search with SpeechBrain's searcher of a kind of decoder.

    Args:
        greedy, beam: the searchers.
        parts: what both are made of.
        apart: SpeechBrain's beam ends after as many tokens as the batch's longest has steps, and what it then gives
            depends on that; so that it does not, only utterances of as many steps are searched together.
    """
    limits = {"bos_index": _EDGE, "eos_index": _EDGE, "min_decode_ratio": 0.0, "max_decode_ratio": 1.0}
    chosen, width = (greedy, {}) if search.kind == "greedy" else (beam, {"beam_size": search.beam})
    searcher = chosen(**parts, **limits, **width)
    if search.kind == "greedy" or not apart:
        return _found(searcher, encoded)
    found: dict[int, Found] = {}
    for most in sorted(set(encoded.steps.tolist())):
        rows = (encoded.steps == most).nonzero()[:, 0]
        some = Encoded(encoded.states[rows, :most], encoded.steps[rows])
        found.update(zip(rows.tolist(), _found(searcher, some), strict=True))
    return [found[row] for row in range(len(encoded.steps))]


def _found(searcher: nn.Module, encoded: Encoded) -> list[Found]:
    relative = (encoded.steps / encoded.states.shape[1]).float()
    hypotheses = searcher(encoded.states, relative)[0]
    found = []
    # The searchers' limit is the batch's longest; alone, an utterance has as many tokens as steps at most.
    for hypothesis, most in zip(hypotheses, encoded.steps.tolist(), strict=True):
        tokens = [int(token) for token in hypothesis[:most] if int(token) != _EDGE]
        found.append(Found(tokens, caught(tokens, len(tokens) < most)))
    return found
