"""What a build will do, found out before anything heavy is opened."""

from dataclasses import dataclass

from index_builder.options import BuildOptions
from index_builder.shards import ShardPlan, shard_key
from index_builder.sources import Source, encoder_key
from model.data.selection import Selection, sample_bank, whole


@dataclass(frozen=True)
class Work:
    """One collection on its way through the encoder."""

    source: Source
    selection: Selection
    plans: list[ShardPlan]

    @property
    def size(self) -> int:
        """Images and captions together."""
        return int(self.selection.with_image.sum() + self.selection.n_captions.sum())


@dataclass(frozen=True)
class Plan:
    """What a build will do: the gallery, the bank where one is given, and the key of it all."""

    options: BuildOptions
    gallery: Work
    bank: Work | None
    key: str


def make_plan(options: BuildOptions) -> Plan:
    """The plan of a build.

    Raises:
        DataFormatError: gallery or bank cannot be read, or hold nothing.
        CheckpointError: there is no such encoder.
    """
    encoder = encoder_key(options.encoder)
    gallery = _gallery(options, encoder)
    bank = _bank(options, encoder)
    works = [gallery] if bank is None else [gallery, bank]
    keys = [plan.key for work in works for plan in work.plans]
    key = shard_key(encoder, options.shaping(), str(gallery.source.root), keys)
    return Plan(options, gallery, bank, key)


def _gallery(options: BuildOptions, encoder: str) -> Work:
    source = Source.open(options.gallery)
    selection = whole(source.collection)
    context = {"encoder": encoder, "thumbnails": options.thumbnails}
    return Work(source, selection, source.shards(selection, options.shard_size, context))


def _bank(options: BuildOptions, encoder: str) -> Work | None:
    """The sample of the bank that is given; drawn before it is encoded."""
    if options.bank is None:
        return None
    source = Source.open(options.bank)
    selection = sample_bank(whole(source.collection), options.bank_size, options.seed)
    context = {"encoder": encoder, "thumbnails": False}
    return Work(source, selection, source.shards(selection, options.shard_size, context))
