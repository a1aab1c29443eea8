"""Filters that say nothing of metadata: a test decides which rows each one means."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from model.cascade import Cascade
from model.core.filters import Filter
from model.core.types import Modality


@dataclass
class Masks:
    """A matcher whose filters are named by number."""

    known: dict[Filter, NDArray[np.bool_]] = field(default_factory=dict)
    asked: list[Filter] = field(default_factory=list)

    def name(self, mask: NDArray[np.bool_]) -> Filter:
        """A new filter that means these rows."""
        found = Filter.of({"mask": len(self.known)})
        self.known[found] = mask
        return found

    def mask(self, asked: Filter) -> NDArray[np.bool_]:
        self.asked.append(asked)
        return self.known[asked]


def with_masks(cascade: Cascade, modality: Modality, masks: Masks) -> Cascade:
    """The cascade with one side's filters answered by masks."""
    sides = {**cascade.sides, modality: replace(cascade.sides[modality], matcher=masks)}
    banks = {m: background._bank for m, background in cascade._backgrounds.items()}
    return Cascade(cascade.heads, sides, cascade.second, banks)
