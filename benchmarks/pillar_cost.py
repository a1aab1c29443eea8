"""CPU milliseconds of the pillar re-ranker of the released size for one query on one core.

Run it as `python -m benchmarks.pillar_cost`. The network alone, the whole re-ranking (tokens and
graph too), apart from these the search of the query's pillars (tables at hand) among the candidates
and in the bank, and all of it as Stage II serves it, over stored halves of 1,024 candidates.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import process_time

import numpy as np
import torch

from model.ann.selection import top_positions
from model.core.command import exit_status
from model.core.types import Direction, FloatArray, RowArray
from model.core.vectors import l2_normalised
from model.rerankers.pillar.config import PillarConfig
from model.rerankers.pillar.lists import Surroundings, pillar_lists
from model.rerankers.pillar.neighbours import PillarSide
from model.rerankers.pillar.reranker import PillarReranker
from model.rerankers.pillar.serving import PillarMode

DIM, GALLERY, BANK, HITS = 512, 1024, 16_384, 10


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    root = argparse.ArgumentParser(prog="python -m benchmarks.pillar_cost", description=__doc__)
    root.add_argument("--width", type=int, default=PillarConfig().width)
    root.add_argument("--heads", type=int, default=PillarConfig().heads)
    root.add_argument("--rounds", type=int, default=100)
    told = root.parse_args(argv)
    return exit_status("benchmarks.pillar_cost", lambda: _run(told))


@dataclass(frozen=True)
class Case:
    """One query with its candidates, and the side that both directions use here."""

    query: FloatArray  # (D,)
    rows: RowArray  # (C,)
    cosines: FloatArray  # (C,), as Stage II has them before any mode begins
    side: PillarSide

    @classmethod
    def drawn(cls, config: PillarConfig) -> "Case":
        """Unit vectors at random: stored halves of the gallery, the bank widened."""
        rng = np.random.default_rng(0)
        query, items, bank = (
            l2_normalised(rng.standard_normal((n, DIM), dtype=np.float32))
            for n in (1, GALLERY, BANK)
        )
        side = PillarSide.of(items.astype(np.float16), bank, config.neighbours)
        return cls(query[0], np.arange(GALLERY), items @ query[0], side)

    def mode(self, reranker: PillarReranker) -> PillarMode:
        """The re-ranker as an index serves it."""
        return PillarMode(reranker, dict.fromkeys(Direction, self.side))

    def found(self, reranker: PillarReranker, direction: Direction) -> Surroundings:
        """The query's pillars: among the candidates that the first stage left, and in the bank."""
        ordered = top_positions(self.cosines, self.rows, reranker.config.pillars - 1)
        return self.mode(reranker).surroundings(direction, self.query, ordered)


def _run(told: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    whole = PillarReranker.untrained(PillarConfig(width=told.width, heads=told.heads), 0)
    case = Case.drawn(whole.config)
    searched = _timed(lambda: case.found(whole, Direction.IMAGE_TO_TEXT), told.rounds)
    timed = {"pillar search": searched}
    for precision, reranker in (("float32", whole), ("bfloat16", whole.halved())):
        for direction in Direction:
            steps = _steps(case, reranker, direction, told.rounds)
            timed |= {f"{direction}, {precision}: {name}": step for name, step in steps.items()}
    print(json.dumps(timed, indent=2))


def _steps(
    case: Case, reranker: PillarReranker, direction: Direction, rounds: int
) -> dict[str, dict[str, float]]:
    query, side, around = case.query[None], case.side, case.found(reranker, direction)
    lists, mode = pillar_lists(query, around, side, reranker.config), case.mode(reranker)
    return {
        "network": _timed(lambda: reranker.list_scores(direction, lists), rounds),
        "all": _timed(lambda: reranker.scores(direction, query, around, side), rounds),
        "all and search": _timed(
            lambda: mode.rerank(direction, case.query, case.rows, case.cosines, HITS), rounds
        ),
    }


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
