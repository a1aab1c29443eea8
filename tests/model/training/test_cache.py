from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.training.cache import cached

BLOCKS = [slice(0, 3), slice(3, 6), slice(6, 7)]


def block(index: int) -> NDArray[np.float16]:
    rows = np.arange(7, dtype=np.float16)[BLOCKS[index]]
    return np.stack([rows, 10 * rows], axis=1)


def test_a_killed_extraction_goes_on_at_the_first_block_that_is_missing(tmp_path: Path) -> None:
    asked: list[int] = []

    def killed_in_the_third(index: int) -> NDArray[np.float16]:
        asked.append(index)
        if index == 2:
            raise KeyboardInterrupt
        return block(index)

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path / "a.npy", 7, BLOCKS, killed_in_the_third, "test")
    assert not (tmp_path / "a.npy").exists()
    asked.clear()

    def counted(index: int) -> NDArray[np.float16]:
        asked.append(index)
        return block(index)

    found = cached(tmp_path / "a.npy", 7, BLOCKS, counted, "test")
    assert asked == [2]
    assert found.tolist() == [[i, 10 * i] for i in range(7)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy"]


def test_what_is_there_is_not_computed_again(tmp_path: Path) -> None:
    first = cached(tmp_path / "a.npy", 7, BLOCKS, block, "test")

    def never(index: int) -> NDArray[np.float16]:
        raise AssertionError(index)

    assert (cached(tmp_path / "a.npy", 7, BLOCKS, never, "test") == first).all()
