"""Stage: encoded shards become the items, embeddings and thumbnails of a version."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from index_builder.build import Placed, Tools
from index_builder.planning import Work
from index_builder.shards import EncodedShard, ShardSummary
from model.artifact.items import Item
from model.artifact.writer import ArtifactWriter
from model.core.types import Modality, RowArray
from model.data.records import Record


@dataclass(frozen=True)
class Contents:
    """What a version holds of each modality, and where each record went."""

    counts: dict[Modality, int]
    has_thumbnails: bool
    placed: Placed


def place_items(tools: Tools, work: Work, summaries: Sequence[ShardSummary]) -> Contents:
    """Write every shard behind the one before it."""
    contents = Contents(
        _counts(summaries),
        any(one.has_thumbnails for one in summaries),
        Placed(len(work.source.collection.records)),
    )
    shards = (tools.shards.load(plan) for plan in work.plans)
    with ExitStack() as stack:
        writers = _Writers(stack, tools.writer, contents, tools.encoder.identity.embedding_dim)
        for plan, shard in zip(work.plans, shards, strict=True):
            contents.placed.settle(shard.image_rows, shard.text_rows)
            rows = plan.selection.rows
            writers.append(shard, rows, work.source.records(rows), contents.placed)
    return contents


def _counts(summaries: Sequence[ShardSummary]) -> dict[Modality, int]:
    totals = {
        Modality.IMAGE: sum(one.n_images for one in summaries),
        Modality.TEXT: sum(one.n_texts for one in summaries),
    }
    return {modality: count for modality, count in totals.items() if count}


class _Writers:
    """The files that grow with every shard."""

    def __init__(
        self, stack: ExitStack, writer: ArtifactWriter, contents: Contents, dim: int
    ) -> None:
        sizes = contents.counts
        self._items = {m: stack.enter_context(writer.items(m)) for m in sizes}
        self._vectors = {
            m: stack.enter_context(writer.embeddings(m, n, dim)) for m, n in sizes.items()
        }
        has_thumbnails = contents.has_thumbnails
        self._thumbnails = stack.enter_context(writer.thumbnails()) if has_thumbnails else None

    def append(
        self, shard: EncodedShard, rows: RowArray, records: Sequence[Record], placed: Placed
    ) -> None:
        items: dict[Modality, list[Item]] = {modality: [] for modality in Modality}
        for row, record in zip(rows.tolist(), records, strict=True):
            image, first, count = placed.of(row)
            if image >= 0:
                items[Modality.IMAGE].append(_image_item(record, image, first, count))
            items[Modality.TEXT] += _text_items(record, image, first, count)
        vectors = {Modality.IMAGE: shard.images, Modality.TEXT: shard.texts}
        for modality in self._items:
            self._items[modality].append(items[modality])
            self._vectors[modality].append(vectors[modality])
        if self._thumbnails is not None:
            for thumbnail in shard.thumbnails or [b""] * len(shard.image_rows):
                self._thumbnails.append(thumbnail)


def _image_item(record: Record, image: int, first: int, count: int) -> Item:
    return Item(
        id=record.id,
        modality=Modality.IMAGE,
        row=image,
        first_caption=first,
        n_captions=count,
        image=record.image,
        metadata=record.metadata,
    )


def _text_items(record: Record, image: int, first: int, count: int) -> list[Item]:
    """The record's captions; they carry its metadata only where there is no image to do so."""
    return [
        Item(
            id=record.caption_id(position),
            modality=Modality.TEXT,
            row=first + position,
            caption=record.captions[position],
            partner=image,
            metadata=record.metadata if image < 0 else {},
        )
        for position in range(count)
    ]
