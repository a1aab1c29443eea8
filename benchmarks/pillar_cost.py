"""CPU milliseconds of the pillar re-ranker of the released size for one query on one core.

Run it as `python -m benchmarks.pillar_cost`. The network alone, the whole re-ranking (tokens and
graph too), and apart from these the search of the query's pillars in the gallery and the bank.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from time import process_time

import numpy as np
import torch

from model.core.command import exit_status
from model.core.types import Direction, FloatArray
from model.core.vectors import l2_normalised
from model.rerankers.pillar.config import PillarConfig
from model.rerankers.pillar.lists import Surroundings, pillar_lists
from model.rerankers.pillar.neighbours import PillarSide, nearest
from model.rerankers.pillar.reranker import PillarReranker

DIM, GALLERY, BANK = 512, 1024, 16_384


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    root = argparse.ArgumentParser(prog="python -m benchmarks.pillar_cost", description=__doc__)
    root.add_argument("--width", type=int, default=PillarConfig().width)
    root.add_argument("--heads", type=int, default=PillarConfig().heads)
    root.add_argument("--rounds", type=int, default=100)
    told = root.parse_args(argv)
    return exit_status("benchmarks.pillar_cost", lambda: _run(told))


def _run(told: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    whole = PillarReranker.untrained(PillarConfig(width=told.width, heads=told.heads), 0)
    query, side = _world(whole.config)
    timed = {
        "pillar search": _timed(lambda: _found(query, side, whole.config), told.rounds),
    }
    around = _found(query, side, whole.config)
    for precision, reranker in (("float32", whole), ("bfloat16", whole.halved())):
        for direction in Direction:
            name = f"{direction}, {precision}"
            cut = _cut(around, whole.config.shortlist(direction))
            timed |= _direction(name, reranker, direction, query, cut, side, told.rounds)
    print(json.dumps(timed, indent=2))


def _direction(
    name: str,
    reranker: PillarReranker,
    direction: Direction,
    query: FloatArray,
    around: Surroundings,
    side: PillarSide,
    rounds: int,
) -> dict[str, dict[str, float]]:
    lists = pillar_lists(query, around, side, reranker.config)
    return {
        f"{name}: network": _timed(lambda: reranker.list_scores(direction, lists), rounds),
        f"{name}: all": _timed(lambda: reranker.scores(direction, query, around, side), rounds),
    }


def _world(config: PillarConfig) -> tuple[FloatArray, PillarSide]:
    rng = np.random.default_rng(0)
    query, items, bank = (
        l2_normalised(rng.standard_normal((n, DIM), dtype=np.float32)) for n in (1, GALLERY, BANK)
    )
    return query, PillarSide.of(items, bank, config.neighbours)


def _found(query: FloatArray, side: PillarSide, config: PillarConfig) -> Surroundings:
    """The query's pillars: among the candidates that the first stage left, and in the bank."""
    inter = nearest(query, side.candidates, config.pillars - 1).rows
    return Surroundings(inter, inter, nearest(query, side.background, config.pillars - 1).rows)


def _cut(around: Surroundings, count: int) -> Surroundings:
    return Surroundings(around.shortlist[:, :count], around.inter, around.intra)


def _timed(call: Callable[[], object], rounds: int) -> dict[str, float]:
    """CPU milliseconds, which other processes hardly disturb: the best round and the median."""
    call()
    spent = []
    for _ in range(rounds):
        began = process_time()
        call()
        spent.append(1e3 * (process_time() - began))
    return {"best": round(min(spent), 2), "median": round(float(np.median(spent)), 2)}


if __name__ == "__main__":
    sys.exit(main())
