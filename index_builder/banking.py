"""Stage: the bank, sampled from the gallery or from what was given, and the reverse lists."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from index_builder.build import Bank, Placed, Tools
from index_builder.options import ListsChoice
from index_builder.planning import Work
from index_builder.sources import ranges
from model.artifact.files import map_array
from model.artifact.manifest import OWN_BANK, ListsKind
from model.core.types import HalfArray, Modality
from model.data.selection import Selection, sample_bank
from model.reverse_lists.compute import BankScorer

LIST_ROWS = 4096
LIST_VALUE_BYTES = 2


def gallery_bank(tools: Tools, placed: Placed, counts: dict[Modality, int]) -> Bank:
    """A sample of what the gallery holds itself."""
    n_records = len(placed.image_row)
    items = Selection(np.arange(n_records), placed.image_row >= 0, placed.n_texts)
    drawn = sample_bank(items, tools.options.bank_size, tools.options.seed)
    pictured = drawn.rows[drawn.with_image]
    texts = ranges(placed.first_text[drawn.rows], drawn.n_captions)
    rows = {Modality.IMAGE: placed.image_row[pictured], Modality.TEXT: texts}
    embeddings = {m: open_embeddings(tools, m, count)[rows[m]] for m, count in counts.items()}
    return Bank(OWN_BANK, embeddings, pictured, np.repeat(drawn.rows, drawn.n_captions))


def given_bank(tools: Tools, work: Work) -> Bank:
    """The encoded sample of the bank that was given."""
    shards = [tools.shards.load(plan) for plan in work.plans]
    embeddings = {
        Modality.IMAGE: np.concatenate([shard.images for shard in shards]),
        Modality.TEXT: np.concatenate([shard.texts for shard in shards]),
    }
    return Bank(
        str(Path(work.source.place).absolute()),
        {modality: one for modality, one in embeddings.items() if len(one)},
        np.concatenate([shard.image_rows for shard in shards]),
        np.concatenate([shard.text_rows for shard in shards]),
    )


def write_bank(tools: Tools, bank: Bank) -> None:
    """Write both modalities and the pairs between them."""
    for modality, embeddings in bank.embeddings.items():
        tools.writer.bank(modality, embeddings)
    if Modality.TEXT in bank.embeddings:
        tools.writer.bank_partner(bank.partner)


def write_lists(tools: Tools, bank: Bank, counts: dict[Modality, int]) -> ListsKind:
    """Write the lists of every side that has a bank, if they are to be stored."""
    listed = {m: count for m, count in counts.items() if m.other in bank.embeddings}
    kind = _kind(tools, sum(listed.values()))
    if kind is ListsKind.STORED:
        for modality, count in listed.items():
            _write_lists(tools, modality, count, bank.embeddings[modality.other])
    return kind


def _kind(tools: Tools, n_lists: int) -> ListsKind:
    options = tools.options
    if not n_lists:
        return ListsKind.NONE
    if options.lists is not ListsChoice.AUTO:
        return ListsKind(options.lists.value)
    needed = n_lists * options.z * LIST_VALUE_BYTES
    return ListsKind.STORED if needed <= options.lists_budget else ListsKind.LAZY


def _write_lists(tools: Tools, modality: Modality, count: int, bank: HalfArray) -> None:
    options = tools.options
    scorer = BankScorer(bank, options.z, options.device)
    candidates = open_embeddings(tools, modality, count)
    with (
        tools.writer.lists(modality, count, options.z) as stream,
        tools.bar(f"{modality} lists", count, "items") as progress,
    ):
        for block in blocks(candidates, LIST_ROWS):
            stream.append(scorer.lists(block))
            progress(len(block))


def open_embeddings(tools: Tools, modality: Modality, count: int) -> HalfArray:
    """The embeddings (N, D) of one side as they were written, mapped."""
    path = tools.writer.layout.side(modality).embeddings
    return map_array(path, (count, tools.encoder.identity.embedding_dim), np.float16)


def blocks(array: HalfArray, size: int) -> Iterator[HalfArray]:
    """The rows in blocks."""
    return (array[start : start + size] for start in range(0, len(array), size))
