"""The cascade: Stage I (hash, PQ) and Stage II over any pair of sides.

The same object runs online and in evaluation: what is measured is what is served. Candidates
are ordered after every stage by (score, row), best first.
"""

from collections.abc import Iterator, Mapping
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
    Direction,
    FloatArray,
    Modality,
    RankArray,
    RerankMode,
    RowArray,
)
from model.core.vectors import pack_signs
from model.heads.heads import Heads, ModalityHead
from model.heads.product_quantiser import adc_scores, lookup_tables
from model.rerankers.ordering import AppliedRerank, Reranked
from model.rerankers.second_stage import SecondStage, Shortlist
from model.reverse_lists.layers import (
    ComputedLists,
    LayeredLists,
    ListLayer,
    MemoryLayer,
    ReverseListSource,
    StoredLists,
)
from model.reverse_lists.redis_layer import TIMEOUT_SECONDS, RedisLayer

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
    milliseconds: Mapping[str, float]  # hash, pq, rerank; a batch's hash time is shared evenly
    explanation: Explanation | None = None


@dataclass(frozen=True)
class _Hashed:
    """A query after the Hamming stage: candidates (C1,) by (distance, row)."""

    embedding: FloatArray  # (D,)
    hash_space: FloatArray  # (K,)
    rows: RowArray
    distances: RankArray
    milliseconds: float


@dataclass(frozen=True)
class _Quantised:
    """Candidates (C2,) by (PQ score, row); `places` are their positions after the hash stage."""

    rows: RowArray
    places: RowArray
    scores: FloatArray


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
        redis_url: str | None = None,
        redis_seconds: float = TIMEOUT_SECONDS,
        cache_bytes: int | None = None,
        device: str = "cpu",
    ) -> "Cascade":
        """A cascade over an opened artifact; its arrays stay memory-mapped.

        Stored lists are read from their table. Lazy ones are looked for in process memory
        (`cache_bytes` a side, by default `list_cache_bytes`), then in Redis where a URL is given
        (`redis_seconds` a step at most), and else computed.
        """
        sides = {
            modality: CandidateSide(
                side.hamming.on(device),
                side.pq_codes,
                side.embeddings,
                _lists(artifact, modality, redis_url, redis_seconds, cache_bytes, device),
            )
            for modality, side in artifact.sides.items()
        }
        return cls(artifact.heads, sides, SecondStage.of_artifact(artifact))

    def search(
        self, direction: Direction, embeddings: FloatArray, options: SearchOptions
    ) -> list[Ranking]:
        """A ranking for each query embedding (Q, D), unit rows.

        A ranking does not depend on which other queries share the call.

        Raises:
            UnsupportedInputError: the gallery holds nothing of the candidates' modality.
            UnsupportedRerankError: the gallery lacks what the mode asked for needs.
            CodeShapeError: the embeddings' width is not the heads'.
        """
        side = self.sides.get(direction.candidate)
        if side is None:
            raise UnsupportedInputError(
                f"{direction} needs a gallery with {direction.candidate} items, "
                f"this one has {', '.join(sorted(self.sides)) or 'none'}"
            )
        dim = self.heads.config.embedding_dim
        if embeddings.ndim != 2 or embeddings.shape[1] != dim:
            raise CodeShapeError(f"queries need shape (Q, D={dim}), got {embeddings.shape}")
        options = replace(options, rerank=self.second.mode(options.rerank))
        hashed = self._hash(direction.query, side, embeddings, options)
        return [self._rank(direction, side, query, options) for query in hashed]

    def _hash(
        self,
        modality: Modality,
        side: CandidateSide,
        embeddings: FloatArray,
        options: SearchOptions,
    ) -> Iterator[_Hashed]:
        """Each query's Hamming candidates, found a block of queries at a time."""
        count, _ = options.budget.counts(len(side), options.k)
        for start in range(0, len(embeddings), HASH_BLOCK):
            began = perf_counter()
            block = np.asarray(embeddings[start : start + HASH_BLOCK], dtype=np.float32)
            vectors = _hash_space(self.heads.heads[modality], block)
            distances, rows = side.hamming.search(pack_signs(vectors), count)
            share = _milliseconds(began) / len(block)
            for parts in zip(block, vectors, rows, distances, strict=True):
                yield _Hashed(*parts, share)

    def _rank(
        self, direction: Direction, side: CandidateSide, query: _Hashed, options: SearchOptions
    ) -> Ranking:
        began = perf_counter()
        quantised = self._quantise(direction, side, query, options)
        between = perf_counter()
        final = self._rerank(direction, side, query, quantised.rows, options)
        spent = {
            "hash": query.milliseconds,
            "pq": 1e3 * (between - began),
            "rerank": _milliseconds(between),
        }
        explanation = _explain(query, quantised, final) if options.explain else None
        rows = quantised.rows[final.places]
        return Ranking(rows, final.scores, final.applied, spent, explanation)

    def _quantise(
        self, direction: Direction, side: CandidateSide, query: _Hashed, options: SearchOptions
    ) -> _Quantised:
        """The best C2 candidates by asymmetric PQ score."""
        codebooks = self.heads.heads[direction.candidate].codebooks
        table = lookup_tables(codebooks, query.hash_space[None])[0]
        scores = adc_scores(table, side.pq_codes[query.rows])
        _, count = options.budget.counts(len(side), options.k)
        places = top_positions(scores, query.rows, count)
        return _Quantised(query.rows[places], places, scores[places])

    def _rerank(
        self,
        direction: Direction,
        side: CandidateSide,
        query: _Hashed,
        rows: RowArray,
        options: SearchOptions,
    ) -> Reranked:
        """The best k of the candidates (C2,) in the order of the mode asked for."""
        vectors = widened(side.embeddings[rows])  # (C, D)
        shortlist = Shortlist.of(
            direction, query.embedding, query.hash_space, rows, vectors, side.lists
        )
        return self.second.rerank(shortlist, options.rerank, options.k)


def _hash_space(head: ModalityHead, embeddings: FloatArray) -> FloatArray:
    """Vectors (Q, K), query by query, so that none depends on its neighbours."""
    return np.stack([head.query_hash_space(embedding) for embedding in embeddings])


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
    artifact: Artifact,
    modality: Modality,
    redis_url: str | None,
    redis_seconds: float,
    cache_bytes: int | None,
    device: str,
) -> LayeredLists | None:
    """Where a side's lists come from; None where the gallery has no bank for it."""
    bank, side, z = artifact.bank(modality.other), artifact.side(modality), artifact.manifest.bank.z
    if bank is None or not len(bank):
        return None
    computed = ComputedLists(side.embeddings, bank, z, device)
    if side.reverse_lists is not None:
        return LayeredLists([StoredLists(side.reverse_lists)], computed, z)
    room = list_cache_bytes(len(side)) if cache_bytes is None else cache_bytes
    layers: list[ListLayer] = [MemoryLayer(len(side), z, room)]
    if redis_url is not None:
        direction = next(d for d in Direction if d.candidate is modality)
        layers.append(
            RedisLayer(redis_url, artifact.version, direction, z, timeout_seconds=redis_seconds)
        )
    return LayeredLists(layers, computed, z)


def _milliseconds(began: float) -> float:
    return 1e3 * (perf_counter() - began)
