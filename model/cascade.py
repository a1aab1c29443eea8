"""The cascade: Stage I (hash, PQ) and Stage II over any pair of sides.

The same object runs online and in evaluation: what is measured is what is served. Candidates
are ordered after every stage by (score, row), best first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from model.ann.faiss_door import HammingIndex
from model.ann.halves import widened
from model.ann.selection import top_positions
from model.artifact.reader import Artifact
from model.core.errors import CodeShapeError, InputError, UnsupportedInputError
from model.core.types import (
    ByteArray,
    CandidateBudget,
    FloatArray,
    Kinship,
    Modality,
    RankArray,
    RerankMode,
    RowArray,
    Way,
)
from model.core.vectors import pack_signs
from model.heads.heads import Heads, ModalityHead
from model.heads.product_quantiser import adc_scores, lookup_tables
from model.rerankers.ordering import AppliedRerank, Reranked, by_consistency
from model.rerankers.second_stage import SecondStage, Shortlist, cosines
from model.reverse_lists.fetched import fetched
from model.reverse_lists.layers import (
    ComputedLists,
    LayeredLists,
    MemoryLayer,
    ReverseListSource,
    StoredLists,
)

HASH_BLOCK = 64
LIST_CACHE_BYTES = 64 << 20
LIST_CACHE_BYTES_AN_ITEM = 32


@dataclass(frozen=True)
class CandidateSide:
    """The items of one modality as a search needs them; row i is the same item in each part."""

    hamming: HammingIndex
    pq_codes: ByteArray  # (N, M), may be memory-mapped
    embeddings: NDArray[np.floating]  # (N, D) unit rows, may be memory-mapped
    lists: ReverseListSource | None = None

    def __len__(self) -> int:
        return len(self.hamming)


@dataclass(frozen=True)
class SearchOptions:
    """How many hits, in which order, from how many candidates, and whether to explain.

    `rerank` None is the index's own default, which `SecondStage` knows.
    """

    k: int = 10
    rerank: RerankMode | None = None
    budget: CandidateBudget = field(default_factory=CandidateBudget)
    explain: bool = False

    def __post_init__(self) -> None:
        """Refuse a search for nothing.

        Raises:
            InputError: k is below 1.
        """
        if self.k < 1:
            raise InputError(f"k needs to be at least 1, got {self.k}")


@dataclass(frozen=True)
class Explanation:
    """Every stage's view of the hits, each array (k,) in the order of the hits, rank 0 = best.

    Without reverse lists, and in mode `none`, the reverse rank is -1 and complementarity 0. In
    mode `reference` complementarity is the rank term, which alone orders the top 15; in mode
    `pillar`, which reads no lists, it is the refined cosine, which alone orders the network's
    shortlist, and 0 behind that. Expansion is what a bank of pairs adds, 0 without one.
    """

    hamming_distance: RankArray
    pq_score: FloatArray
    consistency: FloatArray
    reverse_rank: RankArray
    complementarity: FloatArray
    expansion: FloatArray
    rank_after_hash: RankArray
    rank_after_pq: RankArray
    rank_after_rerank: RankArray


@dataclass(frozen=True)
class Ranking:
    """One query's hits, best first, and what the cascade did for them."""

    rows: RowArray  # (k,)
    scores: FloatArray  # (k,), non-increasing
    rerank: AppliedRerank
    milliseconds: Mapping[str, float]  # hash, pq, rerank; what is done at once is shared
    explanation: Explanation | None = None


@dataclass(frozen=True)
class _Query:
    """What is asked, with a mode that is named."""

    embedding: FloatArray  # (D,)
    options: SearchOptions


@dataclass(frozen=True)
class _Hashed:
    """A query after the Hamming stage: candidates (C1,) by (distance, row)."""

    query: _Query
    milliseconds: float
    hash_space: FloatArray  # (K,)
    rows: RowArray
    distances: RankArray


@dataclass(frozen=True)
class _Quantised:
    """Candidates (C2,) by (PQ score, row); `places` are their positions after the hash stage."""

    rows: RowArray
    places: RowArray
    scores: FloatArray
    milliseconds: float


class Cascade:
    """Searches either direction between two sides; safe to share between threads on a CPU."""

    def __init__(
        self, heads: Heads, sides: Mapping[Modality, CandidateSide], second: SecondStage
    ) -> None:
        """Take the heads, the modalities that can be searched, and Stage II.

        Raises:
            CodeShapeError: a side's parts differ in length or do not fit the heads.
        """
        self.heads, self.second = heads, second
        self.sides = {m: _mapped(heads, m, side) for m, side in sides.items()}

    @classmethod
    def from_artifact(
        cls,
        artifact: Artifact,
        *,
        cache_bytes: int | None = None,
        device: str = "cpu",
    ) -> "Cascade":
        """A cascade over an opened artifact; its arrays stay memory-mapped.

        Stored lists are read from their table. Lazy ones are looked for in process memory
        (`cache_bytes` a side, by default `list_cache_bytes`), and else computed.
        """
        sides = {
            modality: CandidateSide(
                side.hamming.on(device),
                side.pq_codes,
                side.embeddings,
                _lists(artifact, modality, cache_bytes, device),
            )
            for modality, side in artifact.sides.items()
        }
        return cls(artifact.heads, sides, SecondStage.of_artifact(artifact))

    def search(
        self,
        direction: Way,
        embeddings: FloatArray,
        options: SearchOptions | Sequence[SearchOptions],
    ) -> list[Ranking]:
        """A ranking for each query embedding (Q, D), unit rows; options for all, or one a query.

        A ranking does not depend on which other queries share the call. The reverse lists of a
        block of queries are asked for at once, whatever their options. Inside one modality a
        query is coded as the items are, and Stage II is the cosine: no lists rank items by
        others of their own kind.

        Raises:
            UnsupportedInputError: the gallery holds nothing of the candidates' modality.
            UnsupportedRerankError: the gallery lacks what a mode asked for needs.
            CodeShapeError: the embeddings' width is not the heads'.
        """
        side = self._side(direction)
        dim = self.heads.config.embedding_dim
        if embeddings.ndim != 2 or embeddings.shape[1] != dim:
            raise CodeShapeError(f"queries need shape (Q, D={dim}), got {embeddings.shape}")
        each = [options] * len(embeddings) if isinstance(options, SearchOptions) else options
        queries = [
            _Query(np.asarray(embedding, dtype=np.float32), self._settled(direction, one))
            for embedding, one in zip(embeddings, each, strict=True)
        ]
        blocks = range(0, len(queries), HASH_BLOCK)
        return [
            ranking
            for start in blocks
            for ranking in self._search(direction, side, queries[start : start + HASH_BLOCK])
        ]

    def _side(self, direction: Way) -> CandidateSide:
        side = self.sides.get(direction.candidate)
        if side is None:
            raise UnsupportedInputError(
                f"{direction} needs a gallery with {direction.candidate} items, "
                f"this one has {', '.join(sorted(self.sides)) or 'none'}"
            )
        return side

    def _settled(self, direction: Way, options: SearchOptions) -> SearchOptions:
        """The options with their mode named."""
        return replace(options, rerank=self.second.mode_of(direction, options.rerank))

    def _search(
        self, direction: Way, side: CandidateSide, queries: Sequence[_Query]
    ) -> list[Ranking]:
        """A block's rankings: the stages one after another, each for all queries."""
        hashed = self._hash(direction.query, side, queries)
        quantised = [self._quantise(direction, side, query) for query in hashed]
        began = perf_counter()
        lists = self._lists(side.lists, queries, quantised)
        share = _milliseconds(began) / len(queries)
        side = replace(side, lists=lists)
        return [
            self._rerank(direction, side, query, kept, share)
            for query, kept in zip(hashed, quantised, strict=True)
        ]

    def _hash(
        self, modality: Modality, side: CandidateSide, queries: Sequence[_Query]
    ) -> list[_Hashed]:
        """Each query's Hamming candidates; those that want as many are looked for together."""
        groups: dict[int, list[int]] = {}
        for place, query in enumerate(queries):
            count, _ = query.options.budget.counts(len(side), query.options.k)
            groups.setdefault(count, []).append(place)
        found: dict[int, _Hashed] = {}
        for count, places in groups.items():
            began = perf_counter()
            vectors = _hash_space(self.heads.heads[modality], [queries[p] for p in places])
            distances, rows = side.hamming.search(pack_signs(vectors), count)
            share = _milliseconds(began) / len(places)
            for place, *parts in zip(places, vectors, rows, distances, strict=True):
                found[place] = _Hashed(queries[place], share, *parts)
        return [found[place] for place in range(len(queries))]

    def _quantise(self, direction: Way, side: CandidateSide, query: _Hashed) -> _Quantised:
        """The best C2 candidates by asymmetric PQ score."""
        began = perf_counter()
        codebooks = self.heads.heads[direction.candidate].codebooks
        table = lookup_tables(codebooks, query.hash_space[None])[0]
        scores = adc_scores(table, side.pq_codes[query.rows])
        options = query.query.options
        _, count = options.budget.counts(len(side), options.k)
        places = top_positions(scores, query.rows, count)
        return _Quantised(query.rows[places], places, scores[places], _milliseconds(began))

    def _lists(
        self,
        source: ReverseListSource | None,
        queries: Sequence[_Query],
        quantised: Sequence[_Quantised],
    ) -> ReverseListSource | None:
        """Where Stage II reads lists: what the block's candidates need is fetched in one call."""
        wanted = [
            kept.rows
            for query, kept in zip(queries, quantised, strict=True)
            if self.second.reads_lists(query.options.rerank)
        ]
        return source if source is None else fetched(source, wanted)

    def _rerank(
        self,
        direction: Way,
        side: CandidateSide,
        hashed: _Hashed,
        kept: _Quantised,
        share: float,
    ) -> Ranking:
        """The best k of the candidates (C2,) in the order of the mode asked for."""
        began = perf_counter()
        options = hashed.query.options
        final = self._ordered(direction, side, hashed, kept.rows)
        spent = {
            "hash": hashed.milliseconds,
            "pq": kept.milliseconds,
            "rerank": share + _milliseconds(began),
        }
        explanation = _explain(hashed, kept, final) if options.explain else None
        return Ranking(kept.rows[final.places], final.scores, final.applied, spent, explanation)

    def _ordered(
        self, direction: Way, side: CandidateSide, hashed: _Hashed, rows: RowArray
    ) -> Reranked:
        options, embedding = hashed.query.options, hashed.query.embedding
        vectors = widened(side.embeddings[rows])  # (C, D)
        if isinstance(direction, Kinship):
            return by_consistency(rows, cosines(vectors, embedding), options.k)
        shortlist = Shortlist.of(direction, embedding, hashed.hash_space, rows, vectors, side.lists)
        return self.second.rerank(shortlist, options.rerank, options.k)


def _hash_space(head: ModalityHead, queries: Sequence[_Query]) -> FloatArray:
    """Vectors (Q, K), query by query, so that none depends on its neighbours."""
    return np.stack([head.query_hash_space(query.embedding) for query in queries])


def _explain(query: _Hashed, quantised: _Quantised, final: Reranked) -> Explanation:
    places = quantised.places[final.places]  # (k,), after the hash stage
    return Explanation(
        hamming_distance=query.distances[places],
        pq_score=quantised.scores[final.places],
        consistency=final.consistency,
        reverse_rank=final.reverse_rank,
        complementarity=final.complementarity,
        expansion=final.expansion,
        rank_after_hash=places.astype(np.int32),
        rank_after_pq=final.places.astype(np.int32),
        rank_after_rerank=np.arange(len(places), dtype=np.int32),
    )


def _mapped(heads: Heads, modality: Modality, side: CandidateSide) -> CandidateSide:
    """The side with plain views of its arrays (indexing a memmap object costs more).

    Raises:
        CodeShapeError: its parts differ in length or do not fit the heads.
    """
    config, n_items = heads.config, len(side.hamming)
    if side.hamming.n_bits != config.n_bits:
        raise CodeShapeError(
            f"{modality} codes need K={config.n_bits} bits, got {side.hamming.n_bits}"
        )
    wanted = {
        "pq_codes": (n_items, config.n_subspaces),
        "embeddings": (n_items, config.embedding_dim),
    }
    views = {name: np.asarray(getattr(side, name)) for name in wanted}
    for name, shape in wanted.items():
        if views[name].shape != shape:
            raise CodeShapeError(f"{modality} {name} need shape {shape}, got {views[name].shape}")
    return replace(side, pq_codes=views["pq_codes"], embeddings=views["embeddings"])


def list_cache_bytes(n_items: int) -> int:
    """Bytes of lists that a lazy side of n_items keeps in process memory unless told otherwise.

    Search structures may take 64 bytes an item of anonymous memory: 32 are the lists', 8 the hash
    codes', 4 and another 16 a cached list the cache's own.
    """
    return min(LIST_CACHE_BYTES, LIST_CACHE_BYTES_AN_ITEM * n_items)


def _lists(
    artifact: Artifact, modality: Modality, cache_bytes: int | None, device: str
) -> LayeredLists | None:
    """Where a side's lists come from; None where the gallery has no bank for it."""
    bank, side, z = artifact.bank(modality.other), artifact.side(modality), artifact.manifest.bank.z
    if bank is None or not len(bank):
        return None
    computed = ComputedLists(side.embeddings, bank, z, device)
    if side.reverse_lists is not None:
        return LayeredLists([StoredLists(side.reverse_lists)], computed, z)
    room = list_cache_bytes(len(side)) if cache_bytes is None else cache_bytes
    return LayeredLists([MemoryLayer(len(side), z, room)], computed, z)


def _milliseconds(began: float) -> float:
    return 1e3 * (perf_counter() - began)
