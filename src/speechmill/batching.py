"""Cut a sequence of utterances into batches under a limit of padded samples and one of padded tokens."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_SLICE = 1 << 16  # utterances looked at together: bounds the memory, not the batches


class Limits(NamedTuple):
    """What a padded batch (utterances times the longest of them) may hold."""

    samples: int  # a batch takes utterances until one more would exceed this
    hard_samples: int  # the last batch may grow to this, to take in a small rest
    tokens: int  # 0: no limit


def cut_batches(samples: Ints, tokens: Ints, limits: Limits) -> Ints:
    """Where batches start, and the end, when utterances are taken in order until the padded batch is full.

    An utterance that exceeds a limit by itself is a batch by itself: it is never waited for. A last batch that is a
    small rest joins the one before where the hard limit allows it.

    Args:
        samples, tokens: of each utterance, in the order in which they are taken.
    """
    starts, end, width = [0], len(samples), _SLICE
    while starts[-1] < end:
        first = starts[-1]
        last = min(end, first + width)
        sizes = _largest(samples[first:last], tokens[first:last], limits).tolist()
        place = 0
        # A batch that reaches the end of the slice might go on behind it.
        while place < last - first and (last == end or place + sizes[place] < last - first):
            place += sizes[place]
            starts.append(first + place)
        if starts[-1] == first:
            width *= 2
    if len(starts) > 2 and _fits(samples[starts[-3] :], tokens[starts[-3] :], limits):
        del starts[-2]
    return np.array(starts, dtype=np.int64)


def _fits(samples: Ints, tokens: Ints, limits: Limits) -> bool:
    count = len(samples)
    return int(samples.max()) * count <= limits.hard_samples and (
        not limits.tokens or int(tokens.max()) * count <= limits.tokens
    )


def _largest(samples: Ints, tokens: Ints, limits: Limits) -> Ints:
    """For each utterance, how many from it on make the largest batch within the limits; at least one.

    The padded size of a batch never shrinks as it grows, so the largest is found by adding powers of two, the largest
    power first, where the maximum over the next 2^j utterances comes from a table that is built by doubling.
    """
    kinds = [(samples, limits.samples)] + ([(tokens, limits.tokens)] if limits.tokens else [])
    tables = [_maxima(values, limit) for values, limit in kinds]
    count, place = np.zeros(len(samples), dtype=np.int64), np.arange(len(samples))
    longest = [np.zeros(len(samples), dtype=np.int64) for _ in kinds]
    for level in range(min(len(table) for table in tables) - 1, -1, -1):
        more = count + (1 << level)
        behind = np.minimum(place + count, len(samples))
        grown = [np.maximum(most, table[level][behind]) for most, table in zip(longest, tables, strict=True)]
        fits = np.ones(len(samples), dtype=bool)
        for most, (_, limit) in zip(grown, kinds, strict=True):
            fits &= most * more <= limit
        count = np.where(fits, more, count)
        longest = [np.where(fits, new, old) for new, old in zip(grown, longest, strict=True)]
    return np.maximum(count, 1)


def _maxima(values: Ints, limit: int) -> list[Ints]:
    """Level j: the maximum over the 2^j values from each place on; more than `limit` where there are fewer left."""
    most = min(len(values), limit // max(1, int(values.min())))  # no batch can hold more
    table = [np.append(values, limit + 1)]
    while 2 << (len(table) - 1) <= most:
        reach = 1 << (len(table) - 1)
        below = table[-1]
        shifted = np.full(len(below), limit + 1, dtype=np.int64)
        shifted[:-reach] = below[reach:]
        table.append(np.maximum(below, shifted))
    return table
