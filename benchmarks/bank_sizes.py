"""The default Stage II against the size of its bank, and the depth of its reverse lists.

    python -m benchmarks.bank_sizes --checkpoint CKPT --data DIR --split dev --bank DIR:train

Banks are drawn as `meet-build` draws them; everything is ranked without Stage I. With no bank at
all a service has the cosine alone, and the transductive protocol its lists without pairs.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.opened import (
    Opened,
    WholeBank,
    arguments,
    as_typed,
    check,
    open_whole_bank,
    write_out,
)
from benchmarks.whole_stage_two import Expanded, WholeStageTwo
from model.core.command import exit_status
from model.core.errors import InputError, MissingExtraError
from model.core.metrics import Recalls
from model.core.types import Direction, Frozen, HalfArray, Modality
from model.progress import bar
from model.training.embedded import Embedded
from model.training.evaluation import LIST_DEPTH, base_ranks, pair_bank
from model.training.report import markdown

SIZES = (0, 256, 1024, 4096, 16_384)
DEPTHS = (8, 16, 32, 64, 128, 256)
PLOT_FILE = "bank.png"


class SizeRow(Frozen):
    """The rSum with a bank of so many images and captions."""

    images: int
    captions: int
    inductive: float
    transductive: float


class DepthRow(Frozen):
    """The rSum with reverse lists of z entries."""

    z: int
    inductive: float
    transductive: float


class Found(Frozen):
    """Both tables, and what they are to be compared with."""

    base: float
    sizes: tuple[SizeRow, ...]
    depths: tuple[DepthRow, ...]


def measure(opened: Opened, whole: WholeBank, sizes: Sequence[int], seed: int) -> Found:
    """The rSum by bank size, the whole bank last, and by depth with the bank of `opened`."""
    base = Recalls.of(*base_ranks(opened.split)).rsum
    stage_two = WholeStageTwo.of(opened.split, opened.heads, opened.stage_two)
    own = stage_two.lists(None, max(DEPTHS))
    banks = [whole.sample(size, seed) for size in (*sizes, whole.size) if size]
    rows = [size_row(stage_two, bank, own) for bank in bar(banks, desc="banks")]
    if 0 in sizes:
        rows.insert(0, without_bank(stage_two, own, base))
    return Found(
        base=base, sizes=tuple(rows), depths=tuple(depth_rows(stage_two, opened.bank, own))
    )


def without_bank(
    stage_two: WholeStageTwo, own: Mapping[Direction, HalfArray], base: float
) -> SizeRow:
    """The cosine alone, and lists of the split's own queries without pairs."""
    nothing: dict[Direction, Expanded | None] = dict.fromkeys(Direction)
    ranks = stage_two.ranks(shortened(own, LIST_DEPTH), nothing, own_bank=True)
    return SizeRow(images=0, captions=0, inductive=base, transductive=Recalls.of(*ranks).rsum)


def size_row(
    stage_two: WholeStageTwo, bank: Embedded, own: Mapping[Direction, HalfArray]
) -> SizeRow:
    """Both protocols with one bank, lists as long as they are served."""
    said = stage_two.expanded(pair_bank(bank, stage_two.heads))
    given = stage_two.lists(bank.embeddings, LIST_DEPTH)
    inductive = stage_two.ranks(given, said, own_bank=False)
    transductive = stage_two.ranks(shortened(own, LIST_DEPTH), said, own_bank=True)
    return SizeRow(
        images=len(bank.embeddings[Modality.IMAGE]),
        captions=len(bank.embeddings[Modality.TEXT]),
        inductive=Recalls.of(*inductive).rsum,
        transductive=Recalls.of(*transductive).rsum,
    )


def depth_rows(
    stage_two: WholeStageTwo, bank: Embedded, own: Mapping[Direction, HalfArray]
) -> Iterator[DepthRow]:
    """Both protocols with one bank and lists of each depth: the first of the longest."""
    said = stage_two.expanded(pair_bank(bank, stage_two.heads))
    given = stage_two.lists(bank.embeddings, max(DEPTHS))
    for z in bar(DEPTHS, desc="depths"):
        inductive = stage_two.ranks(shortened(given, z), said, own_bank=False)
        transductive = stage_two.ranks(shortened(own, z), said, own_bank=True)
        yield DepthRow(
            z=z,
            inductive=Recalls.of(*inductive).rsum,
            transductive=Recalls.of(*transductive).rsum,
        )


def shortened(lists: Mapping[Direction, HalfArray], z: int) -> dict[Direction, HalfArray]:
    """The first z entries of every list."""
    return {direction: np.ascontiguousarray(own[:, :z]) for direction, own in lists.items()}


def tables(found: Found) -> str:
    """Both tables as Markdown."""
    sizes = [
        [f"{row.images:,}", f"{row.captions:,}", f"{row.inductive:.1f}", f"{row.transductive:.1f}"]
        for row in found.sizes
    ]
    depths = [[f"{r.z}", f"{r.inductive:.1f}", f"{r.transductive:.1f}"] for r in found.depths]
    return "\n\n".join(
        [
            f"Cosine alone: {found.base:.1f}.",
            markdown(("bank: images", "captions", "inductive", "transductive"), sizes),
            markdown(("z", "inductive", "transductive"), depths),
        ]
    )


def document(found: Found, command: str) -> str:
    """The tables as a file that says how they were made."""
    return (
        "# Stage II by bank and depth\n\n"
        f"Made by\n\n```sh\n{command}\n```\n\n"
        "rSum of the default Stage II without Stage I. Inductive: lists over the bank; "
        "transductive: over the split's own queries. Pairs come from the bank, and where it is "
        f"empty there are none.\n\n{tables(found)}\n"
    )


def draw(found: Found, folder: Path) -> None:
    """Draw both curves into the folder.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from model.training.plots import SumPanel, draw_sums
    except ModuleNotFoundError as error:
        raise MissingExtraError("plots", "matplotlib", "plots") from error
    banks = [row for row in found.sizes if row.captions]
    panels = [
        SumPanel("captions of the bank", [row.captions for row in banks], _curves(banks)),
        SumPanel("entries of a reverse list, z", DEPTHS, _curves(found.depths)),
    ]
    draw_sums(panels, found.base, folder / PLOT_FILE)


def _curves(rows: Sequence[SizeRow] | Sequence[DepthRow]) -> dict[str, list[float]]:
    return {name: [getattr(r, name) for r in rows] for name in ("inductive", "transductive")}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = arguments("benchmarks.bank_sizes", __doc__)
    root.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="and the whole bank")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0, or 2 with one sentence for bad input."""
    told = parser().parse_args(argv)
    command = as_typed("benchmarks.bank_sizes", argv)
    return exit_status("benchmarks.bank_sizes", lambda: _run(told, command))


def _run(told: argparse.Namespace, command: str) -> None:
    check(told)
    if min(told.sizes) < 0:
        raise InputError(f"--sizes must be 0 or more, got {min(told.sizes)}")
    found = measure(*open_whole_bank(told), told.sizes, told.seed)
    dumped = json.dumps(found.model_dump(), indent=2)
    print(dumped if told.json else tables(found))
    write_out(told.out, "bank", document(found, command), dumped)
    if told.out is not None:
        try:
            draw(found, told.out)
        except MissingExtraError as error:
            print(f"benchmarks.bank_sizes: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
