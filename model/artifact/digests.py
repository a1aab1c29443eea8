"""sha256 of every file of a version: whole where small, per MiB where large.

The table also guards itself, and what was read in full once is remembered with the inode,
size and time of every file, so that a restart need not read it again.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from model.artifact.files import replace_file
from model.artifact.layout import is_mapped
from model.core.errors import ArtifactError, DigestMismatchError, EncoderMismatchError
from model.core.types import Frozen

CHUNK_BYTES = 1 << 20
ENCODERS = "../../encoders/"  # versions share snapshots, which lie beside them
Fingerprint = tuple[int, int, int]  # inode, size, mtime in ns


class FileDigest(Frozen):
    """Size of a file and the sha256 of each of its MiBs."""

    size: int
    chunks: tuple[str, ...]

    @classmethod
    def of(cls, path: Path) -> "FileDigest":
        """The digests of a file as it lies there."""
        return cls(size=path.stat().st_size, chunks=tuple(_chunk_digests(path)))

    @property
    def is_small(self) -> bool:
        """Whether one digest covers the whole file."""
        return self.size <= CHUNK_BYTES


class DigestTable(Frozen):
    """Digests of files, by their path relative to the version's folder."""

    files: dict[str, FileDigest]

    @classmethod
    def of(cls, directory: Path, names: Iterable[str]) -> "DigestTable":
        """Digests of the named files."""
        return cls(files={name: FileDigest.of(directory / name) for name in sorted(names)})

    @property
    def digest(self) -> str:
        """One sha256 over the whole table."""
        return hashlib.sha256(self._canonical().encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the table and its own digest."""
        text = f'{{"digest": "{self.digest}",\n"table": {self._canonical()}}}\n'
        replace_file(path, text.encode())

    @classmethod
    def load(cls, path: Path) -> "DigestTable":
        """The table of a version.

        Raises:
            ArtifactError: the file is missing or no table.
            DigestMismatchError: the table is not the one that was written.
        """
        try:
            content = json.loads(path.read_bytes())
            table, written = cls.model_validate(content["table"]), str(content["digest"])
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read: {error}") from error
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise DigestMismatchError(f"{path} is not the table that was written") from error
        if table.digest != written:
            raise DigestMismatchError(_difference(path, 0, written, table.digest))
        return table

    def _canonical(self) -> str:
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def check_sizes(directory: Path, table: DigestTable) -> None:
    """Refuse a version of which a file is missing or has another length.

    Raises:
        ArtifactError: a file is missing.
        DigestMismatchError: a file has another size.
        EncoderMismatchError: so has one of the encoder's snapshot.
    """
    for name, expected in table.files.items():
        path = directory / name
        if not path.is_file():
            raise ArtifactError(f"{path} is missing from the index")
        size = path.stat().st_size
        if size != expected.size:
            message = f"{path} should hold {expected.size} bytes, holds {size}"
            raise _mismatch_kind(name)(message)


def check_in_place(directory: Path, table: DigestTable) -> None:
    """Refuse an open version of which a mapped file has another length by now.

    What lies behind the end of a file that was cut cannot be read: who tries is killed. A file
    that is gone stays as it was for whoever has mapped it, as when an old version is deleted.

    Raises:
        DigestMismatchError: names the file and both sizes.
    """
    for name, expected in table.files.items():
        if not is_mapped(directory / name):
            continue
        try:
            size = (directory / name).stat().st_size
        except FileNotFoundError:
            continue
        if size != expected.size:
            raise DigestMismatchError(
                f"a version must never be written to, {name} of {directory.name} held "
                f"{expected.size} bytes when it was opened, holds {size}"
            )


def check_contents(directory: Path, table: DigestTable, *, small_only: bool = False) -> None:
    """Read files again and compare.

    Raises:
        DigestMismatchError: names the file, the MiB and both digests.
        EncoderMismatchError: the same for the encoder's snapshot.
    """
    for name, expected in table.files.items():
        if small_only and not expected.is_small:
            continue
        found = _chunk_digests(directory / name)
        for chunk, (wanted, got) in enumerate(zip(expected.chunks, found, strict=False)):
            if wanted != got:
                raise _mismatch_kind(name)(_difference(directory / name, chunk, wanted, got))


def fingerprints(directory: Path, table: DigestTable) -> dict[str, Fingerprint]:
    """Inode, size and time of every file: cheap evidence that nothing was written since."""
    found = {}
    for name in table.files:
        state = (directory / name).stat()
        found[name] = (state.st_ino, state.st_size, state.st_mtime_ns)
    return found


def is_recorded(record: Path, directory: Path, table: DigestTable) -> bool:
    """Whether these very files were once read in full and found right."""
    try:
        content = json.loads(record.read_bytes())
    except (OSError, ValueError):
        return False
    state = {name: list(value) for name, value in fingerprints(directory, table).items()}
    return bool(content == {"table": table.digest, "files": state})


def record_verified(record: Path, directory: Path, table: DigestTable) -> None:
    """Remember that these files were right; a read-only index is just not remembered."""
    content = {"table": table.digest, "files": fingerprints(directory, table)}
    try:
        replace_file(record, json.dumps(content).encode())
    except OSError:
        return


def _chunk_digests(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield hashlib.sha256(chunk).hexdigest()


def _mismatch_kind(name: str) -> type[ArtifactError]:
    return EncoderMismatchError if name.startswith(ENCODERS) else DigestMismatchError


def _difference(path: Path, chunk: int, wanted: str, got: str) -> str:
    return (
        f"{path}, chunk {chunk} (1 MiB each): the index was written with sha256 {wanted}, "
        f"the file holds {got}"
    )
