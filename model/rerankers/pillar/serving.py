"""The pillar re-ranker over an opened index: one query and its candidates, ordered anew.

The background of a query is the bank of its modality. Where that is the gallery's own, a query
that is an item of the gallery is found there and taken for itself, as in the papers' protocol.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from model.ann.halves import widened
from model.ann.selection import top_positions
from model.artifact.manifest import OWN_BANK
from model.artifact.reader import Artifact
from model.core.errors import UnsupportedRerankError
from model.core.types import Direction, FloatArray, RowArray
from model.rerankers.ordering import AppliedRerank, Reranked, by_consistency, by_pillars
from model.rerankers.pillar.lists import Surroundings
from model.rerankers.pillar.neighbours import MISSING, PillarSide, nearest
from model.rerankers.pillar.reranker import PillarReranker

# Rounding to fp16 moves a unit vector by less than half of this.
SAME_VECTOR = 2.0**-10
# Networks that no cache holds: reading their weights is most of a query's time.
HALVED_BYTES = 8 << 20


@dataclass(frozen=True)
class PillarMode:
    """Networks and tables of every direction that can be asked; safe to share on a CPU."""

    reranker: PillarReranker
    sides: Mapping[Direction, PillarSide]
    own_bank: bool = False

    @classmethod
    def of_artifact(cls, artifact: Artifact) -> "PillarMode | None":
        """What an opened index holds, None without networks or a bank.

        The bank is widened once: a query is compared with all of it.
        """
        sides = {d: side for d in Direction if (side := _side(artifact, d)) is not None}
        if artifact.pillar is None or not sides:
            return None
        own_bank = artifact.manifest.bank.source == OWN_BANK
        return cls(for_serving(artifact.pillar), sides, own_bank)

    def rerank(
        self, direction: Direction, query: FloatArray, rows: RowArray, cosines: FloatArray, k: int
    ) -> Reranked:
        """The best k of the candidates (C,) with these cosines to the query (D,).

        The nearest of them, as many as the network was trained on, are ordered by refined
        cosines; the rest stays behind in its order.

        Raises:
            UnsupportedRerankError: the index has no bank of the query's modality.
        """
        if direction not in self.sides:
            raise UnsupportedRerankError(
                f"rerank 'pillar' needs a bank with {direction.query} items for {direction}, "
                "this index has none (--bank)"
            )
        if not len(rows):
            return by_consistency(rows, cosines, k, AppliedRerank.PILLAR)
        config, side = self.reranker.config, self.sides[direction]
        first = top_positions(cosines, rows, max(k, config.pillars - 1))
        around = self.surroundings(direction, query, rows[first])
        refined = self.reranker.scores(direction, query[None], around, side)[0]
        return by_pillars(rows, cosines, first, refined, k)

    def surroundings(
        self, direction: Direction, query: FloatArray, ordered: RowArray
    ) -> Surroundings:
        """What lies around a query (D,): candidate rows by cosine, and its nearest of the bank."""
        config, side = self.reranker.config, self.sides[direction]
        inter = np.full((1, config.pillars - 1), MISSING, np.int64)
        inter[0, : len(ordered)] = ordered[: config.pillars - 1]
        shortlist = ordered[None, : config.shortlist(direction)]
        found = nearest(query[None], side.background, config.pillars).rows
        place = self._place_of(query, side, found[0])
        if place is None:
            return Surroundings(shortlist, inter, found[:, :-1])
        return Surroundings(shortlist, inter, np.delete(found, place, axis=1), found[:, place])

    def _place_of(self, query: FloatArray, side: PillarSide, found: RowArray) -> int | None:
        """Where among its nearest entries of the gallery's own bank the query itself stands."""
        known = found[found != MISSING]
        if not self.own_bank or not len(known):
            return None
        apart = np.linalg.norm(side.background[known] - query, axis=1)
        return int(apart.argmin()) if apart.min() < SAME_VECTOR else None


def for_serving(reranker: PillarReranker) -> PillarReranker:
    """The re-ranker itself, or its bfloat16 copy where the networks are large and that is fast.

    Small networks stay as they were measured; the released size takes 6 and 4 ms in bfloat16
    where it takes 15 and 11 in float32. oneDNN says whether the CPU has kernels for it.
    """
    large = reranker.network_bytes > HALVED_BYTES
    return reranker.halved() if large and _has_fast_halves() else reranker


def _has_fast_halves() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _side(artifact: Artifact, direction: Direction) -> PillarSide | None:
    candidates, bank = artifact.sides.get(direction.candidate), artifact.bank(direction.query)
    if candidates is None or bank is None or candidates.neighbours is None:
        return None
    table = candidates.neighbours
    return PillarSide(
        np.asarray(candidates.embeddings),  # plain views: indexing a memmap object costs more
        widened(bank),
        np.asarray(table.own),
        np.asarray(table.other),
        np.asarray(table.reach),
    )
