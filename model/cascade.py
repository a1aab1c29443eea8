"""The cascade: Stage I (hash, PQ) and Stage II over any pair of sides.

The same object runs online and in evaluation: what is measured is what is served. Candidates
are ordered after every stage by (score, row), best first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from model.ann.faiss_door import HammingIndex
from model.artifact.matching import matchers_of
from model.artifact.reader import Artifact
from model.core.errors import CodeShapeError, UncalibratedError, UnsupportedInputError
from model.core.filters import Filter
from model.core.types import ByteArray, FloatArray, Modality, RowArray, Way
from model.heads.heads import Heads
from model.rerankers.hubs import Hubs
from model.rerankers.second_stage import SecondStage
from model.reverse_lists.fetched import fetched
from model.reverse_lists.layers import (
    ComputedLists,
    LayeredLists,
    MemoryLayer,
    ReverseListSource,
    StoredLists,
)
from model.search.calibration import Background, Usual
from model.search.grouping import Query, alike
from model.search.options import SearchOptions as SearchOptions
from model.search.ranking import Explanation as Explanation
from model.search.ranking import Ranking as Ranking
from model.search.reranking import Reranking
from model.search.selection import Matcher, Selection, Selections
from model.search.stage_one import Quantised, StageOne

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
    matcher: Matcher | None = None  # what filters are asked of

    def __len__(self) -> int:
        return len(self.hamming)


@dataclass(frozen=True)
class Kept:
    """Rows that the stages of one search keep, best first."""

    by_hash: RowArray  # (C1,)
    by_pq: RowArray  # (C2,)


NO_BANKS: Mapping[Modality, NDArray[np.floating]] = MappingProxyType({})


class Cascade:
    """Searches either direction between two sides; safe to share between threads on a CPU."""

    def __init__(
        self,
        heads: Heads,
        sides: Mapping[Modality, CandidateSide],
        second: SecondStage,
        banks: Mapping[Modality, NDArray[np.floating]] = NO_BANKS,
    ) -> None:
        """Take the heads, the modalities that can be searched, and Stage II.

        Scores are calibrated against banks (B, D) of unit rows.

        Raises:
            CodeShapeError: a side's parts differ in length or do not fit the heads.
        """
        self.heads, self.second = heads, second
        self.sides = {m: _mapped(heads, m, side) for m, side in sides.items()}
        self._selections = Selections()
        self._all = {m: Selection.all(side.hamming) for m, side in self.sides.items()}
        self._hubs = {m: Hubs(len(side)) for m, side in self.sides.items()}
        self._backgrounds = {m: Background(np.asarray(b)) for m, b in banks.items() if len(b)}

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
        matchers = matchers_of(artifact)
        sides = {
            modality: CandidateSide(
                side.hamming.on(device),
                side.pq_codes,
                side.embeddings,
                _lists(artifact, modality, cache_bytes, device),
                matchers[modality],
            )
            for modality, side in artifact.sides.items()
        }
        return cls(artifact.heads, sides, SecondStage.of_artifact(artifact), artifact.banks)

    def search(
        self,
        direction: Way,
        embeddings: FloatArray,
        options: SearchOptions | Sequence[SearchOptions],
    ) -> list[Ranking]:
        """A ranking for each query embedding (Q, D), unit rows; options for all, or one a query.

        A ranking does not depend on which other queries share the call. Those that are alike go
        through the stages together; the reverse lists of a block of queries are asked for at
        once, whatever their options. Inside one modality a query is coded as the items are, and
        Stage II is the cosine: no lists rank items by others of their own kind.

        Raises:
            UnsupportedInputError: the gallery holds nothing of the candidates' modality.
            UnsupportedRerankError: the gallery lacks what a mode asked for needs.
            UncalibratedError: a least score is asked for, and there is no bank to compare with.
            CodeShapeError: the embeddings' width is not the heads'.
        """
        side = self._side(direction)
        dim = self.heads.config.embedding_dim
        if embeddings.ndim != 2 or embeddings.shape[1] != dim:
            raise CodeShapeError(f"queries need shape (Q, D={dim}), got {embeddings.shape}")
        each = [options] * len(embeddings) if isinstance(options, SearchOptions) else options
        vectors = np.asarray(embeddings, dtype=np.float32)
        queries = [
            self._query(direction, place, *one)
            for place, one in enumerate(zip(vectors, each, strict=True))
        ]
        found: dict[int, Ranking] = {}
        for start in range(0, len(queries), HASH_BLOCK):
            found |= self._search(direction, side, queries[start : start + HASH_BLOCK])
        return [found[query.place] for query in queries]

    def kept(self, direction: Way, embedding: FloatArray, options: SearchOptions) -> Kept:
        """What Stage I keeps for one query (D,) that is searched for with these options."""
        side = self._side(direction)
        first = StageOne(direction, self.heads, side.hamming, side.pq_codes)
        query = self._query(direction, 0, np.asarray(embedding, dtype=np.float32), options)
        kept = first.quantise(first.hash([query]))
        return Kept(kept.hashed.rows[0], kept.rows[0])

    def selection(self, direction: Way, asked: Filter | None) -> Selection:
        """The items that a filter leaves of a direction's candidates; kept for the next search.

        Raises:
            UnsupportedInputError: the gallery holds nothing of the candidates' modality.
            FilterRejectedError: the candidates have no metadata at hand.
        """
        side, modality = self._side(direction), direction.candidate
        if not asked:
            return self._all[modality]
        return self._selections.of(modality, asked, side.hamming, side.matcher)

    def knows(self, direction: Way, asked: Filter | None) -> bool:
        """Whether `selection` would answer at once."""
        return not asked or self._selections.knows(direction.candidate, asked)

    def require_calibration(self, direction: Way) -> None:
        """Refuse a least score that nothing can be compared with.

        Raises:
            UncalibratedError: there is no bank of the candidates' modality.
        """
        if direction.candidate not in self._backgrounds:
            raise UncalibratedError(
                f"min_score needs a bank with {direction.candidate} items to compare scores with, "
                "this index has none (--bank)"
            )

    def _side(self, direction: Way) -> CandidateSide:
        side = self.sides.get(direction.candidate)
        if side is None:
            raise UnsupportedInputError(
                f"{direction} needs a gallery with {direction.candidate} items, "
                f"this one has {', '.join(sorted(self.sides)) or 'none'}"
            )
        return side

    def _query(
        self, direction: Way, place: int, embedding: FloatArray, options: SearchOptions
    ) -> Query:
        """A query with its mode named and its filter looked up."""
        if options.min_score is not None:
            self.require_calibration(direction)
        mode = self.second.mode_of(direction, options.rerank)
        return Query.of(place, embedding, options, mode, self.selection(direction, options.filter))

    def _search(
        self, direction: Way, side: CandidateSide, queries: Sequence[Query]
    ) -> dict[int, Ranking]:
        """A block's rankings by place: the stages one after another, each for alike queries."""
        first = StageOne(direction, self.heads, side.hamming, side.pq_codes)
        kept = [chunk for group in alike(queries) for chunk in first.keep(group)]
        began = perf_counter()
        second = Reranking(
            first,
            self.second,
            side.embeddings,
            self._lists(side.lists, kept),
            self._hubs[direction.candidate],
            self._usual(direction, queries),
            (began, perf_counter()),
            len(queries),
        )
        found = ((chunk.queries, second.rankings(chunk)) for chunk in kept)
        return {query.place: one for each in found for query, one in zip(*each, strict=True)}

    def _lists(
        self, source: ReverseListSource | None, kept: Sequence[Quantised]
    ) -> ReverseListSource | None:
        """Where Stage II reads lists: what the block's candidates need is fetched in one call.

        Exact searches ask for themselves: they read all lists, a block at a time.
        """
        if source is None:
            return None
        wanted = [
            rows
            for chunk in kept
            if self.second.reads_lists(chunk.mode) and not chunk.exact
            for rows in chunk.rows
        ]
        return fetched(source, wanted)

    def _usual(self, direction: Way, queries: Sequence[Query]) -> Mapping[int, Usual]:
        """What scores are compared with, by place; none without a bank, or where none asks."""
        background = self._backgrounds.get(direction.candidate)
        wanting = [query for query in queries if query.options.compares]
        if background is None or not wanting:
            return {}
        found = background.usual(np.array([query.embedding for query in wanting]))
        return {query.place: one for query, one in zip(wanting, found, strict=True)}


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
    codes', 4 the hubness', 4 and another 16 a cached list the cache's own.
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
