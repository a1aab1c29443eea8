"""What the learned re-ranker's parts give: trials on all folds but the one that is asked.

    python -m benchmarks.learned_trials --checkpoint CKPT --data DIR

The folds are those of `meet-train learned`, cut from the train split and embedded by encoders that
have not seen them; they are read from the checkpoint's cache where that ran before.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from model.core.command import exit_status
from model.core.metrics import SHORT
from model.core.types import Frozen
from model.progress import bar
from model.rerankers.learned.reranker import CASES, Case
from model.rerankers.learned.terms import N_SHARED, N_TERMS, N_VARYING, VIEWS
from model.training.cross_fit import cross_fitted
from model.training.embedder import Embedder
from model.training.learned_lists import TermLists, lists_of_fold
from model.training.learned_options import LearnedOptions
from model.training.learned_training import scored, train_network
from model.training.report import markdown

COSINES = range(VIEWS * VIEWS)
# Query against candidate; query's expansion against candidate; what lists say of a candidate.
ONLINE = (*(VIEWS * view for view in range(VIEWS)), *range(VIEWS * VIEWS, N_VARYING - N_SHARED))
HUBNESS = range(VIEWS * VIEWS, N_VARYING - N_SHARED)
USUAL = LearnedOptions()


class Trial(NamedTuple):
    """A name, the terms that are seen, and how it is trained."""

    name: str
    terms: Sequence[int] = range(N_TERMS)
    options: LearnedOptions = USUAL


TRIALS = (
    Trial("as `meet-train learned`"),
    Trial("seed 1", options=USUAL.model_copy(update={"seed": 1})),
    Trial("seed 2", options=USUAL.model_copy(update={"seed": 2})),
    Trial("without what the bank says of candidates", ONLINE),
    Trial("cosines alone", COSINES),
    Trial("without hubness and rank", [t for t in range(N_TERMS) if t not in HUBNESS]),
    Trial("no candidate dropped", options=USUAL.model_copy(update={"dropped_candidates": 0.0})),
    Trial("32 candidates", options=USUAL.model_copy(update={"candidates": 32})),
    Trial("width 16", options=USUAL.model_copy(update={"width": 16})),
    Trial("width 256", options=USUAL.model_copy(update={"width": 256})),
    Trial("1,800 steps", options=USUAL.model_copy(update={"steps": 1800})),
)


class Row(Frozen):
    """One line: R@1 + R@5 + R@10 of every case, by its name."""

    name: str
    recalls: dict[str, float]


Folds = Sequence[Mapping[Case, TermLists]]


def compare(folds: Folds) -> Iterator[Row]:
    """The lists' own order, then every trial, each asked the last fold."""
    *rest, last = folds
    yield Row(name="relationship", recalls={str(c): last[c].recall() for c in CASES})
    for trial in bar(TRIALS, "trials"):
        recalls = {
            str(case): tried(trial, TermLists.joined([fold[case] for fold in rest]), last[case])
            for case in CASES
        }
        yield Row(name=trial.name, recalls=recalls)


def tried(trial: Trial, learned: TermLists, asked: TermLists) -> float:
    """What a trial makes of lists that it did not learn from."""
    depth = trial.options.candidates
    learned, asked = (shown(lists, trial.terms, depth) for lists in (learned, asked))
    return asked.recall(scored(train_network(learned, trial.options), asked))


def shown(lists: TermLists, terms: Sequence[int], candidates: int) -> TermLists:
    """The first candidates with some of their terms; the others are nought for all."""
    mask = torch.zeros(N_TERMS)
    mask[list(terms)] = 1
    part = slice(0, candidates)
    return TermLists(lists.terms[:, part] * mask, lists.true[:, part], lists.live[:, part])


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown; the last columns are sums over both directions."""
    names = {case: f"{SHORT[case.direction]} {_bank(case)}" for case in CASES}
    sums = {own: [case for case in CASES if case.own_bank is own] for own in (False, True)}
    head = ["trial", *names.values(), "rSum inductive", "rSum transductive"]
    lines = []
    for row in rows:
        values = [row.recalls[str(case)] for case in CASES]
        values += [sum(row.recalls[str(case)] for case in cases) for cases in sums.values()]
        lines.append([row.name, *(f"{value:.1f}" for value in values)])
    return markdown(head, lines)


def _bank(case: Case) -> str:
    return "transductive" if case.own_bank else "inductive"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(prog="benchmarks.learned_trials", description=__doc__)
    root.add_argument("--checkpoint", type=Path, required=True, help="a checkpoint directory")
    root.add_argument("--data", required=True, help="a data set with a train split")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0, or 2 with one sentence for bad input."""
    told = parser().parse_args(argv)
    return exit_status("benchmarks.learned_trials", lambda: _run(told))


def _run(told: argparse.Namespace) -> None:
    stage_two = Embedder.open(told.checkpoint).stage_two
    cut = cross_fitted(
        told.checkpoint, told.data, USUAL.folds, USUAL.fold_images, USUAL.seed, "cpu"
    )
    folds = [lists_of_fold(fold, stage_two, USUAL.candidates) for fold in cut]
    print(table(list(compare(folds))))


if __name__ == "__main__":
    sys.exit(main())
