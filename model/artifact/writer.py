"""Writes one version beside its final name, then publishes it whole."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from model.ann.faiss_door import HammingIndex
from model.artifact.digests import ENCODERS, DigestTable
from model.artifact.files import NpyStream, replace_file, save_npy
from model.artifact.items import ItemsWriter
from model.artifact.layout import VersionLayout
from model.artifact.manifest import Manifest
from model.artifact.neighbours import NeighbourWriter
from model.artifact.store import KEEP_VERSIONS, VersionStore
from model.artifact.thumbnails import ThumbnailWriter
from model.core.closing import Closing
from model.core.types import Modality, RowArray
from model.heads.heads import Codes, Heads
from model.rerankers.learned.reranker import LearnedReranker
from model.rerankers.pairs import Expansion
from model.rerankers.pillar.reranker import PillarReranker

READABLE = 0o644


class ArtifactWriter(Closing):
    """The files of a version in the making; leaving without `publish` leaves nothing behind."""

    def __init__(self, store: VersionStore, version: str, gallery: Path) -> None:
        """`gallery` is the folder that sources of items are written relative to."""
        self._store = store
        self._version = version
        self._gallery = gallery
        self.layout = VersionLayout(store.new_directory(version))

    def close(self) -> None:
        """Remove what was not published."""
        shutil.rmtree(self.layout.directory, ignore_errors=True)

    def items(self, modality: Modality) -> ItemsWriter:
        """Writes the items of one side."""
        return ItemsWriter(self.layout.side(modality), self._gallery)

    def embeddings(self, modality: Modality, n_items: int, dim: int) -> NpyStream:
        """Writes the embeddings (N, D) of one side."""
        return NpyStream(self.layout.side(modality).embeddings, (n_items, dim), np.float16)

    def lists(self, modality: Modality, n_items: int, depth: int) -> NpyStream:
        """Writes the reverse lists (N, z) of one side."""
        return NpyStream(self.layout.side(modality).reverse_lists, (n_items, depth), np.float16)

    def neighbours(self, modality: Modality, n_items: int, depth: int) -> NeighbourWriter:
        """Writes the nearest neighbours (N, k) of one side."""
        return NeighbourWriter(self.layout.side(modality), n_items, depth)

    def contexts(self, modality: Modality, n_items: int, dim: int) -> NpyStream:
        """Writes the contexts (N, 3, D) of one side."""
        shape = (n_items, len(Expansion._fields), dim)
        return NpyStream(self.layout.side(modality).contexts, shape, np.float16)

    def learned(self, reranker: LearnedReranker) -> None:
        """Write the learned re-ranker's networks."""
        reranker.save(self.layout.learned)

    def pillar(self, reranker: PillarReranker) -> None:
        """Write the pillar re-ranker's networks."""
        reranker.save(self.layout.pillar)

    def thumbnails(self) -> ThumbnailWriter:
        """Writes the thumbnails of the image side."""
        return ThumbnailWriter(self.layout)

    def codes(self, modality: Modality, codes: Codes) -> None:
        """Write the Hamming index and the PQ codes of one side."""
        side = self.layout.side(modality)
        side.directory.mkdir(parents=True, exist_ok=True)
        HammingIndex.from_codes(codes.hash_codes).save(side.hash_index)
        save_npy(side.pq_codes, codes.pq_codes)

    def heads(self, heads: Heads) -> None:
        """Write the heads."""
        heads.save(self.layout.heads)
        self.layout.heads.chmod(READABLE)  # safetensors writes for its owner alone

    def bank(self, modality: Modality, embeddings: NDArray[Any]) -> None:
        """Write the bank's embeddings (B, D) of one modality."""
        save_npy(self.layout.bank(modality), np.asarray(embeddings, dtype=np.float16))

    def bank_partner(self, partner: RowArray) -> None:
        """Write which image row of the bank each of its texts belongs to."""
        save_npy(self.layout.bank_partner, partner)

    def report(self, content: JsonValue) -> None:
        """Write which records were skipped."""
        replace_file(self.layout.report, (json.dumps(content, indent=2) + "\n").encode())

    def publish(self, manifest: Manifest, keep: int = KEEP_VERSIONS) -> Path:
        """Write manifest and digests, give the version its name and make it current."""
        directory = self.layout.directory
        manifest.save(self.layout.manifest)
        snapshot = self._store.layout.encoder(manifest.encoder.digest)
        names = [*_names(directory), *(f"{ENCODERS}{snapshot.name}/{n}" for n in _names(snapshot))]
        DigestTable.of(directory, names).save(self.layout.digests)
        return self._store.publish(directory, self._version, keep)


def _names(directory: Path) -> list[str]:
    """Files below a folder, relative to it; none where there is no folder."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return [path.relative_to(directory).as_posix() for path in files]
