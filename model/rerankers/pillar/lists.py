"""Tokens and graph of a batch of lists: a query and its shortlist seen from the pillars.

A token is a sample's similarities to the inter pillars (the query, then its nearest items of the
other modality) and to the intra pillars (the query, then its nearest of its own modality). The
graph joins samples that share nearest neighbours. The query always counts as one of its own
background, so both are the same whether it was stored there or comes from outside.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from model.ann.halves import widened
from model.core.types import FloatArray, RowArray
from model.rerankers.pillar.config import PillarConfig
from model.rerankers.pillar.neighbours import MISSING, PillarSide

# Embeddings of so few queries' pillars stay in the cache: six times faster than hundreds at once.
BLOCK_QUERIES = 32


class Lists(NamedTuple):
    """A batch of lists, the query first: tokens (B, 1 + C, 2P), adjacency (B, 1 + C, 1 + C)."""

    tokens: Tensor
    adjacency: Tensor


@dataclass(frozen=True)
class Surroundings:
    """Rows found around a batch of queries, best first; -1 where a small pool has no more.

    `query_rows` are the queries' own rows in the background, None where they come from outside.
    """

    shortlist: RowArray  # (B, C), candidates to be ordered
    inter: RowArray  # (B, P - 1), nearest candidates
    intra: RowArray  # (B, P - 1), nearest of the background, the query itself left out
    query_rows: RowArray | None = None  # (B,)


def pillar_lists(
    queries: FloatArray, around: Surroundings, side: PillarSide, config: PillarConfig
) -> Lists:
    """Tokens and adjacency for queries (B, D), unit rows, and their shortlists."""
    blocks = [slice(i, i + BLOCK_QUERIES) for i in range(0, len(queries), BLOCK_QUERIES)]
    tokens = torch.cat([_tokens(queries[block], around, side, block) for block in blocks])
    in_own, in_other = neighbour_ids(tokens[..., 0].numpy(), around, side)
    counts = shared_counts(torch.from_numpy(in_own)) + shared_counts(torch.from_numpy(in_other))
    return Lists(tokens, sparse_graph(counts, 2 * in_own.shape[2], config.threshold))


def _tokens(
    queries: FloatArray, around: Surroundings, side: PillarSide, block: slice
) -> Float[Tensor, "b n k"]:
    candidates = _taken(side.candidates, around.shortlist[block])
    return similarity_tokens(
        torch.cat([torch.tensor(queries)[:, None], candidates], dim=1),
        _taken(side.candidates, around.inter[block]),
        _taken(side.background, around.intra[block]),
    )


def similarity_tokens(
    samples: Float[Tensor, "b n d"], inter: Float[Tensor, "b p d"], intra: Float[Tensor, "b p d"]
) -> Float[Tensor, "b n k"]:
    """Similarities (B, n, 2(p + 1)) of samples, the query first, to the pillars.

    The query leads both halves: columns 0 and p + 1. A missing pillar is a zero vector.
    """
    to_query = samples @ samples[:, :1].transpose(1, 2)
    halves = [to_query, samples @ inter.transpose(1, 2), to_query, samples @ intra.transpose(1, 2)]
    return torch.cat(halves, dim=2)


def neighbour_ids(
    to_query: NDArray[np.floating], around: Surroundings, side: PillarSide
) -> tuple[RowArray, RowArray]:
    """Each sample's neighbours (B, n, k) in the queries' modality and in the candidates'.

    `to_query` (B, n) are cosines with the query. Where the query comes from outside it takes the
    last place in the list of every candidate that it is nearer to than that entry is.
    """
    k, rows = side.own.shape[1], around.query_rows
    outside = np.full(len(to_query), len(side.background))
    query_id = (outside if rows is None else rows)[:, None]
    other = side.other[around.shortlist]  # (B, C, k)
    if rows is None:
        enters = to_query[:, 1:] > side.reach[around.shortlist]
        other[..., -1] = np.where(enters, query_id, other[..., -1])
    own_kind = np.concatenate([query_id, around.intra[:, : k - 1]], axis=1)
    in_own = np.concatenate([own_kind[:, None], other], axis=1)
    in_other = np.concatenate([around.inter[:, None, :k], side.own[around.shortlist]], axis=1)
    return in_own.astype(np.int64), in_other.astype(np.int64)


def shared_counts(ids: Int[Tensor, "b n k"]) -> Float[Tensor, "b n n"]:
    """How many neighbours each two samples share; -1 is nobody's neighbour.

    The ids of a list are numbered from 0, so that membership is a narrow matrix and the overlap
    its product with itself.
    """
    flat = ids.flatten(1)  # (B, nk)
    ordered, order = flat.sort(dim=1)
    fresh = torch.zeros_like(ordered)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    numbers = torch.empty_like(flat).scatter_(1, order, fresh.cumsum(dim=1)).view_as(ids)
    members = torch.zeros(*ids.shape[:2], flat.shape[1])
    members.scatter_(2, numbers, (ids != MISSING).float())
    return members @ members.transpose(1, 2)


def sparse_graph(
    counts: Float[Tensor, "b n n"], own: int, threshold: float
) -> Float[Tensor, "b n n"]:
    """Attention of the graph: shared neighbours, `own` on the diagonal, rows summing to 1.

    Shares of at most threshold / n of a row are cut, and what stays fills the row again.
    """
    counts = counts.clone()
    counts.diagonal(dim1=1, dim2=2).fill_(own)
    shares = counts / counts.sum(dim=2, keepdim=True)
    shares = torch.where(shares > threshold / counts.shape[1], shares, 0.0)
    return shares / shares.sum(dim=2, keepdim=True)


def _taken(embeddings: NDArray[np.floating], rows: RowArray) -> Float[Tensor, "b n d"]:
    """Embeddings at rows (B, n), zero where the row is -1."""
    taken = widened(embeddings[rows])
    missing = rows == MISSING
    if missing.any():
        taken[missing] = 0.0
    return torch.from_numpy(taken)
