"""What a search gives back: a page of hits, and what every stage made of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from model.core.types import FloatArray, Interval, RowArray
from model.rerankers.ordering import AppliedRerank
from model.search.listing import Explanation as Explanation
from model.search.listing import Listed, joined
from model.search.options import SearchOptions
from model.search.picking import Picked, Picker


@dataclass(frozen=True)
class Times:
    """How long the stages of a search took, and when each of them was done.

    Of what is done at once for several searches each has its share of the milliseconds.
    """

    milliseconds: Mapping[str, float]  # hash, pq, rerank
    spans: Mapping[str, Interval]


@dataclass(frozen=True)
class Ranking:
    """One query's hits, best first, and what the cascade did for them."""

    rows: RowArray  # (k,)
    scores: FloatArray  # (k,), non-increasing
    rerank: AppliedRerank
    milliseconds: Mapping[str, float]  # hash, pq, rerank; what is done at once is shared
    explanation: Explanation | None = None
    offset: int = 0  # hits of the query that come before
    calibrated: FloatArray | None = None  # (k,), in [0, 1]
    duplicates: Sequence[RowArray] | None = None  # what each hit stands for, best first
    spans: Mapping[str, Interval] = field(default_factory=dict)  # when each stage was done


def ranking_of(
    options: SearchOptions,
    parts: Sequence[tuple[Listed, Picked]],
    picker: Picker,
    applied: AppliedRerank,
    times: Times,
) -> Ranking:
    """The page of the hits that was asked for."""
    page = list(_page(parts, options.offset))
    consistency = np.concatenate([listed.consistency[places] for listed, places in page])
    stands_for = [rows for _, picked in parts for rows in picked.duplicates]
    return Ranking(
        np.concatenate([listed.rows[places] for listed, places in page]),
        np.concatenate([listed.scores[places] for listed, places in page]),
        applied,
        times.milliseconds,
        joined([listed.explained(places) for listed, places in page]) if options.explain else None,
        options.offset,
        None if picker.usual is None else picker.usual.shares(consistency),
        None if options.collapse is None else stands_for[options.offset :],
        times.spans,
    )


def _page(parts: Sequence[tuple[Listed, Picked]], offset: int) -> Iterator[tuple[Listed, RowArray]]:
    """Each stretch with the places of its hits that are not before the page."""
    for listed, picked in parts:
        yield listed, picked.places[offset:]
        offset = max(0, offset - len(picked.places))
