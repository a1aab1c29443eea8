"""`meet-eval`: recalls of a checkpoint, or of a built index, on a split of a data set."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from model.core.bootstrap import DRAWS
from model.core.command import Parser, exit_status, require_folder
from model.core.errors import InputError, MeetError, MissingExtraError
from model.core.types import CandidateBudget
from model.data.open import open_collection
from model.data.selection import BANK_SIZE
from model.progress import bar
from model.training.coco import (
    CocoIds,
    CocoMetrics,
    CocoScores,
    coco_scores,
    ids_of,
    open_metrics,
    read_ids,
)
from model.training.curves import curves_of
from model.training.embedded import Embedded
from model.training.embedder import Embedder
from model.training.evaluation import SHARES_ALONE, Bank, Measured, evaluation_of, measure_split
from model.training.index_evaluation import measure_index
from model.training.pairs import Pairs
from model.training.recipe import cache_of
from model.training.report import text_table, write_report


@dataclass(frozen=True)
class Taken:
    """What was measured, and what the parts of the report that come after it need."""

    parts: Sequence[Measured]
    budget: CandidateBudget
    sample: Bank  # what heads of other sizes are fitted to
    coco: CocoIds | None
    seconds: dict[str, float]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = Parser(prog="meet-eval", description=__doc__)
    what = root.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", help="a checkpoint directory, or an encoder's hub name")
    what.add_argument("--index", type=Path, help="the root of a built index")
    root.add_argument("--data", required=True, help="a data set")
    root.add_argument("--split", required=True, help="the split whose pairs are the queries")
    root.add_argument("--bank", metavar="DIR:SPLIT", help="the bank of the inductive protocol")
    root.add_argument("--bank-size", type=int, default=BANK_SIZE)
    usual = SHARES_ALONE
    root.add_argument("--keep-hash", type=float, help=f"share of the gallery ({usual.keep_hash})")
    root.add_argument("--keep-pq", type=float, help=f"share of the gallery ({usual.keep_pq})")
    root.add_argument("--folds", type=int, default=1, help="mean over runs of images (COCO 1K: 5)")
    root.add_argument("--bootstrap", type=int, default=DRAWS, help="draws of images, 0 for none")
    root.add_argument(
        "--coco-ids", type=Path, help="COCO's ids, a line a caption: image id, caption id"
    )
    root.add_argument("--out", type=Path, help="folder for the report: JSON, tables and plots")
    root.add_argument("--seed", type=int, default=0, help="draws the bank and the bootstrap")
    root.add_argument("--device", default="cpu", help="cpu or cuda")
    root.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return root


def main(
    argv: Sequence[str] | None = None, coco_metrics: Callable[[], CocoMetrics] = open_metrics
) -> int:
    """Run the command line: 0, or 2 with one sentence for bad input."""
    return exit_status("meet-eval", lambda: _run(parser().parse_args(argv), coco_metrics))


def _run(told: argparse.Namespace, coco_metrics: Callable[[], CocoMetrics]) -> None:
    _check(told)
    if told.coco_ids is not None:
        coco_metrics()  # missing: said now, not after an hour
    taken = _of_index(told) if told.index else _of_checkpoint(told)
    result = evaluation_of(taken.parts, told.bootstrap, told.seed).model_copy(
        update={"coco": _coco(told, taken, coco_metrics), "seconds": taken.seconds}
    )
    print(result.model_dump_json(indent=2) if told.json else text_table(result))  # noqa: T201
    if told.out is not None:
        curves = curves_of(taken.parts, taken.budget, taken.sample, told.seed)
        try:
            write_report(result, curves, told.out, f"{told.data}, split {told.split}")
        except MissingExtraError as error:
            _note(error)


def _check(told: argparse.Namespace) -> None:
    for name in ("seed", "bootstrap"):
        if getattr(told, name) < 0:
            raise InputError(f"--{name} must be 0 or more, got {getattr(told, name)}")
    if told.coco_ids is not None and told.folds != 1:
        raise InputError(
            f"ECCV Caption and CxC take the whole split: --folds must be 1, got {told.folds}"
        )
    if told.out is not None:
        require_folder("out", told.out)


def _coco(
    told: argparse.Namespace, taken: Taken, coco_metrics: Callable[[], CocoMetrics]
) -> dict[str, CocoScores] | None:
    """The scores of COCO's own pairs; where nobody asked for them, a note if they cannot be."""
    if taken.coco is None or len(taken.parts) > 1:
        return None
    try:
        return coco_scores(taken.parts[0], taken.coco, coco_metrics())
    except MeetError as error:
        if told.coco_ids is not None:
            raise
        _note(error)
        return None


def _note(error: MeetError) -> None:
    print(f"meet-eval: {error}", file=sys.stderr)  # noqa: T201


def _ids(told: argparse.Namespace, pairs: Pairs) -> CocoIds | None:
    return ids_of(pairs) if told.coco_ids is None else read_ids(told.coco_ids, pairs)


def _of_checkpoint(told: argparse.Namespace) -> Taken:
    budget = _budget(told, SHARES_ALONE)
    began = perf_counter()
    opened = Embedder.open(told.checkpoint, told.device)
    pairs = Pairs.of(open_collection(told.data, told.split))
    _check_folds(told.folds, len(pairs.image_rows))
    coco = _ids(told, pairs)
    split = opened.embedded(pairs)
    encoded = perf_counter()
    bank = None if told.bank is None else opened.bank(told.bank, told.bank_size, told.seed)
    with_bank = perf_counter()
    parts = _parts(told, opened, split, bank, budget)
    spent = {
        "encode": encoded - began,
        "bank": with_bank - encoded,
        "evaluate": perf_counter() - with_bank,
    }
    return Taken(parts, budget, (bank or split).embeddings, coco, spent)


def _parts(
    told: argparse.Namespace,
    opened: Embedder,
    split: Embedded,
    bank: Embedded | None,
    budget: CandidateBudget,
) -> list[Measured]:
    """Each fold measured."""
    heads = opened.heads((bank or split).embeddings, told.seed)
    return [
        measure_split(
            split.fold(i, told.folds),
            heads,
            opened.stage_two,
            budget,
            bank,
            learned=opened.checkpoint.learned,
        )
        for i in bar(range(told.folds), desc="folds", disable=told.folds == 1)
    ]


def _of_index(told: argparse.Namespace) -> Taken:
    if told.folds != 1:
        raise InputError(f"an index is evaluated whole: --folds must be 1, got {told.folds}")
    if told.bank is not None:
        raise InputError(
            f"an index has its bank built in: --bank needs --checkpoint, got {told.bank}"
        )
    pairs = Pairs.of(open_collection(told.data, told.split))
    ids, cache = _ids(told, pairs), cache_of(told.index)
    found = measure_index(
        told.index, pairs, lambda served: _budget(told, served), cache, told.device
    )
    coco = ids and ids.in_order(found.image_rows, found.text_rows)
    sample = found.bank or found.measured.split.embeddings
    return Taken([found.measured], found.budget, sample, coco, found.seconds)


def _budget(told: argparse.Namespace, default: CandidateBudget) -> CandidateBudget:
    shares = {"keep_hash": told.keep_hash, "keep_pq": told.keep_pq}
    for name, share in shares.items():
        if share is not None and not 0 < share <= 1:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag} is a share of the gallery in (0, 1], got {share}")
    return default.model_copy(update={n: s for n, s in shares.items() if s is not None})


def _check_folds(folds: int, n_images: int) -> None:
    if not 1 <= folds <= n_images:
        raise InputError(f"--folds must be 1 to the number of images {n_images}, got {folds}")


if __name__ == "__main__":
    sys.exit(main())
