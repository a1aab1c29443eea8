"""Pools that the pillar re-ranker learns and is measured on: a split with all that surrounds it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.core.types import Direction, FloatArray, Modality, RowArray
from model.rerankers.pillar.config import PillarConfig
from model.rerankers.pillar.lists import Lists, Surroundings, pillar_lists
from model.rerankers.pillar.neighbours import Nearest, PillarSide, nearest
from model.training.embedded import Embedded
from model.training.evaluation import Bank


@dataclass(frozen=True)
class Pool:
    """A gallery with its queries, and the bank that surrounds these in the inductive protocol.

    Without a bank the queries' background is their own split: the transductive protocol.
    """

    split: Embedded
    bank: Bank | None = None


class QueryLists(NamedTuple):
    """Queries by row (B,) with their shortlists (B, C), as rows of the pool."""

    rows: RowArray
    shortlist: RowArray


@dataclass(frozen=True)
class PreparedPool:
    """A pool with every neighbour that lists of any of its queries need."""

    config: PillarConfig
    split: Embedded
    sides: Mapping[Direction, PillarSide]
    inter: Mapping[Direction, RowArray]  # (Q, P - 1), nearest candidates
    intra: Mapping[Direction, RowArray]  # (Q, P - 1), nearest of the background but itself
    transductive: bool

    @classmethod
    def of(cls, pool: Pool, config: PillarConfig) -> "PreparedPool":
        """The pool with its tables; the slow part is a product of all with all."""
        own, across = _inside(pool.split.embeddings, config.pillars)
        if pool.bank is None:
            behind = _Behind(
                pool.split.embeddings,
                {d: own[d.query][:, 1:] for d in Direction},
                {d: across[d.other] for d in Direction},
            )
        else:
            behind = _outside(pool.split.embeddings, pool.bank, config)
        sides = {
            d: PillarSide.of_tables(
                pool.split.embeddings[d.candidate],
                behind.background[d.query],
                own[d.candidate][:, : config.neighbours],
                _cut(behind.other[d], config.neighbours),
            )
            for d in Direction
        }
        inter = {d: across[d].rows for d in Direction}
        return cls(config, pool.split, sides, inter, behind.intra, pool.bank is None)

    def queries(self, direction: Direction) -> int:
        """Q, the number of queries of a direction."""
        return len(self.split.embeddings[direction.query])

    def top(self, direction: Direction, rows: RowArray) -> QueryLists:
        """Queries with their nearest candidates."""
        count = min(self.config.shortlist(direction), len(self.sides[direction].candidates))
        return QueryLists(rows, self.inter[direction][rows, :count])

    def lists(self, direction: Direction, taken: QueryLists) -> Lists:
        """Tokens and graph of queries with their shortlists."""
        around = Surroundings(
            taken.shortlist,
            self.inter[direction][taken.rows],
            self.intra[direction][taken.rows],
            taken.rows if self.transductive else None,
        )
        queries = self.split.embeddings[direction.query][taken.rows]
        return pillar_lists(queries, around, self.sides[direction], self.config)

    def positive(self, direction: Direction, taken: QueryLists) -> NDArray[np.bool_]:
        """Which tokens (B, 1 + C) match their query; its own does."""
        way = self.split.one_way(direction)
        true = way.candidate_image[taken.shortlist] == way.query_image[taken.rows, None]
        return np.concatenate([np.ones((len(true), 1), bool), true], axis=1)

    def mapped(
        self, direction: Direction, taken: QueryLists, rng: np.random.Generator
    ) -> QueryLists:
        """The lists in the other modality, for the other direction's network.

        A caption becomes its image and an image one of its captions, drawn anew each time.
        """
        if direction is Direction.TEXT_TO_IMAGE:
            return QueryLists(
                self.split.image_of_text[taken.rows], self._caption(taken.shortlist, rng)
            )
        return QueryLists(self._caption(taken.rows, rng), self.split.image_of_text[taken.shortlist])

    def _caption(self, images: RowArray, rng: np.random.Generator) -> RowArray:
        """A random caption of each image."""
        order = np.argsort(self.split.image_of_text, kind="stable")
        counts = np.bincount(self.split.image_of_text)
        firsts = np.cumsum(counts) - counts
        return np.asarray(order[firsts[images] + rng.integers(counts[images])])


def cut_pools(split: Embedded, images: int, seed: int) -> list[Pool]:
    """The split in pools of about `images` random images each, with their captions.

    Where the encoder was cross-fitted, hand in a pool per fold instead.
    """
    n_images = len(split.embeddings[Modality.IMAGE])
    order = np.random.default_rng(seed).permutation(n_images)
    parts = np.array_split(order, max(1, round(n_images / images)))
    return [Pool(split.taken(np.sort(part))) for part in parts]


class _Behind(NamedTuple):
    """What stands behind the queries: entries, the queries' nearest, the candidates' nearest."""

    background: Mapping[Modality, NDArray[np.floating]]
    intra: Mapping[Direction, RowArray]
    other: Mapping[Direction, Nearest]


def _inside(
    embeddings: Mapping[Modality, FloatArray], depth: int
) -> tuple[dict[Modality, RowArray], dict[Direction, Nearest]]:
    """Nearest items (N, P) of one's own modality, itself first, and (N, P - 1) of the other."""
    own = {m: nearest(e, e, depth, np.arange(len(e))).rows for m, e in embeddings.items()}
    across = {
        d: nearest(embeddings[d.query], embeddings[d.candidate], depth - 1) for d in Direction
    }
    return own, across


def _outside(
    embeddings: Mapping[Modality, FloatArray], bank: Bank, config: PillarConfig
) -> _Behind:
    entries = {m: np.asarray(e, np.float32) for m, e in bank.items()}
    intra = {
        d: nearest(embeddings[d.query], entries[d.query], config.pillars - 1).rows
        for d in Direction
    }
    other = {
        d: nearest(embeddings[d.candidate], entries[d.query], config.neighbours) for d in Direction
    }
    return _Behind(entries, intra, other)


def _cut(found: Nearest, count: int) -> Nearest:
    return Nearest(found.rows[:, :count], found.cosines[:, :count])
