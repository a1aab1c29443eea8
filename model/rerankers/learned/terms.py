"""What the learned re-ranker sees of a list of candidates: scale-free terms, no embeddings.

Query and candidate are each described by four vectors: themselves, and what the bank of pairs
says of them (`Expansion`). All cosines between the two quadruples are terms, and beside them
what the candidate's reverse list says of its hubness and of the query's place in it. So the
re-ranker that was trained on one encoder can be asked about another.
"""

import numpy as np

from model.core.types import FloatArray, HalfArray
from model.rerankers.pairs import Expansion
from model.rerankers.relationship import hubness, rank_term
from model.reverse_lists.compute import reverse_ranks, valid_counts

VIEWS = 1 + len(Expansion._fields)
TEMPERATURES = (0.05, 0.1)
TOP = 10
# Terms of the candidate or of both, then those of the query, which a whole list shares.
N_VARYING = VIEWS * VIEWS + len(TEMPERATURES) + 3 + VIEWS - 1
N_SHARED = VIEWS - 1
N_TERMS = N_VARYING + N_SHARED


def list_terms(query: FloatArray, candidates: FloatArray, lists: HalfArray) -> FloatArray:
    """Terms (L, F) of candidates (L, 4, D) for a query (4, D), with reverse lists (L, z).

    The first of the four vectors is the item itself, the others are its expansion.
    """
    cosines = np.einsum("ad,lbd->lab", query, candidates, optimize=True)
    of_candidate = np.einsum("ld,lbd->lb", candidates[:, 0], candidates[:, 1:])
    of_query = np.broadcast_to(query[1:] @ query[0], (len(candidates), N_SHARED))
    counts = valid_counts(lists)
    ranks = reverse_ranks(lists, cosines[:, 0, 0])
    columns = [
        cosines.reshape(len(candidates), VIEWS * VIEWS),
        *(hubness(lists, temperature)[:, None] for temperature in TEMPERATURES),
        _mean_of_top(lists, 1)[:, None],
        _mean_of_top(lists, TOP)[:, None],
        rank_term(ranks, counts)[:, None],
        of_candidate,
        of_query,
    ]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _mean_of_top(lists: HalfArray, depth: int) -> FloatArray:
    """Mean (L,) of the highest entries; a list without entries gives 0."""
    values = lists[:, :depth].astype(np.float32)
    known = np.arange(values.shape[1]) < valid_counts(lists)[:, None]
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(known.sum(axis=1), 1), np.float32)
