"""Reverse top-z lists: an item's z highest cosines to the bank of the other modality.

A list is the same bits whether it was computed with the whole gallery or alone: the product
always runs on blocks of one fixed shape, padded with zeros.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.ann.halves import widened
from model.core.errors import CodeShapeError
from model.core.types import HalfArray, RankArray

# Below every cosine: fills lists of a bank smaller than z, and counts as no entry.
PADDING = -2.0
BLOCK_ROWS = 128

Progress = Callable[[int], None]


class BankScorer:
    """The bank on its device, ready to score blocks of candidates."""

    def __init__(self, bank: NDArray[np.floating], z: int, device: str = "cpu") -> None:
        """Take a bank (B, D); lists will be z long."""
        self.z = z
        self._bank = _float32(bank).to(device)  # (B, D)

    def lists(self, candidates: NDArray[np.floating]) -> HalfArray:
        """Lists (C, z) fp16, descending, of candidates (C, D).

        Raises:
            CodeShapeError: candidates and bank differ in width.
        """
        if candidates.shape[-1] != self._bank.shape[1]:
            raise CodeShapeError(
                f"a bank of D={self._bank.shape[1]} needs candidates alike, got {candidates.shape}"
            )
        lists = np.full((len(candidates), self.z), PADDING, dtype=np.float16)
        for start, stop in _blocks(len(candidates)):
            top = self._block(candidates[start:stop])
            lists[start:stop, : top.shape[1]] = top
        return lists

    def _block(self, candidates: NDArray[np.floating]) -> HalfArray:
        """Lists (C, min(z, B)) of at most BLOCK_ROWS candidates."""
        padded = torch.zeros((BLOCK_ROWS, self._bank.shape[1]), device=self._bank.device)
        padded[: len(candidates)] = _float32(candidates)
        return _top(padded @ self._bank.T, self.z)[: len(candidates)]


def reverse_lists(
    candidates: NDArray[np.floating],
    bank: NDArray[np.floating],
    z: int,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> HalfArray:
    """Lists (N, z) fp16: each candidate's z highest cosines to the bank, descending.

    A bank smaller than z leaves the rest at `PADDING`. `progress` is told the number of rows
    done after each block.
    """
    scorer = BankScorer(bank, z, device)
    lists = np.empty((len(candidates), z), dtype=np.float16)
    for start, stop in _blocks(len(candidates)):
        lists[start:stop] = scorer.lists(candidates[start:stop])
        if progress is not None:
            progress(stop - start)
    return lists


def reverse_ranks(lists: NDArray[np.floating], cosines: NDArray[np.floating]) -> RankArray:
    """Ranks (C,), 0 = best: how many values of each list (C, z) exceed the query's cosine (C,).

    The cosine is rounded to fp16 as the lists are, so a value never loses to its own rounding.
    Ranks end at the number of entries: beyond the list nothing is known.
    """
    own = np.asarray(cosines, dtype=np.float16) + np.float16(0)  # which makes -0.0 0.0
    values, wanted = _comparable(lists, own)
    above = (values > wanted[:, None]).view(np.uint8)
    narrow = np.min_scalar_type(lists.shape[1])  # sums faster than whole words
    return np.asarray(np.add.reduce(above, axis=1, dtype=narrow), dtype=np.int32)


def _comparable(lists: NDArray[np.floating], own: HalfArray) -> tuple[NDArray[Any], NDArray[Any]]:
    """Lists and cosines as numbers that compare as they do, and fast.

    Where no list holds a sign, halves compare as their bits do as whole numbers, and those of a
    cosine below zero are below them all.
    """
    if lists.dtype != np.float16:
        return lists, own.astype(lists.dtype)
    bits = lists.view(np.int16)
    if int(bits.min(initial=0)) >= 0:
        return bits, own.view(np.int16)
    return widened(lists), own.astype(np.float32)


def valid_counts(lists: NDArray[np.floating]) -> RankArray:
    """Entries (C,) of each descending list (C, z) that are no padding."""
    if lists.shape[1] and (lists[:, -1] > PADDING).all():
        return np.full(len(lists), lists.shape[1], dtype=np.int32)
    return np.asarray(np.count_nonzero(lists > PADDING, axis=1), dtype=np.int32)


def _top(scores: Tensor, z: int) -> HalfArray:
    """The z highest of each row as fp16, descending.

    On the CPU numpy's vectorised partition is three times faster than torch.topk. Rounding
    keeps order, so selecting before rounding gives the same values.
    """
    width = min(z, scores.shape[1])
    if scores.device.type != "cpu":
        return np.asarray(torch.topk(scores, width).values.half().cpu().numpy())
    values = scores.numpy()
    if width < values.shape[1]:
        values = np.partition(values, -width, axis=1)[:, -width:]
    return np.sort(values, axis=1)[:, ::-1].astype(np.float16)


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    return pairwise([*range(0, count, BLOCK_ROWS), count])


def _float32(vectors: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.require(widened(vectors), requirements=["C", "W"]))
