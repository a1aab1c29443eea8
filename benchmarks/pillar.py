"""The pillar re-ranker of a checkpoint, or of another one, beside the base and the control.

Run it as `python -m benchmarks.pillar --checkpoint CKPT --data DIR --split dev`. `bonus` is the
released evaluation without learning, `averaged` with it; `pillar` is what a service answers, each
direction alone, and `inductive` the same with a bank in the place of the other queries.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from model.core.command import exit_status
from model.core.metrics import Recalls
from model.data.selection import BANK_SIZE
from model.rerankers.pillar.reranker import PILLAR_FILE, PillarReranker
from model.training.embedder import Embedder
from model.training.pillar_evaluation import PillarEvaluation, evaluate_pillar


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(prog="python -m benchmarks.pillar", description=__doc__)
    root.add_argument("--checkpoint", type=Path, required=True, help="whose encoder embeds")
    root.add_argument("--data", required=True, help="a data set")
    root.add_argument("--split", required=True, help="the split whose pairs are the queries")
    root.add_argument("--bank", metavar="DIR:SPLIT", help="the bank of the inductive protocol")
    root.add_argument("--bank-size", type=int, default=BANK_SIZE)
    root.add_argument("--seed", type=int, default=0, help="draws the bank")
    root.add_argument("--transfer-from", type=Path, metavar="CKPT2", help="whose pillar file")
    root.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0, or 2 with one sentence for bad input."""
    told = parser().parse_args(argv)
    return exit_status("benchmarks.pillar", lambda: _run(told))


def _run(told: argparse.Namespace) -> None:
    reranker = PillarReranker.load((told.transfer_from or told.checkpoint) / PILLAR_FILE)
    opened = Embedder.open(told.checkpoint)
    bank = None
    if told.bank is not None:
        bank = opened.bank(told.bank, told.bank_size, told.seed).embeddings
    split = opened.split(told.data, told.split)
    report(evaluate_pillar(split, reranker, bank), as_json=told.json)


def report(result: PillarEvaluation, *, as_json: bool) -> None:
    """Print an evaluation."""
    print(result.model_dump_json(indent=2) if as_json else table(result))


def table(result: PillarEvaluation) -> str:
    """The evaluation as text, a line per ranking."""
    lines = [f"{'':10}{'i2t R@1':>9}{'R@5':>7}{'R@10':>7}{'t2i R@1':>9}{'R@5':>7}{'R@10':>7}"]
    lines[0] += f"{'rSum':>8}"
    for name in PillarEvaluation.model_fields:
        value = getattr(result, name)
        if isinstance(value, Recalls):
            shown = "".join(f"{r[0]:9.1f}{r[1]:7.1f}{r[2]:7.1f}" for r in (value.i2t, value.t2i))
            lines.append(f"{name:10}{shown}{value.rsum:8.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
