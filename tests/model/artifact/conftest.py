"""A small version written with the artifact's own writer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.artifact.items import Item
from model.artifact.manifest import BankInfo, HeadsSource, ListsKind, Manifest, PillarInfo
from model.artifact.store import VersionStore
from model.artifact.writer import ArtifactWriter
from model.core.types import CandidateBudget, Modality
from model.core.vectors import l2_normalised
from model.data.records import ImageRef
from model.encoders.protocols import EncoderIdentity, EncoderKind
from model.heads.heads import Heads, HeadsConfig, ModalityHead
from model.rerankers.pillar.config import PillarConfig
from model.rerankers.pillar.reranker import PillarReranker
from model.rerankers.weights import StageTwo
from model.reverse_lists.compute import reverse_lists

DIM, DEPTH, NEIGHBOURS = 16, 4, 3
RERANKER = PillarReranker.untrained(PillarConfig(width=8, heads=2, neighbours=NEIGHBOURS), seed=0)
N_IMAGES, CAPTIONS_EACH = 3, 2
ENCODER = "e" * 64
WEIGHTS = bytes(range(256)) * 8192  # 2 MiB: two chunks

WriteVersion = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path / "root")


@pytest.fixture
def write_version(store: VersionStore, tmp_path: Path) -> WriteVersion:
    def write(version: str = "v1", **changes: object) -> Path:
        snapshot = store.layout.encoder(ENCODER)
        if not snapshot.exists():
            snapshot.mkdir(parents=True)
            (snapshot / "encoder.safetensors").write_bytes(WEIGHTS)
        with ArtifactWriter(store, version, tmp_path) as writer:
            return _write(writer, manifest_of(version, tmp_path), changes)

    return write


def heads() -> Heads:
    rng = np.random.default_rng(0)
    config = HeadsConfig(embedding_dim=DIM, n_bits=16, n_subspaces=2, n_centroids=4)
    shapes = config.shapes().items()
    parts = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes}
    return Heads(config, {modality: ModalityHead(**parts) for modality in Modality})


def vectors(modality: Modality) -> NDArray[np.float16]:
    count = N_IMAGES if modality is Modality.IMAGE else N_IMAGES * CAPTIONS_EACH
    seed = list(Modality).index(modality)
    made = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return l2_normalised(made).astype(np.float16)


def neighbours(
    modality: Modality,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Made-up tables: own rows, bank rows and reach."""
    rng, count = np.random.default_rng(len(modality)), len(vectors(modality))
    own, other = (rng.integers(-1, count, (count, NEIGHBOURS)) for _ in range(2))
    reach = rng.uniform(-1, 1, count).astype(np.float32)
    reach[0] = -np.inf
    return own, other, reach


def items(folder: Path) -> dict[Modality, list[Item]]:
    images = [
        Item(
            id=f"photo-{row}",
            modality=Modality.IMAGE,
            row=row,
            first_caption=CAPTIONS_EACH * row,
            n_captions=CAPTIONS_EACH,
            image=ImageRef(folder / "shard.tar", 512 * row, 100 + row),
            metadata={"place": "süd", "n": row},
        )
        for row in range(N_IMAGES)
    ]
    texts = [
        Item(
            id=f"photo-{row // 2}#{row % 2}",
            modality=Modality.TEXT,
            row=row,
            caption=f"caption {row}",
            partner=row // 2,
        )
        for row in range(N_IMAGES * CAPTIONS_EACH)
    ]
    return {Modality.IMAGE: images, Modality.TEXT: texts}


def manifest_of(version: str, folder: Path) -> Manifest:
    counts = {modality: len(vectors(modality)) for modality in Modality}
    return Manifest(
        version=version,
        created="2025-01-01T00:00:00+00:00",
        build_key="key",
        gallery=str(folder),
        layout="webdataset",
        encoder=EncoderIdentity(
            name="tiny",
            kind=EncoderKind.DUAL,
            embedding_dim=DIM,
            accepts=(),
            preprocessing_digest="p",
            digest=ENCODER,
        ),
        heads=heads().config,
        heads_digest=heads().digest,
        heads_source=HeadsSource.FITTED,
        counts=counts,
        skipped=0,
        thumbnails=True,
        bank=BankInfo(source="gallery", sizes=counts, seed=0, z=DEPTH),
        lists=ListsKind.STORED,
        pillar=PillarInfo(neighbours=NEIGHBOURS, trained_on=""),
        budget=CandidateBudget(),
        stage_two=StageTwo(),
        options={},
        quality={},
        seconds={},
    )


def _write(writer: ArtifactWriter, manifest: Manifest, changes: dict[str, object]) -> Path:
    writer.heads(heads())
    with writer.thumbnails() as thumbnails:
        for row in range(N_IMAGES):
            thumbnails.append(b"" if row == 1 else bytes([row]) * 5)
    for modality, listed in items(Path(manifest.gallery)).items():
        embeddings = vectors(modality)
        with writer.items(modality) as table:
            table.append(listed[:2])
            table.append(listed[2:])
        with writer.embeddings(modality, len(embeddings), DIM) as stream:
            stream.append(embeddings)
        writer.codes(modality, heads().encode(modality, embeddings))
        with writer.neighbours(modality, len(embeddings), NEIGHBOURS) as table:
            own, other, reach = neighbours(modality)
            table.append(own[:2], other[:2], reach[:2])
            table.append(own[2:], other[2:], reach[2:])
        with writer.lists(modality, len(embeddings), DEPTH) as stream:
            stream.append(reverse_lists(embeddings, vectors(modality.other), DEPTH))
        writer.bank(modality, embeddings)
    writer.bank_partner(np.arange(N_IMAGES * CAPTIONS_EACH) // CAPTIONS_EACH)
    writer.pillar(RERANKER)
    writer.report({"skipped": []})
    return writer.publish(manifest.model_copy(update=changes))
