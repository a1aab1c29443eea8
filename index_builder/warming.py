"""`meet-build warm`: a version's reverse lists loaded into Redis, before servers ask for them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from index_builder.build import Progress
from model.artifact.reader import Artifact, ArtifactSide
from model.core.errors import InputError
from model.core.types import Direction, Frozen, HalfArray, Modality, RowArray
from model.reverse_lists.layers import ComputedLists
from model.reverse_lists.redis_door import RedisDoor
from model.reverse_lists.redis_layer import RedisLayer
from model.reverse_lists.redis_options import KEEP_SECONDS, RedisOptions

ROWS = 1024
PATIENCE = RedisOptions(timeout_seconds=10.0, put_bytes=1 << 30)


class WarmOptions(Frozen):
    """Everything `meet-build warm` can be told beside the version."""

    redis_url: str
    keep_seconds: int = Field(default=KEEP_SECONDS, ge=1)
    device: str = "cpu"


@dataclass(frozen=True)
class Warmed:
    """How many lists of one side Redis holds now, and how many had to be computed for it."""

    modality: Modality
    lists: int
    computed: int


def warm(artifact: Artifact, options: WarmOptions, *, show_progress: bool = True) -> list[Warmed]:
    """Load every list of the version, under the keys that its servers ask for.

    Lists come from the stored table, from Redis itself where an earlier run left them, or are
    computed; a second run only makes them stay longer.

    Raises:
        InputError: no side has a bank, or Redis does not take every list.
    """
    sides = [side for m, side in artifact.sides.items() if _has_bank(artifact, m)]
    if not sides:
        raise InputError(f"version {artifact.version} has no bank, so there are no lists to load")
    door = RedisDoor(options.redis_url, PATIENCE)
    try:
        return [_Side(artifact, side, door, options).load(show_progress) for side in sides]
    finally:
        door.close()


class _Side:
    """One side's lists on their way to Redis."""

    def __init__(
        self, artifact: Artifact, side: ArtifactSide, door: RedisDoor, options: WarmOptions
    ) -> None:
        bank, z = artifact.banks[side.modality.other], artifact.manifest.bank.z
        direction = next(d for d in Direction if d.candidate is side.modality)
        self._side, self._door = side, door
        self._computed = ComputedLists(side.embeddings, bank, z, options.device)
        self._layer = RedisLayer(
            door, artifact.version, direction, z, keep_seconds=options.keep_seconds
        )

    def load(self, show_progress: bool) -> Warmed:
        done = computed = 0
        name = f"{self._side.modality} lists"
        with Progress(name, len(self._side), "items", shown=show_progress) as progress:
            for rows in _blocks(len(self._side)):
                lists, missing = self._lists(rows)
                self._share(rows, lists, done)
                done, computed = done + len(rows), computed + missing
                progress(len(rows))
        return Warmed(self._side.modality, done, computed)

    def _lists(self, rows: RowArray) -> tuple[HalfArray, int]:
        """Lists (C, z) of rows (C,), and how many of them were computed."""
        if self._side.reverse_lists is not None:
            return self._side.reverse_lists[rows], 0
        found = self._layer.get(rows)
        if not self._door.ready:  # rather than computing what nobody takes
            raise InputError(f"redis cannot be read: {self._door.trouble}")
        lists = np.empty((len(rows), found.lists.shape[1]), dtype=np.float16)
        lists[found.mask] = found.lists
        missing = rows[~found.mask]
        if len(missing):
            lists[~found.mask] = self._computed.lists(missing)
        return lists, len(missing)

    def _share(self, rows: RowArray, lists: HalfArray, done: int) -> None:
        if self._layer.share(rows, lists) < len(rows):
            raise InputError(
                f"redis took {done} of {len(self._side)} {self._side.modality} lists and no "
                f"more: {self._door.trouble}"
            )


def _has_bank(artifact: Artifact, modality: Modality) -> bool:
    bank = artifact.bank(modality.other)
    return bank is not None and len(bank) > 0


def _blocks(count: int) -> Iterator[RowArray]:
    """Rows 0 to count, in blocks."""
    return (np.arange(start, min(start + ROWS, count)) for start in range(0, count, ROWS))
