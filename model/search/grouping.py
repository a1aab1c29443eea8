"""Which queries of a call go through the stages together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from model.core.types import FloatArray, RerankMode
from model.heads.heads import HeadsConfig
from model.search.options import SearchOptions
from model.search.selection import Selection

# Of a chunk's candidates their vectors, or their codes' places in the look-up tables and the
# values there: more leaves the caches of a core, less makes more calls for each query.
CHUNK_BYTES = 4 << 20
LOOKED_UP_BYTES = 16


@dataclass(frozen=True)
class Query:
    """What is asked, with a mode that is named, and the items that it is asked of."""

    place: int  # in the call
    embedding: FloatArray  # (D,)
    options: SearchOptions
    mode: RerankMode
    selection: Selection
    counts: tuple[int, int]  # (C1, C2) of the items that are searched

    @classmethod
    def of(
        cls,
        place: int,
        embedding: FloatArray,
        options: SearchOptions,
        mode: RerankMode,
        selection: Selection,
    ) -> "Query":
        """A query with the numbers of candidates that its budget gives it."""
        count = len(selection)
        counts = (count, count) if options.exact else options.budget.counts(count)
        return cls(place, embedding, options, mode, selection, counts)


def alike(queries: Sequence[Query]) -> list[list[Query]]:
    """The queries in groups whose stages keep as many of the same items in the same mode.

    An exact one is a group of its own: its candidates are all the items.
    """
    groups: dict[tuple[object, ...], list[Query]] = {}
    for query in queries:
        alone = query.place if query.options.exact else None
        key = (query.counts, id(query.selection), query.mode, alone)
        groups.setdefault(key, []).append(query)
    return list(groups.values())


def chunks(group: Sequence[Query], config: HeadsConfig) -> Iterator[slice]:
    """Stretches of a group that are looked at together."""
    first, second = group[0].counts
    each = max(LOOKED_UP_BYTES * first * config.n_subspaces, 4 * second * config.embedding_dim)
    size = max(1, CHUNK_BYTES // max(1, each))
    return (slice(start, start + size) for start in range(0, len(group), size))
