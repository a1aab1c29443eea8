"""Stage II of one gallery: what its modes need beside a query's candidates, and which there are.

This is where a mode plugs in: a part in the constructor (opened in `of_artifact`), a name in
`modes`, a branch in `rerank`. Which mode answers where none is asked for is said in `default`.
"""

from dataclasses import dataclass, replace
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
from model.heads.heads import Heads
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
    """One query with its candidates; row i is the same item in each part."""

    direction: Way
    query: FloatArray  # (D,) unit
    hash_space: FloatArray  # (K,) of the query
    rows: RowArray  # (C,)
    cosines: FloatArray  # (C,) with the query
    lists: ReverseListSource | None  # of the candidates' side
    embeddings: NDArray[np.floating]  # (N, D) of the candidates' side, may be memory-mapped
    held: FloatArray | None = None  # (C, D), where that is one block

    @classmethod
    def of(
        cls,
        direction: Way,
        query: FloatArray,
        hash_space: FloatArray,
        rows: RowArray,
        embeddings: NDArray[np.floating],
        lists: ReverseListSource | None,
    ) -> "Shortlist":
        """The candidates of some rows (C,) with their cosines."""
        held = widened(embeddings[rows]) if len(rows) <= BLOCK_ROWS else None
        blind = cls(
            direction, query, hash_space, rows, np.empty(0, np.float32), lists, embeddings, held
        )
        parts = [cosines(blind.vectors(block), query) for block in blind.blocks]
        return replace(blind, cosines=np.concatenate(parts))

    @property
    def across(self) -> Direction:
        """The direction, which Stage II's terms need to be from one modality to the other."""
        if isinstance(self.direction, Kinship):
            raise UnsupportedRerankError(f"{self.direction} is ranked by cosine alone")
        return self.direction

    @property
    def blocks(self) -> list[slice]:
        """Stretches of candidates that are looked at together."""
        starts = range(0, max(len(self.rows), 1), BLOCK_ROWS)
        return [slice(start, start + BLOCK_ROWS) for start in starts]

    def vectors(self, places: slice | RowArray) -> FloatArray:
        """Unit rows (n, D) of some candidates."""
        if self.held is not None:
            return self.held[places]
        return widened(self.embeddings[self.rows[places]])


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

    @property
    def default(self) -> RerankMode:
        """The mode of a search that names none: the learned one if it has earned it."""
        earned = self._has_learned and self.learned is not None and self.learned.reranker.gain > 0
        return RerankMode.LEARNED if earned else RerankMode.RELATIONSHIP

    @property
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
        """The best k candidates in the order of the mode asked for.

        Raises:
            UnsupportedRerankError: the gallery lacks what that mode needs.
        """
        rows, scored, lists = shortlist.rows, shortlist.cosines, shortlist.lists
        match mode := self.mode(asked):
            case RerankMode.NONE:
                return by_consistency(rows, scored, k)
            case RerankMode.PILLAR:
                return self._by_pillars(shortlist, k)
            case _ if lists is None:
                return by_consistency(rows, scored, k, AppliedRerank.CONSISTENCY_ONLY)
            case RerankMode.RELATIONSHIP:
                expansion = None if self.pairs is None else _expansion(self.pairs, shortlist)
                return by_relationship(rows, scored, self._related(shortlist, lists, expansion), k)
            case RerankMode.LEARNED:
                return self._by_learning(shortlist, lists, k)
            case RerankMode.REFERENCE:
                return by_reference(rows, scored, lists, k)
            case _:
                assert_never(mode)

    def _by_pillars(self, shortlist: Shortlist, k: int) -> Reranked:
        if self.pillar is None:
            raise _lacking(RerankMode.PILLAR)
        direction, query = shortlist.across, shortlist.query
        return self.pillar.rerank(direction, query, shortlist.rows, shortlist.cosines, k)

    def _by_learning(self, shortlist: Shortlist, source: ReverseListSource, k: int) -> Reranked:
        """The best candidates by relationship, scored anew by the network."""
        if self.learned is None or self.pairs is None:
            raise _lacking(RerankMode.LEARNED)
        direction, rows = shortlist.across, shortlist.rows
        expansion, source = _expansion(self.pairs, shortlist), _at_hand(shortlist, source)
        related = self._related(shortlist, source, expansion)
        first = top_positions(related.scores, rows, max(k, self.learned.depth))
        listed = first[: self.learned.depth]
        scores = self.learned.scores(
            Case(direction, self.own_bank),
            shortlist.query,
            expansion,
            rows[listed],
            shortlist.vectors(listed),
            source.lists(rows[listed]),
        )
        return by_learned(rows, shortlist.cosines, related, first, scores, k)

    def _related(
        self, shortlist: Shortlist, source: ReverseListSource, expansion: Expansion | None
    ) -> Relationship:
        """Every candidate's terms, a block at a time."""
        weights = self.weights[shortlist.across]
        parts = []
        for block in shortlist.blocks:
            lists, vectors = source.lists(shortlist.rows[block]), shortlist.vectors(block)
            pairs = None if expansion is None else _pair_cosines(vectors, expansion)
            parts.append(relationship(shortlist.cosines[block], lists, weights, pairs))
        return parts[0] if len(parts) == 1 else Relationship.joined(parts)


def _lacking(mode: RerankMode) -> UnsupportedRerankError:
    return UnsupportedRerankError(f"rerank {mode.value!r} needs {NEEDED[mode]}")


def _expansion(pairs: PairBank, shortlist: Shortlist) -> Expansion:
    return pairs.expand(shortlist.direction.query, shortlist.query, shortlist.hash_space)


def _at_hand(shortlist: Shortlist, source: ReverseListSource) -> ReverseListSource:
    """The source with the candidates' lists fetched, where these are one block."""
    if len(shortlist.blocks) > 1:
        return source
    rows = np.sort(shortlist.rows)
    return FetchedLists(source, rows, source.lists(rows))


def _pair_cosines(vectors: FloatArray, found: Expansion) -> PairCosines:
    return PairCosines(cosines(vectors, found.partners), cosines(vectors, found.nearest))


def cosines(vectors: FloatArray, query: FloatArray) -> FloatArray:
    """Cosines (C,) of the query with vectors (C, D); a sum per row, whatever its place there."""
    found: FloatArray = np.einsum("cd,d->c", vectors, query)
    return found


def _pairs(artifact: Artifact) -> PairBank | None:
    """The bank's pairs; those of the gallery itself would show a query its own answer."""
    partner, banks = artifact.bank_partner, artifact.banks
    if artifact.manifest.bank.source == OWN_BANK or len(banks) < len(Modality) or partner is None:
        return None
    return PairBank(banks, partner, artifact.heads) if (partner >= 0).any() else None
