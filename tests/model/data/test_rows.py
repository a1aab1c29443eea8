import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.core.errors import DataFormatError
from model.data.rows import ConcatenatedRows, check_finite, concatenated, open_npy

_WHOLE = np.arange(30, dtype=np.float32).reshape(10, 3)


@given(
    cuts=st.lists(st.integers(1, 9), unique=True, max_size=4).map(sorted),
    start=st.integers(-12, 12),
    stop=st.integers(-12, 12),
    rows=st.lists(st.integers(-10, 9), max_size=12),
)
def test_parts_read_like_the_whole_array(
    cuts: list[int], start: int, stop: int, rows: list[int]
) -> None:
    table = ConcatenatedRows(np.split(_WHOLE, cuts))
    wanted = np.array(rows, dtype=np.int64)
    assert table.shape == _WHOLE.shape
    assert np.array_equal(table[start:stop], _WHOLE[start:stop])
    assert np.array_equal(table[start:stop:2], _WHOLE[start:stop:2])
    assert np.array_equal(table[wanted], _WHOLE[wanted])
    assert np.array_equal(np.asarray(table), _WHOLE)


def test_a_row_outside_is_refused() -> None:
    with pytest.raises(IndexError, match="0 to 9"):
        ConcatenatedRows([_WHOLE])[np.array([10])]


def test_parts_of_different_widths_are_refused() -> None:
    with pytest.raises(DataFormatError, match=r"one shape, got \[\(2,\), \(3,\)\]"):
        concatenated([_WHOLE, _WHOLE[:, :2]])


def test_a_single_part_is_given_as_it_is() -> None:
    assert concatenated([_WHOLE]) is _WHOLE


def test_an_npy_file_is_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", _WHOLE)
    assert isinstance(open_npy(tmp_path / "x.npy", ndim=2), np.memmap)


def test_a_pickled_npy_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataFormatError, match=r"x.npy is no readable npy file"):
        open_npy(tmp_path / "x.npy", ndim=1)


def test_a_pickle_named_npy_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(pickle.dumps([1.0]))
    with pytest.raises(DataFormatError, match=r"x.npy is no readable npy file"):
        open_npy(tmp_path / "x.npy", ndim=1)


@pytest.mark.parametrize("kept", [0, 5, 60, 200])
def test_an_npy_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    np.save(tmp_path / "x.npy", _WHOLE)
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:kept])
    with pytest.raises(DataFormatError, match=r"x.npy is no readable npy file"):
        open_npy(tmp_path / "x.npy", ndim=2)


def test_an_archive_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", _WHOLE)
    with pytest.raises(DataFormatError, match="got an archive"):
        open_npy(tmp_path / "x.npz", ndim=2)


def test_integers_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 2), np.int64))
    with pytest.raises(DataFormatError, match="needs floats with 2 dimensions, got int64"):
        open_npy(tmp_path / "x.npy", ndim=2)


def test_finite_values_pass() -> None:
    check_finite(_WHOLE, "features")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_row_with_a_value_that_is_not_finite_is_named(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.data.rows._BLOCK_VALUES", 7)
    rows = _WHOLE.astype(np.float16)
    rows[[6, 8], 1] = value
    with pytest.raises(DataFormatError, match="features needs finite values, row 6 has"):
        check_finite(rows, "features")
    with pytest.raises(DataFormatError, match="row 6"):
        check_finite(ConcatenatedRows([rows[:4], rows[4:]]), "features")
