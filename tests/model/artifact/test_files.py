from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model.artifact.files import NpyStream, map_array, replace_file
from model.core.errors import ArtifactError


@given(
    array=hnp.arrays(
        st.sampled_from([np.float16, np.uint8, np.int64]),
        hnp.array_shapes(min_dims=1, max_dims=2, min_side=1),
    ),
    cut=st.integers(0, 10),
)
def test_a_stream_of_blocks_is_the_file_numpy_writes(
    tmp_path_factory: pytest.TempPathFactory,
    array: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
    cut: int,
) -> None:
    folder = tmp_path_factory.mktemp("npy")
    with NpyStream(folder / "streamed.npy", array.shape, array.dtype) as stream:
        stream.append(array[:cut])
        stream.append(array[cut:])
    np.save(folder / "saved.npy", array)
    assert (folder / "streamed.npy").read_bytes() == (folder / "saved.npy").read_bytes()


@pytest.mark.parametrize(("shape", "dtype"), [((3, 2), np.float16), ((2, 3), np.uint8)])
def test_an_array_of_another_shape_or_kind_is_refused(
    tmp_path: Path, shape: tuple[int, ...], dtype: type[np.generic]
) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3), dtype=np.float16))
    with pytest.raises(ArtifactError, match=r"a\.npy should be .* is float16 \(2, 3\)"):
        map_array(tmp_path / "a.npy", shape, dtype)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ArtifactError, match="cannot be mapped"):
        map_array(tmp_path / "a.npy", (1,), np.int64)


def test_replacing_leaves_no_temporary_file(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        replace_file(tmp_path / "CURRENT", content)
    assert [path.name for path in tmp_path.iterdir()] == ["CURRENT"]
    assert (tmp_path / "CURRENT").read_bytes() == b"new"
