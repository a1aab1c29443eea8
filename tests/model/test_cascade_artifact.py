import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from model.artifact.items import Item
from model.artifact.manifest import BankInfo, HeadsSource, ListsKind, Manifest
from model.artifact.reader import Artifact, open_artifact
from model.artifact.store import VersionStore
from model.artifact.writer import ArtifactWriter
from model.cascade import Cascade, SearchOptions, list_cache_bytes
from model.core.types import CandidateBudget, Direction, HalfArray, Modality
from model.core.vectors import l2_normalised
from model.encoders.protocols import EncoderIdentity, EncoderKind
from model.heads.fitting import fit_heads
from model.heads.heads import Heads, HeadsConfig
from model.rerankers.ordering import AppliedRerank
from model.rerankers.weights import DirectionWeights, StageTwo
from model.reverse_lists.compute import reverse_lists
from model.reverse_lists.layers import LayeredLists, MemoryLayer
from model.reverse_lists.redis_door import RedisDoor
from model.reverse_lists.redis_layer import RedisLayer
from model.reverse_lists.redis_options import RedisOptions
from tests.support.redis_server import RedisServer

DIM, Z = 16, 8
COUNTS = {Modality.IMAGE: 40, Modality.TEXT: 90}
CONFIG = HeadsConfig(embedding_dim=DIM, n_bits=16, n_subspaces=4, n_centroids=8)
STAGE_TWO = StageTwo(weights=dict.fromkeys(Direction, DirectionWeights(hubness=0.9)))
BUDGET = CandidateBudget(at_least=30)
OPTIONS = SearchOptions(k=5, budget=BUDGET)


def embeddings_of(count: int) -> HalfArray:
    rng = np.random.default_rng(count)
    return l2_normalised(rng.standard_normal((count, DIM)).astype(np.float32)).astype(np.float16)


def make_artifact(root: Path, lists: ListsKind, z: int = Z) -> Artifact:
    embeddings = {modality: embeddings_of(count) for modality, count in COUNTS.items()}
    heads = fit_heads(CONFIG, embeddings, seed=0)
    with ArtifactWriter(VersionStore(root), "v1", root) as writer:
        writer.heads(heads)
        for modality in Modality:
            write_side(writer, modality, heads, embeddings)
            if lists is not ListsKind.NONE:
                writer.bank(modality, embeddings[modality])
            if lists is ListsKind.STORED:
                with writer.lists(modality, COUNTS[modality], z) as stream:
                    stream.append(
                        reverse_lists(embeddings[modality], embeddings[modality.other], z)
                    )
        if lists is not ListsKind.NONE:
            writer.bank_partner(np.full(COUNTS[Modality.TEXT], -1, dtype=np.int64))
        writer.report([])
        writer.publish(manifest_of(heads, lists, z))
    return open_artifact(root)


def write_side(
    writer: ArtifactWriter,
    modality: Modality,
    heads: Heads,
    embeddings: Mapping[Modality, HalfArray],
) -> None:
    rows = range(COUNTS[modality])
    with writer.items(modality) as table:
        table.append([Item(id=f"{modality}-{row}", modality=modality, row=row) for row in rows])
    with writer.embeddings(modality, COUNTS[modality], DIM) as stream:
        stream.append(embeddings[modality])
    writer.codes(modality, heads.encode(modality, embeddings[modality]))


def manifest_of(heads: Heads, lists: ListsKind, z: int) -> Manifest:
    encoder = EncoderIdentity(
        name="none",
        kind=EncoderKind.NONE,
        embedding_dim=DIM,
        accepts=(),
        preprocessing_digest="0" * 64,
        digest="0" * 64,
    )
    sizes = {} if lists is ListsKind.NONE else COUNTS
    return Manifest(
        version="v1",
        created="2025-01-01T00:00:00Z",
        build_key="test",
        gallery=".",
        layout="embeddings",
        encoder=encoder,
        heads=CONFIG,
        heads_digest=heads.digest,
        heads_source=HeadsSource.FITTED,
        counts=COUNTS,
        skipped=0,
        thumbnails=False,
        bank=BankInfo(source="gallery", sizes=sizes, seed=0, z=z),
        lists=lists,
        budget=BUDGET,
        stage_two=STAGE_TWO,
        options={},
        quality={},
        seconds={},
    )


def answers(cascade: Cascade) -> list[tuple[list[int], list[float], AppliedRerank]]:
    queries = embeddings_of(7).astype(np.float32)
    return [
        (ranking.rows.tolist(), ranking.scores.tolist(), ranking.rerank)
        for direction in Direction
        for ranking in cascade.search(direction, queries, OPTIONS)
    ]


def lookups(cascade: Cascade) -> set[str]:
    """Layers that gave at least one list."""
    sources = [side.lists for side in cascade.sides.values()]
    assert all(isinstance(source, LayeredLists) for source in sources)
    counts = [source.lookups for source in sources if isinstance(source, LayeredLists)]
    return {name for count in counts for name, lists in count.items() if lists}


def test_stored_and_lazy_lists_give_the_same_answers(tmp_path: Path) -> None:
    stored = Cascade.from_artifact(make_artifact(tmp_path / "stored", ListsKind.STORED))
    lazy = Cascade.from_artifact(make_artifact(tmp_path / "lazy", ListsKind.LAZY))
    expected = answers(stored)
    assert answers(lazy) == expected
    assert answers(lazy) == expected
    assert {applied for _, _, applied in expected} == {AppliedRerank.RELATIONSHIP}
    assert lookups(stored) == {"stored"}
    assert lookups(lazy) == {"memory", "computed"}
    assert stored.second.weights == STAGE_TWO.weights


@pytest.mark.parametrize("n_items", [1000, 100_000, 1_000_000])
def test_cached_lists_and_codes_take_at_most_64_bytes_an_item(n_items: int) -> None:
    tracemalloc.start()
    try:
        held = MemoryLayer(n_items, 128, list_cache_bytes(n_items))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    code_bytes = 8
    assert not held.get(np.arange(3)).mask.any()
    assert size + code_bytes * n_items <= 64 * n_items


def test_a_lazy_index_keeps_by_default_only_as_many_lists_as_its_size_allows(
    tmp_path: Path,
) -> None:
    """Lists of 2z = 128 bytes at 32 an item: every fourth is kept, where a roomy cache has all."""
    artifact = make_artifact(tmp_path, ListsKind.LAZY, z=64)
    computed = []
    for cache_bytes in (None, 64 << 20):
        cascade = Cascade.from_artifact(artifact, cache_bytes=cache_bytes)
        for _ in range(2):
            answers(cascade)
        sources = [side.lists for side in cascade.sides.values()]
        counts = [one.lookups["computed"] for one in sources if isinstance(one, LayeredLists)]
        computed.append(sum(counts))
    assert computed[1] <= sum(COUNTS.values()) < computed[0]


def test_an_index_without_a_bank_ranks_by_consistency_alone(tmp_path: Path) -> None:
    cascade = Cascade.from_artifact(make_artifact(tmp_path, ListsKind.NONE))
    assert {applied for _, _, applied in answers(cascade)} == {AppliedRerank.CONSISTENCY_ONLY}


def sharing(artifact: Artifact, url: str) -> Cascade:
    """A cascade that keeps no lists by itself and shares them through Redis."""
    cascade = Cascade.from_artifact(artifact, cache_bytes=0)
    door = RedisDoor(url, RedisOptions(timeout_seconds=10.0))
    for direction in Direction:
        lists = cascade.sides[direction.candidate].lists
        assert isinstance(lists, LayeredLists)
        lists.share(RedisLayer(door, artifact.version, direction, artifact.manifest.bank.z))
    return cascade


@pytest.mark.redis
def test_a_second_process_reads_from_redis_what_the_first_computed(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    artifact = make_artifact(tmp_path, ListsKind.LAZY)
    first, second = (sharing(artifact, redis_server.url) for _ in range(2))
    expected = answers(first)
    assert answers(second) == expected
    assert lookups(second) == {"redis"}
    redis_server.kill()
    assert answers(second) == expected
    assert lookups(second) == {"redis", "computed"}
