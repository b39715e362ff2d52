"""Small signed numbers, one for each row of a column, held as bit planes, so that to compare is a few operations."""

from __future__ import annotations

from speechmill.score.columns import Column

Planes = tuple[int, ...]
"""Bit `j` of plane `k` is bit `k` of a number (two's complement) that belongs to row `low + j`."""


def added(number: Planes, rises: int, falls: int) -> Planes:
    """Add one where `rises` has a bit, subtract one where `falls` has."""
    found = []
    addend, carry = rises | falls, 0
    for plane in number:
        found.append(plane ^ addend ^ carry)
        carry = (plane & (addend | carry)) | (addend & carry)
        addend = falls
    return tuple(found)


def smaller(one: Planes, other: Planes, full: int) -> Planes:
    """Return the smaller number at each place."""
    less, undecided = 0, full  # where `other` is less
    sign = len(one) - 1
    for place in range(sign, -1, -1):
        unequal = undecided & (one[place] ^ other[place])
        less |= unequal & (other[place] if place == sign else one[place])  # a sign bit makes a number less
        undecided ^= unequal
    return tuple(mine ^ ((mine ^ theirs) & less) for mine, theirs in zip(one, other, strict=True))


def equal_rows(one: Planes, other: Planes, full: int) -> int:
    unequal = 0
    for mine, theirs in zip(one, other, strict=True):
        unequal |= mine ^ theirs
    return full & ~unequal


def summed(start: Column, difference: Planes, full: int) -> Column:
    """Return the column that differs from `start` by these numbers.

    Its own steps along the hypothesis are -1, 0 or 1: the last two bits of the sum tell which.
    """
    low, high = difference[0], difference[1]
    a, b, c = start.rises | start.falls, low >> 1, low & full  # the step of `start`, the number here, that before
    odd = a ^ b ^ c
    carry = (a & (b | c)) | (b & c)
    negative = (start.falls ^ (high >> 1) ^ ((high ^ low) & full) ^ carry) & full
    return Column(odd & ~negative, odd & negative)
