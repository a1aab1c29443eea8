"""Which candidates of a ranking become hits: by least score, without near-duplicates, by page.

Choosing goes down the ranking once, so that what is chosen first does not depend on how far it
goes: pages of any size fit together.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from model.core.types import ByteArray, FloatArray, RowArray
from model.search.calibration import Usual
from model.search.options import SearchOptions

BLOCK = 64


@dataclass(frozen=True)
class Picked:
    """Places (k,) of hits in a stretch of a ranking, and the rows that each stands for."""

    places: RowArray
    duplicates: list[RowArray]


@dataclass
class Picker:
    """Chooses hits from one stretch of a ranking after another, until there are enough."""

    options: SearchOptions
    usual: Usual | None
    codes_of: Callable[[RowArray], ByteArray]
    taken: int = 0
    _kept: list[FloatArray] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """How many hits are still to be chosen."""
        return self.options.depth - self.taken

    def take(self, rows: RowArray, cosines: FloatArray) -> Picked:
        """The hits among the next rows (C,) of the ranking."""
        places = self._good(cosines)
        if self.options.collapse is None:
            found = Picked(places[: self.missing], [])
        else:
            found = self._apart(rows, places, self.options.collapse)
        self.taken += len(found.places)
        return found

    def _good(self, cosines: FloatArray) -> RowArray:
        """Places whose calibrated score is enough."""
        least = self.options.min_score
        if least is None or self.usual is None:
            return np.arange(len(cosines))
        return np.flatnonzero(self.usual.shares(cosines) >= np.float32(least))

    def _apart(self, rows: RowArray, places: RowArray, bits: int) -> Picked:
        """Places whose codes differ in more than `bits` from every better hit's."""
        signs = _signs(self.codes_of(rows[places]))  # (C, K) of -1 and 1
        least = signs.shape[1] - 2 * bits  # two codes are near from this product on
        alive = np.ones(len(places), np.bool_)
        for earlier in self._kept:
            alive &= ~(signs @ earlier.T >= least).any(axis=1)
        chosen: list[int] = []
        duplicates: list[RowArray] = []
        for start in range(0, len(places), BLOCK):
            if len(chosen) == self.missing:
                break
            near = signs[start : start + BLOCK] @ signs.T >= least  # (B, C)
            for place in range(start, min(start + BLOCK, len(places))):
                if alive[place] and len(chosen) < self.missing:
                    like = alive & near[place - start]
                    alive &= ~like
                    like[place] = False
                    chosen.append(place)
                    duplicates.append(rows[places[like]])
        self._kept.append(signs[chosen])
        return Picked(places[chosen], duplicates)


def _signs(codes: ByteArray) -> FloatArray:
    """-1 and 1 (C, K) for the bits of codes (C, K/8): K less twice the distance is a product."""
    return 2 * np.unpackbits(codes, axis=1).astype(np.float32) - 1
