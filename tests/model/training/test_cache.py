from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

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


@pytest.mark.parametrize("killed", [False, True])
def test_a_second_run_waits_and_does_only_what_the_first_left_undone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, killed: bool
) -> None:
    path, entered, released = tmp_path / "a.npy", Event(), Event()
    asked: list[int] = []

    def slow(index: int) -> NDArray[np.float16]:
        if index == 1:
            entered.set()
            assert released.wait(60)
            if killed:
                raise KeyboardInterrupt
        return block(index)

    def counted(index: int) -> NDArray[np.float16]:
        asked.append(index)
        return block(index)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cached, path, 7, BLOCKS, slow, "test")
        assert entered.wait(60)
        second = pool.submit(cached, path, 7, BLOCKS, counted, "test")
        with pytest.raises(TimeoutError):
            second.result(timeout=0.2)
        released.set()
        assert isinstance(first.exception(timeout=60), KeyboardInterrupt) == killed
        assert second.result(timeout=60).tolist() == [[i, 10 * i] for i in range(7)]
    assert asked == ([1, 2] if killed else [])
    assert f"waiting for another run, which writes {path}" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["a.npy"]
