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
from model.core.types import ByteArray, FloatArray, Interval, Modality, RowArray, Way
from model.heads.heads import Heads
from model.rerankers.ordering import AppliedRerank
from model.rerankers.second_stage import SecondStage, Shortlist
from model.reverse_lists.fetched import fetched
from model.reverse_lists.layers import (
    ComputedLists,
    LayeredLists,
    MemoryLayer,
    ReverseListSource,
    StoredLists,
)
from model.search.calibration import Background
from model.search.listing import Listed
from model.search.options import SearchOptions as SearchOptions
from model.search.picking import Picker
from model.search.ranking import Explanation as Explanation
from model.search.ranking import Ranking as Ranking
from model.search.ranking import Times, ranking_of
from model.search.selection import Matcher, Selection, Selections
from model.search.stage_one import Candidates, Hashed, Query, StageOne

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
class _Quantised:
    """A query after Stage I."""

    hashed: Hashed
    candidates: Candidates  # (C2,) by (PQ score, row)
    span: Interval


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

        A ranking does not depend on which other queries share the call. The reverse lists of a
        block of queries are asked for at once, whatever their options. Inside one modality a
        query is coded as the items are, and Stage II is the cosine: no lists rank items by
        others of their own kind.

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
        queries = [
            self._query(direction, np.asarray(embedding, dtype=np.float32), one)
            for embedding, one in zip(embeddings, each, strict=True)
        ]
        blocks = range(0, len(queries), HASH_BLOCK)
        return [
            ranking
            for start in blocks
            for ranking in self._search(direction, side, queries[start : start + HASH_BLOCK])
        ]

    def kept(self, direction: Way, embedding: FloatArray, options: SearchOptions) -> Kept:
        """What Stage I keeps for one query (D,) that is searched for with these options."""
        side = self._side(direction)
        first = StageOne(direction, self.heads, side.hamming, side.pq_codes)
        query = self._query(direction, np.asarray(embedding, dtype=np.float32), options)
        [hashed] = first.hash([query])
        return Kept(hashed.rows, first.quantise(hashed).rows)

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

    def _query(self, direction: Way, embedding: FloatArray, options: SearchOptions) -> Query:
        """A query with its mode named and its filter looked up."""
        if options.min_score is not None:
            self.require_calibration(direction)
        named = replace(options, rerank=self.second.mode_of(direction, options.rerank))
        return Query(embedding, named, self.selection(direction, options.filter))

    def _search(
        self, direction: Way, side: CandidateSide, queries: Sequence[Query]
    ) -> list[Ranking]:
        """A block's rankings: the stages one after another, each for all queries."""
        first = StageOne(direction, self.heads, side.hamming, side.pq_codes)
        quantised = [_quantised(first, hashed) for hashed in first.hash(queries)]
        began = perf_counter()
        lists = self._lists(side.lists, quantised)
        fetching = began, perf_counter()
        side = replace(side, lists=lists)
        return [self._rank(first, side, query, fetching, len(queries)) for query in quantised]

    def _lists(
        self, source: ReverseListSource | None, quantised: Sequence[_Quantised]
    ) -> ReverseListSource | None:
        """Where Stage II reads lists: what the block's candidates need is fetched in one call.

        Exact searches ask for themselves: they read all lists, a block at a time.
        """
        asked = [(one.hashed.query.options, one.candidates.rows) for one in quantised]
        wanted = [
            rows
            for options, rows in asked
            if self.second.reads_lists(options.rerank) and not options.exact
        ]
        return source if source is None else fetched(source, wanted)

    def _rank(
        self,
        first: StageOne,
        side: CandidateSide,
        asked: _Quantised,
        fetching: Interval,
        sharing: int,
    ) -> Ranking:
        """The hits among the candidates (C2,) in the order of the mode asked for, and behind.

        Fetching lists was done at once for all queries that share it.
        """
        began = perf_counter()
        options = asked.hashed.query.options
        picker = Picker(
            options, self._usual(first.direction, asked.hashed.query), side.hamming.codes_of
        )
        listed, applied = self._relisted(first.direction, side, asked, picks=options.picks)
        parts = [(listed, picker.take(listed.rows, listed.consistency))]
        if picker.missing and len(listed) < len(asked.hashed.query.selection):
            behind = _behind(first, side, asked, listed)
            parts.append((behind, picker.take(behind.rows, behind.consistency)))
        own = began, perf_counter()
        spent = {
            "hash": asked.hashed.milliseconds,
            "pq": _milliseconds(asked.span),
            "rerank": _milliseconds(fetching) / sharing + _milliseconds(own),
        }
        spans = {"hash": asked.hashed.span, "pq": asked.span, "rerank": (fetching[0], own[1])}
        return ranking_of(options, parts, picker, applied, Times(spent, spans))

    def _usual(self, direction: Way, query: Query) -> FloatArray | None:
        """What scores are compared with, None where that is not asked for or there is no bank."""
        options, background = query.options, self._backgrounds.get(direction.candidate)
        if background is None or not (options.calibrate or options.min_score is not None):
            return None
        return background.usual(query.embedding)

    def _relisted(
        self, direction: Way, side: CandidateSide, asked: _Quantised, *, picks: bool
    ) -> tuple[Listed, AppliedRerank]:
        """The candidates in the order of Stage II, as deep as they are looked at."""
        hashed, candidates = asked.hashed, asked.candidates
        options, most = hashed.query.options, len(candidates.rows)
        shortlist = Shortlist.of(
            direction,
            hashed.query.embedding,
            hashed.hash_space,
            candidates.rows,
            side.embeddings,
            side.lists,
        )
        wanted = most if picks else min(options.depth, most)
        final = self.second.rerank(shortlist, options.rerank, wanted)
        return Listed.reranked(candidates.at(final.places), final), final.applied


def _quantised(first: StageOne, hashed: Hashed) -> _Quantised:
    began = perf_counter()
    candidates = first.quantise(hashed)
    return _Quantised(hashed, candidates, (began, perf_counter()))


def _behind(first: StageOne, side: CandidateSide, asked: _Quantised, listed: Listed) -> Listed:
    """What Stage II has not seen of the items near the query, by cosine, behind what it has."""
    candidates = first.behind(asked.hashed, asked.candidates)
    embedding = asked.hashed.query.embedding
    scored = Shortlist.of(
        first.direction, embedding, asked.hashed.hash_space, candidates.rows, side.embeddings, None
    )
    order = np.lexsort((candidates.rows, -scored.cosines))
    return Listed.behind(candidates.at(order), scored.cosines[order], listed)


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


def _milliseconds(span: Interval) -> float:
    return 1e3 * (span[1] - span[0])
