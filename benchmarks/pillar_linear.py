"""The pillar re-ranker over a linear base: fitted, trained and measured by one command.

Run it as `python -m benchmarks.pillar_linear --data DIR --split dev`. The re-ranker learns on
cross-fitted pools: each fold of the train split is embedded by a base that saw the other folds.
`--folds 0` trains on the base's own train embeddings instead, `--banks` inductively. `--served`
measures what an index answers: stored halves, Stage I with fitted heads, the default budget.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from benchmarks.linear_base import Features, LinearBase, bank_of, cross_fitted
from benchmarks.pillar import report
from model.ann.halves import widened
from model.cascade import Cascade
from model.core.command import exit_status
from model.core.errors import InputError
from model.core.metrics import Recalls
from model.core.types import CandidateBudget, Direction, Modality, RerankMode
from model.data.open import open_collection
from model.heads.fitting import fit_heads
from model.heads.heads import HeadsConfig
from model.rerankers.pillar.neighbours import PillarSide
from model.rerankers.pillar.reranker import PillarReranker
from model.rerankers.pillar.serving import PillarMode
from model.rerankers.second_stage import SecondStage
from model.rerankers.weights import StageTwo
from model.training.embedded import Embedded
from model.training.evaluation import Bank, cascade_lists, cascade_over, list_ranks
from model.training.pairs import Pairs
from model.training.pillar_evaluation import evaluate_pillar
from model.training.pillar_options import RECIPES, PillarOptions, PillarRecipe
from model.training.pillar_pools import Pool, cut_pools
from model.training.pillar_training import train_pillar


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(prog="python -m benchmarks.pillar_linear", description=__doc__)
    root.add_argument("--data", required=True, help="a precomp data set with a train split")
    root.add_argument("--split", default="dev", help="the split whose pairs are the queries")
    root.add_argument("--folds", type=int, default=6, help="bases that are cross-fitted; 0: none")
    root.add_argument("--banks", action="store_true", help="train inductively")
    root.add_argument("--recipe", type=PillarRecipe, default=PillarRecipe.FAST)
    root.add_argument("--width", type=int)
    root.add_argument("--heads", type=int)
    root.add_argument("--epochs", type=int)
    root.add_argument("--precision")
    root.add_argument("--seed", type=int, default=0)
    root.add_argument("--weights", type=Path, help="a pillar file to use instead of training one")
    root.add_argument("--halved", action="store_true", help="measure the bfloat16 copy")
    root.add_argument("--served", action="store_true", help="measure through the cascade")
    root.add_argument("--out", type=Path, help="where to write the trained one")
    root.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0, or 2 with one sentence for bad input."""
    told = parser().parse_args(argv)
    return exit_status("benchmarks.pillar_linear", lambda: _run(told))


def _run(told: argparse.Namespace) -> None:
    if told.folds < 0 or told.folds == 1:
        raise InputError(f"--folds is 0 or at least 2, got {told.folds}")
    train = Features.of(Pairs.of(open_collection(told.data, "train")))
    split = Features.of(Pairs.of(open_collection(told.data, told.split)))
    base = train.fit()
    reranker = PillarReranker.load(told.weights) if told.weights else _trained(told, train, base)
    if told.out:
        told.out.parent.mkdir(parents=True, exist_ok=True)
        reranker.save(told.out)
    reranker = reranker.halved() if told.halved else reranker
    bank = bank_of(train.embedded(base))
    if told.served:
        print(_served(split.embedded(base), bank, reranker).model_dump_json(indent=2))
        return
    report(evaluate_pillar(split.embedded(base), reranker, bank), as_json=told.json)


def _trained(told: argparse.Namespace, train: Features, base: LinearBase) -> PillarReranker:
    chosen = {n: getattr(told, n) for n in ("width", "heads", "epochs", "precision", "seed")}
    given = {name: value for name, value in chosen.items() if value is not None}
    options = PillarOptions(**{**RECIPES[told.recipe].model_dump(), **given})
    with redirect_stdout(sys.stderr):  # what is printed is the table alone
        pools = _pools(told, train, base, options)
        return train_pillar(pools, options, f"{Path(told.data).name}:train")


def _served(split: Embedded, bank: Bank, reranker: PillarReranker) -> Recalls:
    """Inductive recalls through the cascade in mode `pillar`."""
    heads = fit_heads(HeadsConfig(embedding_dim=split.embeddings[Modality.TEXT].shape[1]), bank, 0)
    sides = cascade_over(split, heads, StageTwo(), bank).sides
    behind = {m: widened(np.asarray(e, np.float16)) for m, e in bank.items()}
    depth = reranker.config.neighbours
    tables = {
        d: PillarSide.of(sides[d.candidate].embeddings, behind[d.query], depth) for d in Direction
    }
    second = SecondStage(StageTwo(), pillar=PillarMode(reranker, tables))
    cascade = Cascade(heads, sides, second)
    lists = cascade_lists(cascade, split, CandidateBudget(), RerankMode.PILLAR)
    return Recalls.of(*list_ranks(split, lists))


def _pools(
    told: argparse.Namespace, train: Features, base: LinearBase, options: PillarOptions
) -> list[Pool]:
    if told.folds:
        return cross_fitted(train, told.folds, told.seed, banks=told.banks)
    return cut_pools(train.embedded(base), options.pool_images, told.seed)


if __name__ == "__main__":
    sys.exit(main())
