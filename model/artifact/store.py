"""Versions of an index: which there are, which is published, and how that changes."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from model.artifact.digests import DigestTable, check_contents, check_sizes, record_verified
from model.artifact.files import rename_durably, replace_file
from model.artifact.layout import RootLayout
from model.core.brief import brief
from model.core.errors import ArtifactError, VersionNotFoundError

KEEP_VERSIONS = 3


class VersionStore:
    """The versions below a root; a published one never changes."""

    def __init__(self, root: Path) -> None:
        """`root` is what `meet-build --out` wrote."""
        self.layout = RootLayout(root)

    def names(self) -> list[str]:
        """Versions on the disk, oldest first."""
        if not self.layout.versions.is_dir():
            return []
        found = (path.name for path in self.layout.versions.iterdir() if path.is_dir())
        return sorted(name for name in found if not name.startswith("."))

    def current(self) -> str | None:
        """The published version, None where nothing was published yet."""
        try:
            return self.layout.current.read_text("utf-8", errors="replace").strip() or None
        except FileNotFoundError:
            return None

    def require_root(self) -> None:
        """Check that there is a folder to find versions in.

        Raises:
            VersionNotFoundError: there is none, or a file in its place.
        """
        if not (root := self.layout.root).is_dir():
            found = "a file, no folder" if root.exists() else "not there"
            raise VersionNotFoundError(f"an index is a folder that was built, {root} is {found}")

    def require(self, version: str | None = None) -> str:
        """The version asked for, else the published one.

        Raises:
            VersionNotFoundError: there is none, or not that one.
        """
        self.require_root()
        wanted = version or self.current()
        if wanted is None:
            raise VersionNotFoundError(f"{self.layout.root} has no published version (no CURRENT)")
        if wanted not in self.names():
            known = ", ".join(self.names()) or "none"
            raise VersionNotFoundError(
                f"{self.layout.root} has no version {brief(wanted)}, it has {known}"
            )
        return wanted

    def fact(self, version: str, *keys: str) -> object:
        """One value of a version's manifest, read without all that a `Manifest` knows."""
        path = self.layout.version(version).manifest
        try:
            value = json.loads(path.read_bytes())
            for key in keys:
                value = value[key]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArtifactError(f"{path} has no readable {'.'.join(keys)}: {error}") from error
        return value

    def verify(self, version: str | None = None) -> DigestTable:
        """Read every file of a version again and compare; the success is recorded.

        Raises:
            ArtifactError: a file is missing.
            DigestMismatchError: names the file, the MiB and both digests.
        """
        name = self.require(version)
        layout = self.layout.version(name)
        table = DigestTable.load(layout.digests)
        check_sizes(layout.directory, table)
        check_contents(layout.directory, table)
        record_verified(self.layout.verified(name), layout.directory, table)
        return table

    def activate(self, version: str) -> None:
        """Make a version the published one, after reading it in full."""
        self.verify(version)
        self.point_to(version)

    def point_to(self, version: str) -> None:
        """Make a version that was found right the published one."""
        replace_file(self.layout.current, f"{version}\n".encode())

    def publish(self, directory: Path, version: str, keep: int = KEEP_VERSIONS) -> Path:
        """Give a finished folder its name, make it current, drop versions beyond `keep`."""
        target = self.layout.version(version).directory
        rename_durably(directory, target)
        layout = self.layout.version(version)
        table = DigestTable.load(layout.digests)
        record_verified(self.layout.verified(version), target, table)
        self.point_to(version)
        with suppress(OSError):  # it is published: what will not go now goes with the next
            self.prune(keep)
        return target

    def prune(self, keep: int) -> list[str]:
        """Delete all but the newest `keep` versions and the current one; give their names."""
        names = self.names()
        spared = {*names[-max(keep, 1) :], self.current()}
        gone = [name for name in names if name not in spared]
        for name in gone:
            self._delete(name)
        self._delete_unused_encoders()
        return gone

    def new_directory(self, version: str) -> Path:
        """An empty folder beside the final name; what dead builds left there goes first."""
        self.layout.versions.mkdir(parents=True, exist_ok=True)
        for left in self.layout.versions.glob(".*.partial-*"):
            shutil.rmtree(left)
        directory = self.layout.versions / f".{version}.partial-{os.getpid()}"
        directory.mkdir()
        return directory

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold this index alone; the lock of a killed process frees itself.

        Folders that are made for it go again where what was to be written was refused.

        Raises:
            ArtifactError: another process is writing.
        """
        root = self.layout.root
        made = [place for place in (root, *root.parents) if not place.exists()]
        root.mkdir(parents=True, exist_ok=True)
        with self.layout.lock.open("a+", encoding="utf-8") as file:
            self._hold(file)
            try:
                yield
            except BaseException:
                self._clear(made)
                raise

    def _hold(self, file: TextIO) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise self._taken(file.read().strip()) from error
        if os.fstat(file.fileno()).st_nlink == 0:  # removed by its last holder meanwhile
            raise self._taken("")
        file.truncate(0)
        file.write(f"pid {os.getpid()}\n")
        file.flush()

    def _taken(self, holder: str) -> ArtifactError:
        return ArtifactError(
            f"another process ({holder or 'unknown'}) is writing to {self.layout.root}; "
            "wait for it or stop it"
        )

    def _clear(self, made: Sequence[Path]) -> None:
        """Remove what holds nothing: the versions' folder, then these with the lock."""
        with suppress(OSError):
            self.layout.versions.rmdir()
        if made and [one.name for one in self.layout.root.iterdir()] == [self.layout.lock.name]:
            self.layout.lock.unlink()
            with suppress(OSError):  # somebody else has begun to write there
                for place in made:
                    place.rmdir()

    def _delete(self, version: str) -> None:
        """Rename first: half a version must never look like a whole one."""
        directory = self.layout.version(version).directory
        doomed = directory.with_name(f".{version}.partial-deleted")
        directory.replace(doomed)
        shutil.rmtree(doomed)
        self.layout.verified(version).unlink(missing_ok=True)

    def _delete_unused_encoders(self) -> None:
        """None goes while a version stands that does not say which encoder it needs."""
        if not self.layout.encoders.is_dir():
            return
        try:
            used = {str(self.fact(name, "encoder", "digest"))[:16] for name in self.names()}
        except ArtifactError:
            return
        for snapshot in self.layout.encoders.iterdir():
            if snapshot.name not in used:
                shutil.rmtree(snapshot)
