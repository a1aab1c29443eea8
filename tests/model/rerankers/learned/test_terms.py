import math

import numpy as np

from model.core.vectors import l2_normalised
from model.rerankers.learned.terms import N_TERMS, N_VARYING, list_terms
from model.reverse_lists.compute import PADDING

DIM, ENTRIES, KNOWN = 8, 12, 5


def slow_terms(query: np.ndarray, candidate: np.ndarray, entries: np.ndarray) -> list[float]:
    """One candidate's terms, written out."""
    known = [float(value) for value in entries if value > PADDING]
    terms = [float(a @ b) for a in query for b in candidate]
    for tau in (0.05, 0.1):
        soft = tau * math.log(sum(math.exp(v / tau) for v in known) / len(known)) if known else 0
        terms.append(soft)
    terms.append(known[0] if known else 0)
    terms.append(sum(known[:10]) / max(1, len(known[:10])))
    rank = sum(value > terms[0] for value in known)
    terms.append(1 - math.log1p(rank) / math.log1p(len(known)) if known else 0)
    terms += [float(candidate[0] @ other) for other in candidate[1:]]
    return terms + [float(query[0] @ other) for other in query[1:]]


def test_terms_are_those_of_a_slow_count() -> None:
    rng = np.random.default_rng(0)
    query = l2_normalised(rng.standard_normal((4, DIM)).astype(np.float32))
    candidates = rng.standard_normal((20, 4, DIM)).astype(np.float32)
    candidates /= np.linalg.norm(candidates, axis=2, keepdims=True)
    lists = -np.sort(-rng.uniform(-1, 1, (20, ENTRIES)), axis=1)
    lists[3, KNOWN:], lists[4] = PADDING, PADDING  # a short list, and one without entries
    halves = lists.astype(np.float16)
    found = list_terms(query, candidates, halves)
    assert found.shape == (20, N_TERMS)
    for row in range(20):
        np.testing.assert_allclose(
            found[row], slow_terms(query, candidates[row], halves[row]), atol=2e-4
        )
    # The last terms are the query's own: a whole list shares them.
    assert np.ptp(found[:, N_VARYING:], axis=0).max() == 0
    assert np.ptp(found[:, :N_VARYING], axis=0).min() > 0
