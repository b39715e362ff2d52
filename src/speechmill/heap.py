"""The memory of this process outside of Python: what is freed stays, to be used again."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's numbers for them, in glibc's malloc.h
_NEVER = -1
_MOST = (2**31 - 1, 32 << 20)  # bytes; older versions take no more than the second


def keep_freed() -> int:
    """Have malloc keep what is freed, in pieces up to as many bytes as are returned; 0: only glibc has the setting.

    By itself glibc gives larger pieces, and what is free at the end of the heap, back to the system, which fills their
    pages with zeros when they are asked for again: 40,000 pages and a sixth of the time in a step of the demo's
    attention recipe.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not mallopt(_TRIM_THRESHOLD, _NEVER):
        return 0
    return next((size for size in _MOST if mallopt(_MMAP_THRESHOLD, size)), 0)


def give_back() -> None:
    """Return to the system what is free, where malloc knows how."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
