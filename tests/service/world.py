"""A small gallery with a tiny random encoder, written with the artifact's own writer."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import MobileNetV2Config, MobileNetV2ImageProcessor, MobileNetV2Model

from model.artifact.items import Item
from model.artifact.manifest import BankInfo, HeadsSource, ListsKind, Manifest, PillarInfo
from model.artifact.store import VersionStore
from model.artifact.writer import ArtifactWriter
from model.core.types import CandidateBudget, Modality
from model.core.vectors import l2_normalised
from model.data.records import ImageRef
from model.encoders.backbone import GridBackbone
from model.encoders.opening import (
    EncoderFile,
    open_encoder,
    save_snapshot,
    write_encoder_file,
)
from model.encoders.protocols import Encoder, EncoderIdentity, EncoderKind
from model.encoders.towers import VSE, TextTowerKind, VSEConfig
from model.encoders.vocabulary import Vocabulary
from model.encoders.vse import VISION, VSEParts, WordTable, save_vse
from model.heads.heads import Heads, HeadsConfig, ModalityHead
from model.rerankers.pillar.neighbours import PillarSide
from model.rerankers.pillar.reranker import PillarReranker
from model.rerankers.relationship import StageTwo
from model.reverse_lists.compute import reverse_lists

DIM, N_BITS, DEPTH = 32, 16, 8
COLOURS = ("red", "green", "blue", "white", "black", "brown")
THINGS = ("dog", "cat", "bus", "tree", "boat", "hill", "lamp", "door", "bird", "girl")
# Ids that only survive exact percent-encoding.
HARD_IDS = ("street/corner 7 #2", "a/image", "50%2Foff", "snow/ünï?x=1", "image")
CAPTIONS_EACH = 2
BUDGET = CandidateBudget(keep_hash=0.6, keep_pq=0.4, at_least=12)


@dataclass(frozen=True)
class World:
    """A gallery's ids, captions and image files, in row order."""

    directory: Path
    ids: tuple[str, ...]
    captions: tuple[str, ...]

    def image_path(self, row: int) -> Path:
        return self.directory / f"{row}.png"


def make_world(directory: Path) -> World:
    """Sixty noisy pictures with two captions each."""
    directory.mkdir(parents=True)
    pairs = [(colour, thing) for colour in COLOURS for thing in THINGS]
    ids = HARD_IDS + tuple(f"photo-{row:02}" for row in range(len(HARD_IDS), len(pairs)))
    captions = tuple(
        text
        for colour, thing in pairs
        for text in (f"a {colour} {thing}", f"one {thing} that is {colour}")
    )
    rng = np.random.default_rng(1)
    for row in range(len(ids)):
        pixels = rng.integers(0, 256, size=(48, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(directory / f"{row}.png")
    return World(directory, ids, captions)


def make_encoder(directory: Path, seed: int, *, sees_images: bool = True) -> Path:
    """A saved VSE with random weights; without a backbone it takes regions only."""
    torch.manual_seed(seed)
    directory.mkdir(parents=True)
    words = Vocabulary.of((*COLOURS, *THINGS, "a one that is"), min_count=1)
    region_dim = _make_backbone(directory / VISION) if sees_images else 24
    config = VSEConfig(
        region_dim=region_dim,
        word_dim=DIM,
        text=TextTowerKind.BIGRU,
        embedding_dim=DIM,
        vocabulary_size=len(words),
        word_embedding_dim=16,
        grid=2 if sees_images else None,
    )
    vse = VSE(config)
    assert vse.words is not None
    vse.image.standardise(_some_regions(directory / VISION, region_dim, sees_images=sees_images))
    table = WordTable(vse.words, words, config.max_words)
    save_vse(VSEParts(config, vse, table, None), directory)
    description = EncoderFile(kind=EncoderKind.VSE, name=f"tiny-{seed}", vse=config)
    write_encoder_file(directory, description)
    return directory


def _make_backbone(directory: Path) -> int:
    config = MobileNetV2Config(image_size=32, depth_multiplier=0.1, min_depth=4)
    model = MobileNetV2Model(config)
    model.save_pretrained(directory)
    size = {"height": 32, "width": 32}
    MobileNetV2ImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(directory)
    with torch.inference_mode():
        return int(model.eval()(torch.zeros(1, 3, 32, 32)).last_hidden_state.shape[1])


def _some_regions(directory: Path, width: int, *, sees_images: bool) -> torch.Tensor:
    """Rows (n, F) to standardise on: without it a random backbone sees every picture alike."""
    if not sees_images:
        return torch.randn(64, width)
    rng = np.random.default_rng(9)
    pixels = rng.integers(0, 256, size=(16, 48, 40, 3), dtype=np.uint8)
    regions = GridBackbone(directory, 2).regions(
        [Image.fromarray(one) for one in pixels], torch.device("cpu")
    )
    return torch.from_numpy(regions.astype(np.float32)).flatten(0, 1)


def random_heads(seed: int = 3) -> Heads:
    """Random hyperplanes and centroids: enough to rank by."""
    rng = np.random.default_rng(seed)
    config = HeadsConfig(embedding_dim=DIM, n_bits=N_BITS, n_subspaces=4, n_centroids=16)
    arrays = {
        modality: {
            name: rng.normal(size=shape).astype(np.float32)
            for name, shape in config.shapes().items()
        }
        for modality in Modality
    }
    return Heads(config, {modality: ModalityHead(**parts) for modality, parts in arrays.items()})


def world_embeddings(world: World, encoder: Encoder) -> dict[Modality, NDArray[np.float32]]:
    """Embeddings of both sides; random ones for what the encoder cannot see."""
    images = [Image.open(world.image_path(row)).convert("RGB") for row in range(len(world.ids))]
    if encoder.image is not None and "image" in encoder.identity.accepts:
        seen = encoder.encode_images(images)
    else:
        rng = np.random.default_rng(5)
        seen = l2_normalised(rng.normal(size=(len(images), DIM)).astype(np.float32))
    if encoder.text is not None:
        read = encoder.encode_texts(world.captions)
    else:
        rng = np.random.default_rng(6)
        read = l2_normalised(rng.normal(size=(len(world.captions), DIM)).astype(np.float32))
    return {Modality.IMAGE: seen, Modality.TEXT: read}


def world_items(world: World, modalities: tuple[Modality, ...]) -> dict[Modality, list[Item]]:
    """Items of these sides, tied to each other where both are there."""
    both = len(modalities) == len(Modality)
    images = [
        Item(
            id=item_id,
            modality=Modality.IMAGE,
            row=row,
            first_caption=CAPTIONS_EACH * row if both else -1,
            n_captions=CAPTIONS_EACH if both else 0,
            image=ImageRef(world.image_path(row)),
            metadata={"row": row, "odd": float("nan") if row == 0 else None},
        )
        for row, item_id in enumerate(world.ids)
    ]
    texts = [
        Item(
            id=f"{world.ids[row // CAPTIONS_EACH]}#{row % CAPTIONS_EACH}",
            modality=Modality.TEXT,
            row=row,
            caption=caption,
            partner=row // CAPTIONS_EACH if both else -1,
        )
        for row, caption in enumerate(world.captions)
    ]
    return {Modality.IMAGE: images, Modality.TEXT: texts}


def make_index(
    root: Path,
    world: World,
    encoder_source: Path | None,
    *,
    modalities: tuple[Modality, ...] = tuple(Modality),
    lists: ListsKind = ListsKind.STORED,
    thumbnails: bool = True,
    pillar: PillarReranker | None = None,
    version: str = "v1",
    heads_seed: int = 3,
) -> Path:
    """A published index over the world; no encoder: a gallery of vectors."""
    encoder = open_encoder(encoder_source or "none")
    identity = encoder.identity.model_copy(update={"embedding_dim": DIM})
    store, heads = VersionStore(root), random_heads(heads_seed)
    if encoder_source is not None:
        save_snapshot(encoder_source, store.layout.encoder(identity.digest))
    embeddings, items = world_embeddings(world, encoder), world_items(world, modalities)
    with ArtifactWriter(store, version, world.directory) as writer:
        writer.heads(heads)
        for modality in modalities:
            _write_side(writer, heads, items[modality], embeddings[modality])
        if lists is not ListsKind.NONE:
            _write_bank(writer, embeddings, modalities, stored=lists is ListsKind.STORED)
        if pillar is not None:
            _write_pillar(writer, embeddings, modalities, pillar)
        if thumbnails:
            _write_thumbnails(writer, world)
        writer.report([])
        counts = {modality: len(items[modality]) for modality in modalities}
        manifest = _manifest(identity, heads, counts, lists, world, thumbnails=thumbnails)
        told = {"pillar": _pillar_info(pillar), "version": version}
        writer.publish(manifest.model_copy(update=told))
    return root


def _write_side(
    writer: ArtifactWriter, heads: Heads, items: list[Item], embeddings: NDArray[np.float32]
) -> None:
    modality = items[0].modality
    with writer.items(modality) as table:
        table.append(items)
    with writer.embeddings(modality, len(items), DIM) as stream:
        stream.append(embeddings.astype(np.float16))
    writer.codes(modality, heads.encode(modality, embeddings))


def _write_bank(
    writer: ArtifactWriter,
    embeddings: Mapping[Modality, NDArray[np.float32]],
    modalities: tuple[Modality, ...],
    *,
    stored: bool,
) -> None:
    for modality in Modality:
        writer.bank(modality, embeddings[modality])
    writer.bank_partner(np.arange(len(embeddings[Modality.TEXT]), dtype=np.int64) // CAPTIONS_EACH)
    for modality in modalities if stored else ():
        own = embeddings[modality].astype(np.float16)
        bank = embeddings[modality.other].astype(np.float16)
        with writer.lists(modality, len(own), DEPTH) as stream:
            stream.append(reverse_lists(own, bank, DEPTH))


def _write_pillar(
    writer: ArtifactWriter,
    embeddings: Mapping[Modality, NDArray[np.float32]],
    modalities: tuple[Modality, ...],
    pillar: PillarReranker,
) -> None:
    writer.pillar(pillar)
    depth = pillar.config.neighbours
    for modality in modalities:
        own, bank = (embeddings[m].astype(np.float16) for m in (modality, modality.other))
        side = PillarSide.of(own, bank, depth)
        with writer.neighbours(modality, len(own), depth) as table:
            table.append(side.own, side.other, np.asarray(side.reach, np.float32))


def _pillar_info(pillar: PillarReranker | None) -> PillarInfo | None:
    return (
        None if pillar is None else PillarInfo(neighbours=pillar.config.neighbours, trained_on="")
    )


def _write_thumbnails(writer: ArtifactWriter, world: World) -> None:
    with writer.thumbnails() as thumbnails:
        for row in range(len(world.ids)):
            file = io.BytesIO()
            Image.open(world.image_path(row)).resize((16, 16)).save(file, "WEBP")
            thumbnails.append(file.getvalue())


def _manifest(
    identity: EncoderIdentity,
    heads: Heads,
    counts: dict[Modality, int],
    lists: ListsKind,
    world: World,
    *,
    thumbnails: bool,
) -> Manifest:
    sizes = {Modality.IMAGE: len(world.ids), Modality.TEXT: len(world.captions)}
    return Manifest(
        version="v1",
        created="2025-01-01T00:00:00Z",
        build_key="test",
        gallery=str(world.directory),
        layout="images",
        encoder=identity,
        heads=heads.config,
        heads_digest=heads.digest,
        heads_source=HeadsSource.FITTED,
        counts=counts,
        skipped=0,
        thumbnails=thumbnails,
        bank=BankInfo(
            source="gallery", sizes={} if lists is ListsKind.NONE else sizes, seed=0, z=DEPTH
        ),
        lists=lists,
        budget=BUDGET,
        stage_two=StageTwo(),
        options={},
        quality={},
        seconds={},
    )
