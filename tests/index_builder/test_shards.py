from pathlib import Path

import numpy as np
import pytest

from index_builder.shards import EncodedShard, Rejected, ShardPlan, ShardStore, shard_key
from model.data.selection import Selection

PLAN = ShardPlan("key", Selection(np.arange(3), np.ones(3, dtype=np.bool_), np.ones(3, np.int64)))


@pytest.fixture
def shard() -> EncodedShard:
    rng = np.random.default_rng(0)
    return EncodedShard(
        image_rows=np.array([0, 2]),
        images=rng.standard_normal((2, 4)).astype(np.float16),
        thumbnails=(b"first", b""),
        text_rows=np.array([0, 0, 2]),
        texts=rng.standard_normal((3, 4)).astype(np.float16),
        rejected=(Rejected(row=1, id="ü", source="a.jpg", reason="cut short"),),
    )


def test_a_shard_comes_back_as_it_went_in(tmp_path: Path, shard: EncodedShard) -> None:
    store = ShardStore(tmp_path)
    assert store.summary(PLAN) is None
    told = store.save(PLAN, shard)
    back = store.load(PLAN)
    assert store.summary(PLAN) == told
    assert (told.n_images, told.n_texts, told.has_thumbnails) == (2, 3, True)
    np.testing.assert_array_equal(back.images, shard.images)
    np.testing.assert_array_equal(back.texts, shard.texts)
    np.testing.assert_array_equal(back.image_rows, shard.image_rows)
    np.testing.assert_array_equal(back.text_rows, shard.text_rows)
    assert (back.thumbnails, back.rejected) == (shard.thumbnails, shard.rejected)


def test_a_torn_shard_is_still_to_do(tmp_path: Path, shard: EncodedShard) -> None:
    store = ShardStore(tmp_path)
    store.save(PLAN, shard)
    path = store.path(PLAN)
    whole = path.read_bytes()
    for torn in (whole[: len(whole) // 2], b"", whole.replace(b"first", b"fjrst")):
        path.write_bytes(torn)
        assert store.summary(PLAN) is None


def test_only_the_finished_file_stays(tmp_path: Path, shard: EncodedShard) -> None:
    ShardStore(tmp_path).save(PLAN, shard)
    assert [path.name for path in tmp_path.iterdir()] == ["key.npz"]


def test_a_key_depends_on_every_part() -> None:
    keys = {shard_key(*parts) for parts in [("a", 1), ("a", 2), ("b", 1), ("a",), ("a", "1")]}
    assert len(keys) == 5
    assert shard_key("a", 1) == shard_key("a", 1)
