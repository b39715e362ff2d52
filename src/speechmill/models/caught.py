"""What an attention decoder does that lost its way: it repeats itself, or does not end. Found here, mended by CTC."""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST = 24  # tokens of a phrase that is looked for
_TIMES = 4  # that it is said in a row
_TOKENS = 32  # that the repetitions have in all: people do say "no no no no" and "seven seven seven seven"


def loops(tokens: Sequence[int]) -> bool:
    """Whether some phrase stands at least four times in a row, over at least 32 tokens."""
    return any(_loops_with(tokens, period) for period in range(1, min(_LONGEST, len(tokens) // _TIMES) + 1))


def _loops_with(tokens: Sequence[int], period: int) -> bool:
    needed = max(_TOKENS, _TIMES * period) - period  # places in a row that equal the one a period before
    run = 0
    for before, now in zip(tokens, tokens[period:], strict=False):
        run = run + 1 if before == now else 0
        if run >= needed:
            return True
    return False


def caught(tokens: Sequence[int], ended: bool) -> str:
    """ "loop" or "length" where a hypothesis is not to be believed; else empty.

    Args:
        ended: the decoder ended the sentence itself, and was not cut off at the limit of its length.
    """
    if loops(tokens):
        return "loop"
    return "" if ended else "length"
