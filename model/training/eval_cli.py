"""`meet-eval`: recalls of a checkpoint, or of a built index, on a split of a data set."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from tqdm import tqdm

from model.checkpoint import open_checkpoint
from model.core.command import exit_status
from model.core.errors import InputError
from model.core.metrics import Recalls
from model.core.types import CandidateBudget
from model.data.open import open_collection
from model.encoders.protocols import Encoder
from model.heads.fitting import fit_heads
from model.heads.heads import HeadsConfig
from model.rerankers.weights import StageTwo
from model.training.embedding import embed_pairs
from model.training.evaluation import (
    Embedded,
    Evaluation,
    evaluate_split,
    mean_evaluation,
)
from model.training.index_evaluation import evaluate_index
from model.training.pairs import Pairs
from model.training.recipe import cache_of

KEEP_HASH, KEEP_PQ = 0.20, 0.10
BANK_SIZE = 16_384
_UNBOUNDED = 2**31


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(prog="meet-eval", description=__doc__)
    what = root.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", help="a checkpoint directory, or an encoder's hub name")
    what.add_argument("--index", type=Path, help="the root of a built index")
    root.add_argument("--data", required=True, help="a data set")
    root.add_argument("--split", required=True, help="the split whose pairs are the queries")
    root.add_argument("--bank", metavar="DIR:SPLIT", help="the bank of the inductive protocol")
    root.add_argument("--bank-size", type=int, default=BANK_SIZE)
    root.add_argument("--keep-hash", type=float, help=f"share of the gallery ({KEEP_HASH})")
    root.add_argument("--keep-pq", type=float, help=f"share of the gallery ({KEEP_PQ})")
    root.add_argument("--folds", type=int, default=1, help="mean over runs of images (COCO 1K: 5)")
    root.add_argument("--seed", type=int, default=0, help="draws the bank")
    root.add_argument("--device", default="cpu", help="cpu or cuda")
    root.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0, or 2 with one sentence for bad input."""
    told = parser().parse_args(argv)
    return exit_status("meet-eval", lambda: _run(told))


def _run(told: argparse.Namespace) -> None:
    if told.seed < 0:
        raise InputError(f"--seed must be 0 or more, got {told.seed}")
    result = _evaluate_index(told) if told.index else _evaluate_checkpoint(told)
    print(result.model_dump_json(indent=2) if told.json else table(result))  # noqa: T201


def table(result: Evaluation) -> str:
    """The evaluation as text, a line per ranking."""
    named = {"base": result.base, "reference": result.reference, **result.protocols}
    lines = [
        f"{'':14}{'i2t R@1':>9}{'R@5':>7}{'R@10':>7}{'t2i R@1':>9}{'R@5':>7}{'R@10':>7}{'rSum':>8}"
    ]
    lines += [_line(name, value) for name, value in named.items() if value is not None]
    for stage, kept in result.kept.items():
        lines.append(f"kept by {stage:6}{kept.i2t:9.1f}{'':14}{kept.t2i:9.1f}")
    return "\n".join(lines)


def _line(name: str, value: Recalls) -> str:
    i2t, t2i = value.i2t, value.t2i
    shown = f"{i2t[0]:9.1f}{i2t[1]:7.1f}{i2t[2]:7.1f}{t2i[0]:9.1f}{t2i[1]:7.1f}{t2i[2]:7.1f}"
    return f"{name:14}{shown}{value.rsum:8.1f}"


def _evaluate_checkpoint(told: argparse.Namespace) -> Evaluation:
    budget = _budget(told, CandidateBudget(at_least=1, max_hash=_UNBOUNDED, max_pq=_UNBOUNDED))
    began = perf_counter()
    opened = open_checkpoint(told.checkpoint, told.device)
    pairs = Pairs.of(open_collection(told.data, told.split))
    _check_folds(told.folds, len(pairs.image_rows))
    cache = cache_of(Path(told.checkpoint).resolve())
    split = Embedded(embed_pairs(opened.encoder, pairs, cache), pairs.image_of_text)
    encoded = perf_counter()
    bank = _bank(told, opened.encoder, cache)
    with_bank = perf_counter()
    config = HeadsConfig(embedding_dim=opened.encoder.identity.embedding_dim)
    heads = opened.heads or fit_heads(config, (bank or split).embeddings, told.seed)
    parts = [
        evaluate_split(
            split.fold(i, told.folds), heads, opened.stage_two or StageTwo(), budget, bank
        )
        for i in tqdm(range(told.folds), desc="folds", disable=told.folds == 1)
    ]
    result = mean_evaluation(parts) if told.folds > 1 else parts[0]
    spent = {
        "encode": encoded - began,
        "bank": with_bank - encoded,
        "evaluate": perf_counter() - with_bank,
    }
    return result.model_copy(update={"seconds": spent})


def _evaluate_index(told: argparse.Namespace) -> Evaluation:
    if told.folds != 1:
        raise InputError(f"an index is evaluated whole: --folds must be 1, got {told.folds}")
    if told.bank is not None:
        raise InputError(
            f"an index has its bank built in: --bank needs --checkpoint, got {told.bank}"
        )
    return evaluate_index(
        told.index,
        Pairs.of(open_collection(told.data, told.split)),
        lambda served: _budget(told, served),
        cache_of(told.index.resolve()),
        told.device,
    )


def _bank(told: argparse.Namespace, encoder: Encoder, cache: Path) -> Embedded | None:
    if told.bank is None:
        return None
    if told.bank_size < 1:
        raise InputError(f"a bank holds one entry or more, got --bank-size {told.bank_size}")
    pairs = Pairs.sampled(open_collection(told.bank), told.bank_size, told.seed)
    return Embedded(embed_pairs(encoder, pairs, cache), pairs.image_of_text)


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
