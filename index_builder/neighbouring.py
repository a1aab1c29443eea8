"""Stage: the checkpoint's pillar re-ranker, and the neighbours of every item that it needs."""

from pathlib import Path

import numpy as np

from index_builder.banking import blocks, open_embeddings
from index_builder.build import Bank, Tools
from index_builder.options import BuildOptions
from index_builder.taking import taken
from model.artifact.manifest import PillarInfo
from model.core.errors import InputError
from model.core.types import HalfArray, Modality
from model.rerankers.pillar.neighbours import nearest, reach_of
from model.rerankers.pillar.reranker import PILLAR_FILE, PillarReranker

ROWS = 4096


def take_pillar(options: BuildOptions) -> PillarReranker | None:
    """The checkpoint's re-ranker, None where there is none or it was not wanted.

    Raises:
        InputError: it was asked for, and the checkpoint has none.
        CheckpointError: its file cannot be read.
    """
    path = Path(options.encoder) / PILLAR_FILE
    return taken(path, "pillar", PillarReranker.load, wanted=options.pillar)


def write_pillar(
    tools: Tools, reranker: PillarReranker | None, bank: Bank, counts: dict[Modality, int]
) -> PillarInfo | None:
    """Write weights and neighbours of every side that has a bank of the other modality.

    Raises:
        InputError: it was asked for, and no side has such a bank.
    """
    listed = {m: count for m, count in counts.items() if m.other in bank.embeddings}
    if reranker is None:
        return None
    if not listed:
        if tools.options.pillar:
            raise InputError("--pillar needs images and captions, in the gallery or in a --bank")
        return None
    tools.writer.pillar(reranker)
    depth = reranker.config.neighbours
    for modality, count in listed.items():
        _write_neighbours(tools, modality, count, bank.embeddings[modality.other], depth)
    return PillarInfo(neighbours=depth, trained_on=reranker.trained_on)


def _write_neighbours(
    tools: Tools, modality: Modality, count: int, bank: HalfArray, depth: int
) -> None:
    """Exact, and quadratic in the gallery's size; a block of products at a time in memory."""
    items = open_embeddings(tools, modality, count)
    done = 0
    with (
        tools.writer.neighbours(modality, count, depth) as table,
        tools.bar(f"{modality} neighbours", count, "items") as progress,
    ):
        for block in blocks(items, ROWS):
            own = nearest(block, items, depth, np.arange(done, done + len(block)))
            other = nearest(block, bank, depth)
            table.append(own.rows, other.rows, reach_of(other))
            done += len(block)
            progress(len(block))
