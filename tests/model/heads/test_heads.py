from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from model.core.errors import CheckpointError, CodeShapeError
from model.core.types import Modality
from model.core.vectors import pack_signs
from model.heads.heads import ENCODE_ROWS, Heads, HeadsConfig, ModalityHead
from model.heads.product_quantiser import assign

CONFIG = HeadsConfig(embedding_dim=6, n_bits=8, n_subspaces=2, n_centroids=5)


def make_head(seed: int, config: HeadsConfig = CONFIG) -> ModalityHead:
    rng = np.random.default_rng(seed)
    shapes = config.shapes()
    return ModalityHead(
        **{name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    )


def make_heads(seed: int = 0, config: HeadsConfig = CONFIG) -> Heads:
    return Heads(config, {m: make_head(seed + i, config) for i, m in enumerate(Modality)})


@pytest.mark.parametrize(
    ("widths", "rule"),
    [
        ({"n_bits": 12}, "multiple of 8 bits, got K=12"),
        ({"n_bits": 0}, "multiple of 8 bits, got K=0"),
        ({"n_bits": 64, "n_subspaces": 7}, "M must divide K=64 .*got M=7"),
        ({"n_subspaces": 0}, "got M=0"),
        ({"n_centroids": 257}, "1 to 256 centroids, got L=257"),
        ({"n_centroids": 0}, "got L=0"),
        ({"embedding_dim": 0}, "got D=0"),
    ],
)
def test_widths_that_do_not_fit_are_refused_with_rule_and_value(
    widths: dict[str, int], rule: str
) -> None:
    with pytest.raises(CodeShapeError, match=rule):
        HeadsConfig(**{"embedding_dim": 4, **widths})


def test_an_array_of_another_shape_is_refused_by_name() -> None:
    other = HeadsConfig(embedding_dim=7, n_bits=8, n_subspaces=2, n_centroids=5)
    with pytest.raises(CodeShapeError, match=r"image weight needs shape \(8, 6\), got \(8, 7\)"):
        Heads(CONFIG, {Modality.IMAGE: make_head(0, other)})


def test_hash_space_is_tanh_of_the_linear_map_by_hand() -> None:
    config = HeadsConfig(embedding_dim=1, n_bits=8, n_subspaces=1, n_centroids=1)
    weight = np.arange(8, dtype=np.float32)[:, None]
    head = ModalityHead(weight, np.full(8, -3.0, np.float32), np.zeros((1, 1, 8), np.float32))
    heads = Heads(config, {Modality.TEXT: head})
    vectors = np.array([[2.0]], dtype=np.float32)
    expected = np.tanh([[-3.0, -1.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0]])
    np.testing.assert_allclose(heads.hash_space(Modality.TEXT, vectors), expected, rtol=1e-6)
    assert heads.encode(Modality.TEXT, vectors).hash_codes.tolist() == [[0b1111_1100]]


def test_codes_of_several_blocks_are_those_of_the_whole() -> None:
    heads = make_heads()
    rng = np.random.default_rng(9)
    embeddings = rng.standard_normal((ENCODE_ROWS + 3, 6)).astype(np.float16)
    codes = heads.encode(Modality.TEXT, embeddings)
    vectors = heads.hash_space(Modality.TEXT, embeddings)
    clear = np.abs(vectors).min(axis=1) > 1e-5  # of these rounding cannot turn a sign
    np.testing.assert_array_equal(codes.hash_codes[clear], pack_signs(vectors)[clear])
    books = heads.heads[Modality.TEXT].codebooks
    assert (codes.pq_codes == assign(books, vectors)).mean() > 0.999
    assert clear[-3:].any()


def test_each_modality_has_its_own_head() -> None:
    heads, embeddings = make_heads(), np.ones((1, 6), dtype=np.float32)
    image, text = (heads.hash_space(m, embeddings) for m in Modality)
    assert not np.allclose(image, text)


def test_a_query_alone_gets_its_row_of_the_batch() -> None:
    head = make_head(3)
    embeddings = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    for embedding, row in zip(embeddings, head.hash_space(embeddings), strict=True):
        np.testing.assert_allclose(head.query_hash_space(embedding), row, rtol=1e-5, atol=1e-6)


def test_embeddings_of_another_width_are_refused() -> None:
    with pytest.raises(CodeShapeError, match=r"D=6, got \(2, 5\)"):
        make_heads().encode(Modality.IMAGE, np.zeros((2, 5), dtype=np.float32))


def test_saved_heads_load_with_equal_codes_and_digest(tmp_path: Path) -> None:
    heads, path = make_heads(), tmp_path / "heads.safetensors"
    heads.save(path)
    loaded = Heads.load(path)
    assert loaded.config == CONFIG
    assert loaded.digest == heads.digest
    for modality in Modality:
        for part in CONFIG.shapes():
            stored = getattr(loaded.heads[modality], part)
            np.testing.assert_array_equal(stored, getattr(heads.heads[modality], part))


@pytest.mark.parametrize("modality", list(Modality))
@pytest.mark.parametrize("part", ["weight", "bias", "codebooks"])
def test_one_changed_value_changes_the_digest(modality: Modality, part: str) -> None:
    heads = make_heads()
    before = heads.digest
    getattr(heads.heads[modality], part).flat[0] += 1.0
    assert heads.digest != before


def test_a_file_that_is_no_safetensors_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "heads.safetensors"
    path.write_bytes(b"words")
    with pytest.raises(CheckpointError, match=r"heads\.safetensors"):
        Heads.load(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.safetensors"):
        Heads.load(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("metadata", [None, {"config": "{}"}, {"config": CONFIG.model_dump_json()}])
def test_a_file_without_config_or_arrays_is_refused(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    path = tmp_path / "heads.safetensors"
    save_file({"other": np.zeros(1, np.float32)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"heads\.safetensors holds no heads"):
        Heads.load(path)
