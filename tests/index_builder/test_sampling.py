import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.data.selection import Selection, deal, sample_bank


def selection(with_image: list[bool], n_captions: list[int]) -> Selection:
    return Selection(
        np.arange(len(with_image)), np.array(with_image), np.array(n_captions, dtype=np.int64)
    )


def test_captions_are_dealt_one_an_item_and_round() -> None:
    # Round one gives 1, 1, 1 (the empty item has none), round two has two left: 2, 0, 2, 1.
    assert deal(np.array([5, 0, 2, 9]), 5).tolist() == [2, 0, 2, 1]
    assert deal(np.array([1, 2]), 9).tolist() == [1, 2]
    assert deal(np.array([1, 2]), 0).tolist() == [0, 0]


def test_a_small_gallery_is_its_own_bank() -> None:
    items = selection([True, False, True], [2, 1, 0])
    bank = sample_bank(items, 10, seed=0)
    assert bank.rows.tolist() == [0, 1, 2]
    assert bank.with_image.tolist() == [True, False, True]
    assert bank.n_captions.tolist() == [2, 1, 0]


def test_captions_of_the_drawn_images_come_first() -> None:
    # 50 items of 5 captions: 10 images take part, and just their captions: 5 · 10 > 10.
    bank = sample_bank(selection([True] * 50, [5] * 50), 10, seed=3)
    assert len(bank) == 10
    assert bank.n_captions.tolist() == [1] * 10


def test_another_seed_draws_others() -> None:
    items = selection([True] * 50, [1] * 50)
    draws = {tuple(sample_bank(items, 10, seed).rows.tolist()) for seed in range(5)}
    assert len(draws) == 5
    assert sample_bank(items, 10, 1).rows.tolist() == sample_bank(items, 10, 1).rows.tolist()


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=30),
    st.integers(1, 20),
    st.integers(0, 99),
)
def test_a_bank_is_as_full_as_it_can_be(
    items: list[tuple[bool, int]], size: int, seed: int
) -> None:
    whole = selection([image for image, _ in items], [count for _, count in items])
    bank = sample_bank(whole, size, seed)
    assert bank.with_image.sum() == min(size, whole.with_image.sum())
    assert bank.n_captions.sum() == min(size, whole.n_captions.sum())
    assert (bank.n_captions <= whole.n_captions[bank.rows]).all()
    assert (whole.with_image[bank.rows] | ~bank.with_image).all()
    assert (np.diff(bank.rows) > 0).all()
    # Unless every pictured item gives all its captions, no other item gives any.
    pictured = bank.with_image
    if (bank.n_captions[pictured] < whole.n_captions[bank.rows][pictured]).any():
        assert not bank.n_captions[~pictured].any()
