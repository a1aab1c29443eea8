"""Where every file of an index lies: one frozen value per folder."""

from dataclasses import dataclass
from pathlib import Path

from model.core.types import Modality

MAPPED = frozenset({".npy", ".arrow", ".bin"})  # files that are read where they lie


def is_mapped(path: Path) -> bool:
    """Whether a version's file is mapped while it is open; others are read whole."""
    return path.suffix in MAPPED


@dataclass(frozen=True)
class SideLayout:
    """The files of one modality."""

    directory: Path

    @property
    def items(self) -> Path:
        """Arrow IPC file: one row per item."""
        return self.directory / "items.arrow"

    @property
    def id_hashes(self) -> Path:
        """Sorted 64-bit hashes (N,) of the ids."""
        return self.directory / "ids.npy"

    @property
    def id_rows(self) -> Path:
        """Row (N,) of the item behind every sorted hash."""
        return self.directory / "id_rows.npy"

    @property
    def embeddings(self) -> Path:
        """Unit rows (N, D), fp16."""
        return self.directory / "embeddings.npy"

    @property
    def hash_index(self) -> Path:
        """The Hamming index over the packed codes."""
        return self.directory / "hash.faiss"

    @property
    def pq_codes(self) -> Path:
        """PQ codes (N, M), one byte per sub-space."""
        return self.directory / "pq_codes.npy"

    @property
    def reverse_lists(self) -> Path:
        """Reverse lists (N, z), fp16, descending; only where they are stored."""
        return self.directory / "reverse_lists.npy"

    @property
    def own_neighbours(self) -> Path:
        """Nearest rows (N, k) of the same side, itself first; only with a pillar re-ranker."""
        return self.directory / "neighbours.npy"

    @property
    def bank_neighbours(self) -> Path:
        """Nearest rows (N, k) of the bank of the other modality."""
        return self.directory / "bank_neighbours.npy"

    @property
    def neighbour_reach(self) -> Path:
        """The cosine (N,) that a new entry of the bank must exceed to be among these."""
        return self.directory / "neighbour_reach.npy"

    @property
    def contexts(self) -> Path:
        """What the bank's pairs say of every item (N, 3, D); only with a learned re-ranker."""
        return self.directory / "contexts.npy"


@dataclass(frozen=True)
class VersionLayout:
    """The files of one version."""

    directory: Path

    @property
    def manifest(self) -> Path:
        """What this version is."""
        return self.directory / "manifest.json"

    @property
    def digests(self) -> Path:
        """Size and sha256 per MiB of every file."""
        return self.directory / "digests.json"

    @property
    def heads(self) -> Path:
        """Hash and PQ heads."""
        return self.directory / "heads.safetensors"

    @property
    def learned(self) -> Path:
        """The learned re-ranker's networks; only where the checkpoint had them."""
        return self.directory / "learned.safetensors"

    @property
    def pillar(self) -> Path:
        """The pillar re-ranker's networks; only where the checkpoint had them."""
        return self.directory / "pillar.safetensors"

    @property
    def report(self) -> Path:
        """Records that were skipped, and why."""
        return self.directory / "report.json"

    @property
    def thumbnails(self) -> Path:
        """WebP files, one after the other."""
        return self.directory / "thumbnails.bin"

    @property
    def thumbnail_offsets(self) -> Path:
        """Where each image's thumbnail begins (N + 1,)."""
        return self.directory / "thumbnails_offsets.npy"

    @property
    def bank_partner(self) -> Path:
        """Bank row (T,) of the image of every text of the bank, -1 unknown."""
        return self.directory / "bank" / "partner.npy"

    def side(self, modality: Modality) -> SideLayout:
        """The folder of one modality."""
        return SideLayout(self.directory / modality.value)

    def bank(self, modality: Modality) -> Path:
        """The bank's embeddings (B, D) of one modality, fp16."""
        return self.directory / "bank" / f"{modality.value}.npy"


@dataclass(frozen=True)
class RootLayout:
    """The folder that `meet-build` writes and `meet-serve` opens."""

    root: Path

    @property
    def current(self) -> Path:
        """The pointer to the published version."""
        return self.root / "CURRENT"

    @property
    def versions(self) -> Path:
        """One folder per version."""
        return self.root / "versions"

    @property
    def encoders(self) -> Path:
        """Snapshots of encoders, shared by versions."""
        return self.root / "encoders"

    @property
    def work(self) -> Path:
        """The builder's shards; gone after publication."""
        return self.root / "work"

    @property
    def lock(self) -> Path:
        """Held by whoever changes this index."""
        return self.root / ".lock"

    def version(self, name: str) -> VersionLayout:
        """The folder of one version."""
        return VersionLayout(self.versions / name)

    def verified(self, version: str) -> Path:
        """Which files of a version had the digests they should have, when last read in full."""
        return self.root / "verified" / f"{version}.json"

    def encoder(self, digest: str) -> Path:
        """The snapshot of the encoder with this digest."""
        return self.encoders / digest[:16]
