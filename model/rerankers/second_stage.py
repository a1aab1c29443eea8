"""Stage II of one gallery: what its modes need beside a query's candidates, and which there are.

This is where a mode plugs in: a part in the constructor (opened in `of_artifact`), a name in
`modes`, a branch in `rerank`. Which mode answers where none is asked for is said in `default`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from model.ann.halves import widened
from model.ann.selection import top_positions
from model.artifact.manifest import OWN_BANK
from model.artifact.reader import Artifact
from model.core.errors import UnsupportedRerankError
from model.core.types import (
    Direction,
    FloatArray,
    Kinship,
    Modality,
    RerankMode,
    RowArray,
    Way,
)
from model.core.vectors import cosines
from model.heads.heads import Heads
from model.rerankers.hubs import Hubs
from model.rerankers.learned.reranker import Case
from model.rerankers.learned.serving import LearnedMode
from model.rerankers.ordering import (
    AppliedRerank,
    Reranked,
    by_consistency,
    by_learned,
    by_reference,
    by_relationship,
)
from model.rerankers.pairs import Expansion, PairBank
from model.rerankers.pillar.serving import PillarMode
from model.rerankers.relationship import PairCosines, Relationship, relationship
from model.rerankers.weights import StageTwo
from model.reverse_lists.fetched import FetchedLists
from model.reverse_lists.layers import ReverseListSource

# What a mode that not every index has is made of.
NEEDED = {
    RerankMode.LEARNED: "an index built from a checkpoint with learned.safetensors "
    "(meet-train learned) and a bank of images with their captions (--bank)",
    RerankMode.PILLAR: "an index built from a checkpoint with pillar.safetensors "
    "(meet-train pillar), over images and captions or with a bank of what is lacking (--bank)",
}

# Modes that read no reverse list, or those of a few candidates.
LITTLE_READ = {RerankMode.NONE, RerankMode.PILLAR, RerankMode.REFERENCE}


BLOCK_ROWS = 8192  # candidates whose vectors and lists are in memory at once


@dataclass(frozen=True)
class Shortlist:
    """Queries with as many candidates each; column i is the same item in each part."""

    direction: Way
    queries: FloatArray  # (Q, D) unit
    hash_space: FloatArray  # (Q, K) of the queries
    rows: RowArray  # (Q, C)
    cosines: FloatArray  # (Q, C) with the queries
    lists: ReverseListSource | None  # of the candidates' side
    embeddings: NDArray[np.floating]  # (N, D) of the candidates' side, may be memory-mapped
    hubs: Hubs | None = None  # of the candidates' side, where they are remembered
    held: FloatArray | None = None  # (Q, C, D), where that is one block

    @classmethod
    def of(
        cls,
        direction: Way,
        queries: FloatArray,
        hash_space: FloatArray,
        rows: RowArray,
        embeddings: NDArray[np.floating],
        lists: ReverseListSource | None,
        hubs: Hubs | None = None,
    ) -> "Shortlist":
        """The candidates of some rows (Q, C) with their cosines."""
        if rows.size <= BLOCK_ROWS:
            held = widened(embeddings.take(rows, axis=0))
            near = cosines(held, queries)
            return cls(direction, queries, hash_space, rows, near, lists, embeddings, hubs, held)
        none = np.empty((len(rows), 0), np.float32)
        blind = cls(direction, queries, hash_space, rows, none, lists, embeddings, hubs)
        parts = [cosines(blind.vectors(block), queries) for block in blind.blocks]
        return replace(blind, cosines=np.concatenate(parts, axis=1))

    @property
    def each(self) -> Iterator["Shortlist"]:
        """Every query by itself."""
        for place in range(len(self.rows)):
            own = slice(place, place + 1)
            yield replace(
                self,
                queries=self.queries[own],
                hash_space=self.hash_space[own],
                rows=self.rows[own],
                cosines=self.cosines[own],
                held=None if self.held is None else self.held[own],
            )

    @property
    def across(self) -> Direction:
        """The direction, which Stage II's terms need to be from one modality to the other."""
        if isinstance(self.direction, Kinship):
            raise UnsupportedRerankError(f"{self.direction} is ranked by cosine alone")
        return self.direction

    @property
    def blocks(self) -> list[slice]:
        """Stretches of candidates that are looked at together."""
        n_queries, n_candidates = self.rows.shape
        step = max(1, BLOCK_ROWS // n_queries)
        starts = range(0, max(n_candidates, 1), step)
        return [slice(start, start + step) for start in starts]

    def vectors(self, places: slice | RowArray) -> FloatArray:
        """Unit rows (Q, n, D) of some candidates."""
        if self.held is not None:
            return self.held[:, places]
        return widened(self.embeddings.take(self.rows[:, places], axis=0))


class SecondStage:
    """The modes of Stage II with all their parts; safe to share between threads on a CPU."""

    def __init__(
        self,
        stage_two: StageTwo,
        pairs: PairBank | None = None,
        *,
        own_bank: bool = False,
        pillar: PillarMode | None = None,
        learned: LearnedMode | None = None,
    ) -> None:
        """Take the weights, the kind of bank, and what else of these there is.

        `own_bank` says that the reverse lists rank the gallery's own items, not those of a bank
        that was given.
        """
        self.stage_two, self.pairs, self.own_bank = stage_two, pairs, own_bank
        self.pillar, self.learned = pillar, learned
        self.weights = {
            d: stage_two.of(d, own_bank=own_bank, pairs=pairs is not None) for d in Direction
        }

    @classmethod
    def of_artifact(cls, artifact: Artifact) -> "SecondStage":
        """Every part that an opened artifact holds."""
        manifest = artifact.manifest
        own_bank = manifest.bank.source == OWN_BANK
        return cls(
            manifest.stage_two,
            _pairs(artifact),
            own_bank=own_bank,
            pillar=PillarMode.of_artifact(artifact),
            learned=LearnedMode.of_artifact(artifact),
        )

    def with_heads(self, heads: Heads) -> "SecondStage":
        """The same parts behind the codes of other heads."""
        pairs = None if self.pairs is None else self.pairs.with_heads(heads)
        return SecondStage(
            self.stage_two,
            pairs,
            own_bank=self.own_bank,
            pillar=self.pillar,
            learned=self.learned,
        )

    @cached_property
    def default(self) -> RerankMode:
        """The mode of a search that names none: the learned one if it has earned it."""
        earned = self._has_learned and self.learned is not None and self.learned.reranker.gain > 0
        return RerankMode.LEARNED if earned else RerankMode.RELATIONSHIP

    @cached_property
    def modes(self) -> list[RerankMode]:
        """The modes that can be asked for; without reverse lists some answer by cosine alone."""
        has = {RerankMode.PILLAR: self.pillar is not None, RerankMode.LEARNED: self._has_learned}
        return [mode for mode in RerankMode if has.get(mode, True)]

    @property
    def _has_learned(self) -> bool:
        return self.learned is not None and self.pairs is not None

    def mode(self, asked: RerankMode | None) -> RerankMode:
        """The mode asked for, or the default.

        Raises:
            UnsupportedRerankError: the gallery lacks what that mode needs.
        """
        mode = self.default if asked is None else asked
        if mode not in self.modes:
            raise _lacking(mode)
        return mode

    def mode_of(self, way: Way, asked: RerankMode | None) -> RerankMode:
        """The mode asked for, or the default of that way: inside one modality the cosine alone.

        Raises:
            UnsupportedRerankError: the gallery, or the way, lacks what that mode needs.
        """
        if not isinstance(way, Kinship):
            return self.mode(asked)
        if asked not in (None, RerankMode.NONE):
            raise UnsupportedRerankError(
                f"rerank {asked.value!r} needs items of both kinds, {way.value} is ranked by cosine"
            )
        return RerankMode.NONE

    def reads_lists(self, mode: RerankMode | None) -> bool:
        """Whether a mode reads the reverse list of every candidate, so that they can be fetched."""
        return self.mode(mode) not in LITTLE_READ

    def rerank(self, shortlist: Shortlist, asked: RerankMode | None, k: int) -> Reranked:
        """The best k candidates (Q, k) of each query in the order of the mode asked for.

        Raises:
            UnsupportedRerankError: the gallery lacks what that mode needs.
        """
        rows, scored, lists = shortlist.rows, shortlist.cosines, shortlist.lists
        match mode := self.mode(asked):
            case RerankMode.NONE:
                return by_consistency(rows, scored, k)
            case RerankMode.PILLAR:
                return Reranked.stacked([self._by_pillars(one, k) for one in shortlist.each])
            case _ if lists is None:
                return by_consistency(rows, scored, k, AppliedRerank.CONSISTENCY_ONLY)
            case RerankMode.RELATIONSHIP:
                expansion = None if self.pairs is None else _expansion(self.pairs, shortlist)
                return by_relationship(rows, scored, self._related(shortlist, lists, expansion), k)
            case RerankMode.LEARNED:
                found = [self._by_learning(one, lists, k) for one in shortlist.each]
                return Reranked.stacked(found)
            case RerankMode.REFERENCE:
                pairs = zip(rows, scored, strict=True)
                return Reranked.stacked([by_reference(*one, lists, k) for one in pairs])
            case _:
                assert_never(mode)

    def _by_pillars(self, shortlist: Shortlist, k: int) -> Reranked:
        if self.pillar is None:
            raise _lacking(RerankMode.PILLAR)
        [query], [rows], [near] = shortlist.queries, shortlist.rows, shortlist.cosines
        return self.pillar.rerank(shortlist.across, query, rows, near, k)

    def _by_learning(self, shortlist: Shortlist, source: ReverseListSource, k: int) -> Reranked:
        """One query's best candidates by relationship, scored anew by the network."""
        if self.learned is None or self.pairs is None:
            raise _lacking(RerankMode.LEARNED)
        [query], [rows], [near] = shortlist.queries, shortlist.rows, shortlist.cosines
        expansion, source = _expansion(self.pairs, shortlist), _at_hand(shortlist, source)
        related = self._related(shortlist, source, expansion).at(0)
        first = top_positions(related.scores, rows, max(k, self.learned.depth))
        listed = first[: self.learned.depth]
        scores = self.learned.scores(
            Case(shortlist.across, self.own_bank),
            query,
            expansion.at(0),
            rows[listed],
            shortlist.vectors(listed)[0],
            source.lists(rows[listed]),
        )
        return by_learned(rows, near, related, first, scores, k)

    def _related(
        self, shortlist: Shortlist, source: ReverseListSource, expansion: Expansion | None
    ) -> Relationship:
        """Every candidate's terms (Q, C), a block at a time."""
        weights, n_queries = self.weights[shortlist.across], len(shortlist.rows)
        parts = []
        for block in shortlist.blocks:
            rows, near = shortlist.rows[:, block].reshape(-1), shortlist.cosines[:, block]
            lists, pairs, hubs = source.lists(rows), None, None
            if expansion is not None:
                pairs = _pair_cosines(shortlist.vectors(block), expansion)
            if shortlist.hubs is not None:
                hubs = shortlist.hubs.of(rows, lists, weights.temperature)
            related = relationship(near.reshape(-1), lists, weights, pairs, hubs)
            parts.append(related.of(n_queries))
        return Relationship.joined(parts)


def _lacking(mode: RerankMode) -> UnsupportedRerankError:
    return UnsupportedRerankError(f"rerank {mode.value!r} needs {NEEDED[mode]}")


def _expansion(pairs: PairBank, shortlist: Shortlist) -> Expansion:
    return pairs.expansions(shortlist.direction.query, shortlist.queries, shortlist.hash_space)


def _at_hand(shortlist: Shortlist, source: ReverseListSource) -> ReverseListSource:
    """The source with one query's candidates' lists fetched, where these are one block."""
    if len(shortlist.blocks) > 1:
        return source
    rows = np.sort(shortlist.rows[0])
    return FetchedLists(source, rows, source.lists(rows))


def _pair_cosines(vectors: FloatArray, found: Expansion) -> PairCosines:
    """Cosines (Q·C,) of vectors (Q, C, D) with each query's expansion."""
    partners, nearest = cosines(vectors, found.partners), cosines(vectors, found.nearest)
    return PairCosines(partners.reshape(-1), nearest.reshape(-1))


def _pairs(artifact: Artifact) -> PairBank | None:
    """The bank's pairs; those of the gallery itself would show a query its own answer."""
    partner, banks = artifact.bank_partner, artifact.banks
    if artifact.manifest.bank.source == OWN_BANK or len(banks) < len(Modality) or partner is None:
        return None
    return PairBank(banks, partner, artifact.heads) if (partner >= 0).any() else None
