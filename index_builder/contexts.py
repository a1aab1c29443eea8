"""Stage: the checkpoint's learned re-ranker, and what the bank's pairs say of every item."""

from pathlib import Path

from index_builder.banking import blocks, open_embeddings
from index_builder.build import Bank, Tools
from index_builder.options import BuildOptions
from index_builder.taking import taken
from model.artifact.manifest import OWN_BANK, LearnedInfo
from model.core.errors import InputError
from model.core.types import Modality
from model.heads.heads import Heads
from model.rerankers.learned.reranker import LEARNED_FILE, LearnedReranker
from model.rerankers.pairs import PairBank

ROWS = 1024


def take_learned(options: BuildOptions) -> LearnedReranker | None:
    """The checkpoint's re-ranker, None where there is none or it was not wanted.

    Raises:
        InputError: it was asked for, and the checkpoint has none.
        CheckpointError: its file cannot be read.
    """
    path = Path(options.encoder) / LEARNED_FILE
    return taken(path, "learned", LearnedReranker.load, wanted=options.learned)


def write_contexts(
    tools: Tools,
    reranker: LearnedReranker | None,
    heads: Heads,
    bank: Bank,
    counts: dict[Modality, int],
) -> LearnedInfo | None:
    """Write weights, and the context of every item, where the bank was given with its pairs.

    Raises:
        InputError: it was asked for, and there are no such pairs.
    """
    if reranker is None:
        return None
    paired = bank.source != OWN_BANK and len(bank.embeddings) == len(Modality)
    if not paired or not (bank.partner >= 0).any():
        if tools.options.learned:
            raise InputError("--learned needs a --bank of images with their captions")
        return None
    tools.writer.learned(reranker)
    pairs = PairBank(bank.embeddings, bank.partner, heads)
    for modality, count in counts.items():
        _write_contexts(tools, pairs, heads, modality, count)
    return LearnedInfo(trained_on=reranker.trained_on)


def _write_contexts(
    tools: Tools, pairs: PairBank, heads: Heads, modality: Modality, count: int
) -> None:
    items = open_embeddings(tools, modality, count)
    with (
        tools.writer.contexts(modality, *items.shape) as stream,
        tools.bar(f"{modality} contexts", count, "items") as progress,
    ):
        for block in blocks(items, ROWS):
            stream.append(pairs.contexts(modality, block, heads.hash_space(modality, block)))
            progress(len(block))
