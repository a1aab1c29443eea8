"""What Stage II costs a query on one core: its terms at hand, and the query's bank neighbours.

Synthetic unit vectors: the arithmetic does not depend on what they mean. Beside the times stands
a faiss Flat search of the bank's dense vectors, measured in the same run.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch

from model.ann.faiss_door import FlatIndex, set_threads
from model.core.types import Direction, FloatArray, HalfArray, Modality, RerankMode, RowArray
from model.core.vectors import l2_normalised
from model.heads.fitting import fit_heads
from model.heads.heads import HeadsConfig
from model.rerankers.learned.network import LearnedConfig
from model.rerankers.learned.reranker import LearnedReranker
from model.rerankers.learned.serving import LearnedMode
from model.rerankers.pairs import PairBank
from model.rerankers.relationship import PairCosines, relationship
from model.rerankers.second_stage import SecondStage, Shortlist
from model.rerankers.weights import DirectionWeights, StageTwo
from model.reverse_lists.compute import reverse_lists

CANDIDATES, BANK, Z, DIM, K, REPEATS = 200, 16_384, 128, 1024, 10, 200
DIRECTION = Direction.IMAGE_TO_TEXT
CONTEXTS = 3  # vectors of an item's expansion


@dataclass(frozen=True)
class _Table:
    """Reverse lists (C, z) that are at hand."""

    table: HalfArray

    def lists(self, rows: RowArray) -> HalfArray:
        """Lists of rows (C,)."""
        return self.table[rows]


def main() -> None:
    """Print a table, or JSON with --json."""
    told = argparse.ArgumentParser(description=__doc__)
    told.add_argument("--json", action="store_true")
    as_json = told.parse_args().json
    torch.set_num_threads(1)
    set_threads(1)
    times = measure()
    if as_json:
        print(json.dumps(times, indent=2))
        return
    for name, milliseconds in times.items():
        print(f"{name:46}{milliseconds:8.3f} ms")


def measure() -> dict[str, float]:
    """Median milliseconds of each step."""
    rng = np.random.default_rng(0)
    bank = {m: _unit(rng, BANK) for m in Modality}
    heads = fit_heads(HeadsConfig(embedding_dim=DIM), bank, 0)
    halves = {m: e.astype(np.float16) for m, e in bank.items()}
    pairs = PairBank(halves, rng.permutation(BANK), heads)
    candidates, query = _unit(rng, CANDIDATES), _unit(rng, 1)[0]
    lists, cosines = reverse_lists(candidates, bank[DIRECTION.query], Z), candidates @ query
    weights = DirectionWeights(expansion=0.2, feedback=-0.05)
    said = PairCosines(cosines, cosines)
    hash_space = heads.heads[DIRECTION.query].query_hash_space(query)
    flat = FlatIndex(bank[DIRECTION.query])
    second = _learned(StageTwo(weights={DIRECTION: weights}), pairs, rng)
    rows, table = np.arange(CANDIDATES), _Table(lists)
    shortlist = Shortlist.of(
        DIRECTION, query[None], hash_space[None], rows[None], candidates, table
    )
    return {
        f"relationship, {CANDIDATES} candidates": _median(
            lambda: relationship(cosines, lists, weights, said)
        ),
        "the query's neighbours, both kinds": _median(
            lambda: pairs.expand(DIRECTION.query, query, hash_space)
        ),
        f"learned, {CANDIDATES} candidates, neighbours included": _median(
            lambda: second.rerank(shortlist, RerankMode.LEARNED, K)
        ),
        "faiss Flat search of one kind": _median(lambda: flat.search(query[None], 20)),
    }


def _learned(stage_two: StageTwo, pairs: PairBank, rng: np.random.Generator) -> SecondStage:
    """Stage II with networks of the usual size, whose weights do not matter here."""
    contexts = _unit(rng, CANDIDATES * CONTEXTS).astype(np.float16)
    shaped = contexts.reshape(CANDIDATES, CONTEXTS, DIM)
    reranker = LearnedReranker.untrained(LearnedConfig())
    learned = LearnedMode(reranker, {DIRECTION.candidate: shaped})
    return SecondStage(stage_two, pairs, learned=learned)


def _unit(rng: np.random.Generator, count: int) -> FloatArray:
    return l2_normalised(rng.standard_normal((count, DIM)).astype(np.float32))


def _median(step: Callable[[], object]) -> float:
    spent: list[float] = []
    for _ in range(REPEATS):
        began = perf_counter()
        step()
        spent.append(1e3 * (perf_counter() - began))
    return float(np.median(spent))


if __name__ == "__main__":
    main()
