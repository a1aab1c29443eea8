"""Keeping memory that training frees and needs again."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> None:
    """Let blocks below a GiB be used again instead of going back to the system.

    glibc returns blocks above 32 MiB at once, and the system clears their pages when they are
    asked for again: half of a training step's time on a CPU. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
