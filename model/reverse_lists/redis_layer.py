"""Reverse lists shared through Redis, as compact binary."""

import numpy as np

from model.core.types import Direction, HalfArray, RowArray
from model.reverse_lists.layers import Found
from model.reverse_lists.redis_door import RedisDoor
from model.reverse_lists.redis_options import KEEP_SECONDS

LITTLE_HALF = "<f2"


class RedisLayer:
    """Lists under `meet:{index version}:{direction}:{row}`, fp16 bytes behind the door's seal.

    Rows never move within an index version, so a row names its item as well as an id does and
    costs no look-up. One round trip reads a batch's lists, one shares new ones.
    """

    name = "redis"

    def __init__(
        self,
        door: RedisDoor,
        index_version: str,
        direction: Direction,
        z: int,
        *,
        keep_seconds: int = KEEP_SECONDS,
    ) -> None:
        """Take the door to Redis, and how long lists (z,) are kept."""
        self._door, self._keep_seconds = door, keep_seconds
        self._prefix, self._z = f"meet:{index_version}:{direction}:", z

    def get(self, rows: RowArray) -> Found:
        """The lists that Redis has."""
        values = self._door.get_many(self._keys(rows))
        size = np.dtype(LITTLE_HALF).itemsize * self._z
        held = [v if v is not None and len(v) == size else None for v in values]
        mask = np.fromiter((v is not None for v in held), np.bool_, len(held))
        joined = b"".join(v for v in held if v is not None)
        return Found(mask, np.frombuffer(joined, dtype=LITTLE_HALF).reshape(-1, self._z))

    def put(self, rows: RowArray, lists: HalfArray) -> None:
        """Share the lists, if Redis takes them."""
        self.share(rows, lists)

    def share(self, rows: RowArray, lists: HalfArray) -> int:
        """How many of the lists (C, z) of rows (C,), the first ones, Redis took."""
        halves = lists.astype(LITTLE_HALF, copy=False)
        values = (one.tobytes() for one in halves)
        return self._door.put_many(
            dict(zip(self._keys(rows), values, strict=True)), self._keep_seconds
        )

    def _keys(self, rows: RowArray) -> list[str]:
        return [f"{self._prefix}{row}" for row in rows.tolist()]
