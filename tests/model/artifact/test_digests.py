import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.artifact.digests import (
    CHUNK_BYTES,
    DigestTable,
    FileDigest,
    check_contents,
    check_sizes,
    is_recorded,
    record_verified,
)
from model.core.errors import ArtifactError, DigestMismatchError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.json").write_bytes(b"{}")
    (tmp_path / "large.npy").write_bytes(bytes(CHUNK_BYTES) + b"tail")
    (tmp_path / "empty.bin").write_bytes(b"")
    return tmp_path


@pytest.fixture
def table(folder: Path) -> DigestTable:
    return DigestTable.of(folder, ["small.json", "large.npy", "empty.bin"])


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_large_file_has_a_sha256_per_mib(folder: Path) -> None:
    digest = FileDigest.of(folder / "large.npy")
    assert digest.size == CHUNK_BYTES + 4
    assert digest.chunks == (
        hashlib.sha256(bytes(CHUNK_BYTES)).hexdigest(),
        hashlib.sha256(b"tail").hexdigest(),
    )


def test_untouched_files_pass(folder: Path, table: DigestTable) -> None:
    check_sizes(folder, table)
    check_contents(folder, table)


@given(position=st.integers(0, CHUNK_BYTES + 3))
def test_any_flipped_byte_is_found_and_its_chunk_named(
    tmp_path_factory: pytest.TempPathFactory, position: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "large.npy"
    path.write_bytes(bytes(CHUNK_BYTES) + b"tail")
    table = DigestTable.of(path.parent, [path.name])
    flip(path, position)
    got = FileDigest.of(path).chunks[position // CHUNK_BYTES]
    wanted = table.files[path.name].chunks[position // CHUNK_BYTES]
    with pytest.raises(DigestMismatchError) as caught:
        check_contents(path.parent, table)
    for part in (str(path), f"chunk {position // CHUNK_BYTES}", got, wanted):
        assert part in str(caught.value)


def test_small_only_reads_no_large_file(folder: Path, table: DigestTable) -> None:
    flip(folder / "large.npy", 5)
    check_contents(folder, table, small_only=True)
    flip(folder / "small.json", 0)
    with pytest.raises(DigestMismatchError, match=r"small\.json"):
        check_contents(folder, table, small_only=True)


def test_another_size_names_both(folder: Path, table: DigestTable) -> None:
    (folder / "small.json").write_bytes(b"{} ")
    with pytest.raises(DigestMismatchError, match="should hold 2 bytes, holds 3"):
        check_sizes(folder, table)


def test_a_missing_file_is_named(folder: Path, table: DigestTable) -> None:
    (folder / "empty.bin").unlink()
    with pytest.raises(ArtifactError, match=r"empty\.bin is missing"):
        check_sizes(folder, table)


@given(
    st.dictionaries(
        st.text(min_size=1), st.builds(FileDigest, size=st.integers(0), chunks=st.just(("a", "b")))
    )
)
def test_a_table_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, FileDigest]
) -> None:
    path = tmp_path_factory.mktemp("table") / "digests.json"
    table = DigestTable(files=files)
    table.save(path)
    assert DigestTable.load(path) == table


def test_no_byte_of_the_table_can_flip_unseen(folder: Path, table: DigestTable) -> None:
    path = folder / "digests.json"
    table.save(path)
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DigestMismatchError, match=r"digests\.json"):
            DigestTable.load(path)


def test_a_record_holds_until_a_file_is_written(folder: Path, table: DigestTable) -> None:
    record = folder / "verified" / "v1.json"
    assert not is_recorded(record, folder, table)
    record_verified(record, folder, table)
    assert is_recorded(record, folder, table)
    (folder / "small.json").write_bytes(b"[]")  # same size, new time
    assert not is_recorded(record, folder, table)


def test_a_broken_record_counts_as_none(folder: Path, table: DigestTable) -> None:
    record = folder / "v1.json"
    record.write_text("{")
    assert not is_recorded(record, folder, table)


def test_a_record_that_cannot_be_written_is_no_error(folder: Path, table: DigestTable) -> None:
    (folder / "verified").write_text("a file where a folder should be")
    record_verified(folder / "verified" / "v1.json", folder, table)
    assert json.loads((folder / "small.json").read_text()) == {}
