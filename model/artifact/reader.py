"""An opened version: everything the cascade and the service read."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.ann.faiss_door import HammingIndex
from model.artifact.digests import (
    DigestTable,
    check_contents,
    check_in_place,
    check_sizes,
    is_recorded,
    record_verified,
)
from model.artifact.files import map_array
from model.artifact.items import Item, ItemTable
from model.artifact.layout import RootLayout, SideLayout, VersionLayout
from model.artifact.manifest import ListsKind, Manifest
from model.artifact.neighbours import NeighbourTable
from model.artifact.store import VersionStore
from model.artifact.thumbnails import Thumbnails
from model.core.brief import brief
from model.core.errors import (
    ArtifactError,
    EncoderMismatchError,
    UnknownItemError,
    UnsupportedInputError,
)
from model.core.types import ByteArray, HalfArray, Modality, RowArray
from model.encoders.protocols import EncoderIdentity, EncoderKind
from model.heads.heads import Heads
from model.rerankers.learned.reranker import LearnedReranker
from model.rerankers.pairs import Expansion
from model.rerankers.pillar.reranker import PillarReranker


@dataclass(frozen=True)
class ArtifactSide:
    """One modality of an index: only the Hamming codes are in anonymous memory."""

    modality: Modality
    items: ItemTable
    embeddings: HalfArray  # (N, D)
    hamming: HammingIndex
    pq_codes: ByteArray  # (N, M)
    reverse_lists: HalfArray | None  # (N, z)
    neighbours: NeighbourTable | None
    contexts: HalfArray | None  # (N, 3, D)

    def __len__(self) -> int:
        """N."""
        return len(self.items)


@dataclass(frozen=True)
class Artifact:
    """One version of an index, open for reading; safe to share between threads."""

    root: Path
    version: str
    manifest: Manifest
    heads: Heads
    sides: Mapping[Modality, ArtifactSide]
    banks: Mapping[Modality, HalfArray]
    bank_partner: RowArray | None
    thumbnails: Thumbnails | None
    pillar: PillarReranker | None
    learned: LearnedReranker | None
    digests: DigestTable | None = None  # None: not published yet

    def require_unchanged(self) -> None:
        """Check the length of every mapped file: one `stat` each.

        Raises:
            DigestMismatchError: a file was written to in place.
        """
        if self.digests is not None:
            check_in_place(RootLayout(self.root).version(self.version).directory, self.digests)

    @property
    def encoder_source(self) -> str:
        """What `open_encoder` takes: the snapshot's folder, or "none" for a gallery of vectors."""
        if self.manifest.encoder.kind is EncoderKind.NONE:
            return EncoderKind.NONE.value
        return str(RootLayout(self.root).encoder(self.manifest.encoder.digest))

    def side(self, modality: Modality) -> ArtifactSide:
        """The items of one modality.

        Raises:
            UnsupportedInputError: the gallery has none.
        """
        if modality not in self.sides:
            raise UnsupportedInputError(f"this index holds no {modality} items")
        return self.sides[modality]

    def bank(self, modality: Modality) -> HalfArray | None:
        """The bank's embeddings (B, D) of one modality, None where there is no bank."""
        return self.banks.get(modality)

    def item(self, modality: Modality, row: int) -> Item:
        """The item of a row; a caption carries its image's metadata."""
        item = self.side(modality).items[row]
        if modality is Modality.TEXT and item.partner >= 0:
            return replace(item, metadata=self.side(Modality.IMAGE).items[item.partner].metadata)
        return item

    def find(self, item_id: str) -> tuple[Modality, int]:
        """Modality and row of an id; an image goes before a caption of the same id.

        Raises:
            UnknownItemError: no such id.
        """
        for modality, side in self.sides.items():
            row = side.items.row(item_id)
            if row is not None:
                return modality, row
        raise UnknownItemError(f"this index holds no item {brief(item_id)}")

    def thumbnail(self, row: int) -> bytes | None:
        """The WebP thumbnail of an image row, None where there is none."""
        return None if self.thumbnails is None else self.thumbnails[row]

    def require_encoder(self, identity: EncoderIdentity) -> None:
        """Refuse an encoder that this index was not built with.

        Raises:
            EncoderMismatchError: the digests differ.
        """
        wanted = self.manifest.encoder
        if identity.digest != wanted.digest:
            raise EncoderMismatchError(
                f"{RootLayout(self.root).version(self.version).manifest} was built with encoder "
                f"{wanted.name} ({wanted.digest}), got {identity.name} ({identity.digest})"
            )


def open_artifact(root: Path, version: str | None = None) -> Artifact:
    """A version of the index, `CURRENT` by default.

    Manifest, sizes and small files are always checked; large files are read in full too unless
    an earlier success is recorded for these very files.

    Raises:
        VersionNotFoundError: nothing is published, or not that version.
        DigestMismatchError: a file does not hold the bytes that were written.
        ArtifactError: a file is missing or does not fit the manifest.
    """
    name = VersionStore(root).require(version)
    roots = RootLayout(root)
    layout = roots.version(name)
    digests = _checked_files(roots, name)
    manifest = Manifest.load(layout.manifest)
    _check_name(layout, manifest, name)
    return replace(open_version(roots, layout, manifest), digests=digests)


def open_version(roots: RootLayout, layout: VersionLayout, manifest: Manifest) -> Artifact:
    """A version from its files, whose digests are not looked at."""
    sides = {
        modality: _open_side(layout.side(modality), modality, manifest)
        for modality in Modality
        if modality in manifest.counts
    }
    return Artifact(
        root=roots.root,
        version=manifest.version,
        manifest=manifest,
        heads=_open_heads(layout, manifest),
        sides=sides,
        banks=_open_banks(layout, manifest),
        bank_partner=_open_partner(layout, manifest),
        thumbnails=_open_thumbnails(layout, manifest),
        pillar=_open_pillar(layout, manifest),
        learned=None if manifest.learned is None else LearnedReranker.load(layout.learned),
    )


def _checked_files(roots: RootLayout, version: str) -> DigestTable:
    layout = roots.version(version)
    directory, record = layout.directory, roots.verified(version)
    table = DigestTable.load(layout.digests)
    check_sizes(directory, table)
    known = is_recorded(record, directory, table)
    check_contents(directory, table, small_only=known)
    if not known:
        record_verified(record, directory, table)
    return table


def _check_name(layout: VersionLayout, manifest: Manifest, name: str) -> None:
    if manifest.version != name:
        raise ArtifactError(f"{layout.manifest} is of version {manifest.version}, not of {name}")


def _open_heads(layout: VersionLayout, manifest: Manifest) -> Heads:
    heads = Heads.load(layout.heads)
    if heads.digest != manifest.heads_digest:
        raise ArtifactError(
            f"{layout.heads} has digest {heads.digest}, the manifest says {manifest.heads_digest}"
        )
    return heads


def _open_side(layout: SideLayout, modality: Modality, manifest: Manifest) -> ArtifactSide:
    n_items, heads = manifest.counts[modality], manifest.heads
    stored = layout.reverse_lists.exists()
    side = ArtifactSide(
        modality=modality,
        items=ItemTable(modality, layout, Path(manifest.gallery)),
        embeddings=map_array(layout.embeddings, (n_items, heads.embedding_dim), np.float16),
        hamming=HammingIndex.load(layout.hash_index),
        pq_codes=map_array(layout.pq_codes, (n_items, heads.n_subspaces), np.uint8),
        reverse_lists=map_array(layout.reverse_lists, (n_items, manifest.bank.z), np.float16)
        if stored
        else None,
        neighbours=_open_neighbours(layout, modality, manifest),
        contexts=_open_contexts(layout, n_items, manifest),
    )
    _check_side(layout, side, manifest)
    return side


def _check_side(layout: SideLayout, side: ArtifactSide, manifest: Manifest) -> None:
    n_items, n_bits = manifest.counts[side.modality], manifest.heads.n_bits
    if len(side.items) != n_items:
        raise ArtifactError(f"{layout.items} should hold {n_items} items, holds {len(side.items)}")
    if len(side.hamming) != n_items or side.hamming.n_bits != n_bits:
        raise ArtifactError(
            f"{layout.hash_index} should hold {n_items} codes of {n_bits} bits, holds "
            f"{len(side.hamming)} of {side.hamming.n_bits}"
        )
    has_bank = side.modality.other in manifest.bank.sizes
    if manifest.lists is ListsKind.STORED and has_bank and side.reverse_lists is None:
        raise ArtifactError(f"{layout.reverse_lists} is missing, the manifest says it is stored")


def _open_neighbours(
    layout: SideLayout, modality: Modality, manifest: Manifest
) -> NeighbourTable | None:
    if manifest.pillar is None or modality.other not in manifest.bank.sizes:
        return None
    return NeighbourTable.map(layout, manifest.counts[modality], manifest.pillar.neighbours)


def _open_contexts(layout: SideLayout, n_items: int, manifest: Manifest) -> HalfArray | None:
    if manifest.learned is None:
        return None
    shape = (n_items, len(Expansion._fields), manifest.embedding_dim)
    return map_array(layout.contexts, shape, np.float16)


def _open_pillar(layout: VersionLayout, manifest: Manifest) -> PillarReranker | None:
    if manifest.pillar is None:
        return None
    reranker = PillarReranker.load(layout.pillar)
    if reranker.config.neighbours != manifest.pillar.neighbours:
        raise ArtifactError(
            f"{layout.pillar} takes {reranker.config.neighbours} neighbours, "
            f"the manifest says {manifest.pillar.neighbours}"
        )
    return reranker


def _open_thumbnails(layout: VersionLayout, manifest: Manifest) -> Thumbnails | None:
    return Thumbnails(layout, manifest.counts[Modality.IMAGE]) if manifest.thumbnails else None


def _open_banks(layout: VersionLayout, manifest: Manifest) -> dict[Modality, HalfArray]:
    return {
        modality: map_array(layout.bank(modality), (size, manifest.embedding_dim), np.float16)
        for modality, size in manifest.bank.sizes.items()
    }


def _open_partner(layout: VersionLayout, manifest: Manifest) -> RowArray | None:
    size = manifest.bank.sizes.get(Modality.TEXT)
    return None if size is None else map_array(layout.bank_partner, (size,), np.int64)
