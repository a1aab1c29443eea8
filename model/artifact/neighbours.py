"""The neighbours of every item of a side, for the pillar re-ranker: writer and reader together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.artifact.files import NpyStream, map_array
from model.artifact.layout import SideLayout
from model.core.closing import Closing
from model.core.types import FloatArray, RankArray


@dataclass(frozen=True)
class NeighbourTable:
    """Nearest rows of every item, mapped; -1 where a small gallery or bank has no more."""

    own: RankArray  # (N, k), of its own side, itself first
    other: RankArray  # (N, k), of the bank of the other modality
    reach: FloatArray  # (N,), the cosine that a new entry of the bank must exceed

    @classmethod
    def map(cls, layout: SideLayout, n_items: int, depth: int) -> "NeighbourTable":
        """The table of a side.

        Raises:
            ArtifactError: a file is missing or has another shape.
        """
        return cls(
            map_array(layout.own_neighbours, (n_items, depth), np.int32),
            map_array(layout.bank_neighbours, (n_items, depth), np.int32),
            map_array(layout.neighbour_reach, (n_items,), np.float32),
        )


class NeighbourWriter(Closing):
    """Writes the table of a side block by block."""

    def __init__(self, layout: SideLayout, n_items: int, depth: int) -> None:
        """Write the headers; the rows follow through `append`."""
        self._own = NpyStream(layout.own_neighbours, (n_items, depth), np.int32)
        self._other = NpyStream(layout.bank_neighbours, (n_items, depth), np.int32)
        self._reach = NpyStream(layout.neighbour_reach, (n_items,), np.float32)

    def append(
        self, own: NDArray[np.integer], other: NDArray[np.integer], reach: FloatArray
    ) -> None:
        """Add rows: neighbours (n, k) of either kind, and the reach (n,)."""
        self._own.append(own)
        self._other.append(other)
        self._reach.append(reach)

    def close(self) -> None:
        """Close the files."""
        for stream in (self._own, self._other, self._reach):
            stream.close()
