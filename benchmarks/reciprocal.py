"""k-reciprocal encoding between two modalities, after Zhong et al. (CVPR 2017, §3).

There a probe and the gallery are of one kind, so a probe's neighbours can be asked for theirs in
one list. What is adapted, the rest as published:

- The probe is no member of the gallery. Its neighbours are its nearest k1 candidates; one of them
  answers the call if the probe is among the k1 best of the candidate's *bank*, which is the list
  that the candidate has of the query's modality.
- Candidates are encoded among themselves, within their modality, as the paper encodes everything.
  Both kinds of code are thus vectors over the candidates, and can be compared.
- A probe that nobody answers is encoded by its nearest candidates alone (the local expansion).
"""

import numpy as np
from numpy.typing import NDArray

from benchmarks.evidence import Evidence
from model.core.types import FloatArray, RowArray

ROWS = 256
OVERLAP = 2 / 3  # of a neighbour's set, to take it over (equation 2)

BoolArray = NDArray[np.bool_]


def jaccard(seen: Evidence, k_1: int, k_2: int) -> FloatArray:
    """Jaccard distances (Q, N) of the encoded queries and candidates (equation 10).

    Holds a few dense (N, N) matrices: made for galleries of thousands.
    """
    cosines, vectors = seen.cosines, seen.sought.candidates
    near = nearest_rows(vectors, vectors, max(k_1, k_2) + 1)  # (N, k), itself among them
    halves = mutual(near[:, : round(k_1 / 2) + 1])
    own = encode(expanded(mutual(near[:, : k_1 + 1]), halves), vectors @ vectors.T)
    first = np.argsort(-cosines, axis=1, kind="stable")[:, : max(k_1, k_2)]
    answered = np.zeros(cosines.shape, np.bool_)
    np.put_along_axis(answered, first[:, :k_1], values=True, axis=1)
    answered &= seen.reverse_ranks < k_1
    asked = encode(expanded(answered, halves), cosines)
    asked = (asked + sum(own[first[:, j]] for j in range(k_2 - 1))) / np.float32(k_2)
    own = np.mean([own[near[:, j]] for j in range(k_2)], axis=0, dtype=np.float32)
    return distances(asked, np.ascontiguousarray(own.T))


def nearest_rows(queries: FloatArray, vectors: FloatArray, k: int) -> RowArray:
    """The rows (Q, k) of the highest cosines, best first."""
    k = min(k, len(vectors))
    found = []
    for start in range(0, len(queries), ROWS):
        cosines = queries[start : start + ROWS] @ vectors.T
        top = np.sort(np.argpartition(-cosines, k - 1, axis=1)[:, :k], axis=1)
        values = np.take_along_axis(cosines, top, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        found.append(np.take_along_axis(top, order, axis=1))
    return np.concatenate(found)


def mutual(near: RowArray) -> BoolArray:
    """Who is a neighbour of whom (N, N), both ways, from lists (N, k) (equation 1)."""
    one_way = np.zeros((len(near), len(near)), np.bool_)
    np.put_along_axis(one_way, near, values=True, axis=1)
    return one_way & one_way.T


def expanded(sets: BoolArray, halves: BoolArray) -> BoolArray:
    """Sets (Q, N), and with them the half-size sets (N, N) of members that lie mostly inside.

    The half-size set of a member is taken over if at least two thirds of it is there already
    (equation 2; above two thirds in the released code, which is what is done here).
    """
    grown = sets.copy()
    sizes = halves.sum(axis=1)
    for row, members in enumerate(sets):
        at = np.flatnonzero(members)
        inside = (halves[at] & members).sum(axis=1)
        grown[row] |= halves[at[inside > OVERLAP * sizes[at]]].any(axis=0)
    return grown


def encode(sets: BoolArray, cosines: FloatArray) -> FloatArray:
    """Codes (Q, N): exp(-distance) of the members, to a sum of one (equation 7 as released)."""
    codes = np.where(sets, np.exp(cosines - 1), np.float32(0.0))
    codes /= np.maximum(codes.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return codes.astype(np.float32, copy=False)


def distances(asked: FloatArray, by_member: FloatArray) -> FloatArray:
    """1 - Σ min / Σ max (Q, N) of codes (Q, N), and candidates' codes by member (N, N)."""
    out = np.empty(asked.shape, np.float32)
    for row, code in enumerate(asked):
        at = np.flatnonzero(code)
        shared = np.minimum(code[at, None], by_member[at]).sum(axis=0)
        out[row] = 1 - shared / (2 - shared)
    return out
