import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import pytest

from model.artifact.reader import open_artifact
from model.artifact.store import VersionStore
from model.artifact.writer import ArtifactWriter
from model.core.errors import ArtifactError, EncoderMismatchError, VersionNotFoundError
from tests.model.artifact.conftest import ENCODER, WriteVersion, manifest_of

HOLD_LOCK = """
import sys, time
from pathlib import Path
from model.artifact.store import VersionStore
with VersionStore(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_publishing_makes_the_new_version_current(
    store: VersionStore, write_version: WriteVersion
) -> None:
    assert (store.names(), store.current()) == ([], None)
    for version in ("v1", "v2"):
        write_version(version)
        assert store.current() == version
        assert open_artifact(store.layout.root).version == version
    assert store.names() == ["v1", "v2"]


def test_the_last_versions_stay_and_an_activated_old_one_too(
    store: VersionStore, write_version: WriteVersion
) -> None:
    for number in range(1, 6):
        write_version(f"v{number}")
    assert store.names() == ["v3", "v4", "v5"]
    store.activate("v3")
    assert store.current() == "v3"
    assert store.prune(1) == ["v4"]
    assert store.names() == ["v3", "v5"]
    assert sorted(path.stem for path in (store.layout.root / "verified").iterdir()) == ["v3", "v5"]


def test_encoders_that_no_version_uses_go(store: VersionStore, write_version: WriteVersion) -> None:
    unused = store.layout.encoders / "0123456789abcdef"
    unused.mkdir(parents=True)
    write_version()
    assert [path.name for path in store.layout.encoders.iterdir()] == [ENCODER[:16]]


def test_a_broken_old_version_neither_stops_a_publication_nor_loses_its_encoder(
    store: VersionStore, write_version: WriteVersion
) -> None:
    write_version("v1")
    unknown = store.layout.encoders / "0123456789abcdef"
    unknown.mkdir()
    store.layout.version("v1").manifest.write_text("{")
    write_version("v2")
    assert (store.current(), store.names()) == ("v2", ["v1", "v2"])
    assert unknown.is_dir()


def test_what_cannot_be_deleted_does_not_stop_a_publication(
    store: VersionStore, write_version: WriteVersion
) -> None:
    write_version("v1")
    (store.layout.encoders / "stray").write_text("a file where a folder should be")
    write_version("v2")
    assert store.current() == "v2"


def test_leaving_without_publishing_leaves_nothing(
    store: VersionStore, write_version: WriteVersion, tmp_path: Path
) -> None:
    write_version()
    with ArtifactWriter(store, "v2", tmp_path) as writer:
        writer.report({})
    assert store.current() == "v1"
    assert [path.name for path in store.layout.versions.iterdir()] == ["v1"]


def test_what_a_dead_build_left_is_no_version_and_goes_with_the_next(
    store: VersionStore, write_version: WriteVersion
) -> None:
    store.new_directory("v1")
    assert store.names() == []
    write_version("v2")
    assert [path.name for path in store.layout.versions.iterdir()] == ["v2"]


def test_a_broken_version_is_not_activated(
    store: VersionStore, write_version: WriteVersion
) -> None:
    for version in ("v1", "v2"):
        write_version(version)
    weights = store.layout.encoder(ENCODER) / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[::-1])
    with pytest.raises(EncoderMismatchError):
        store.activate("v1")
    assert store.current() == "v2"


def test_activating_an_unknown_version_is_a_named_error(
    store: VersionStore, write_version: WriteVersion
) -> None:
    write_version()
    with pytest.raises(VersionNotFoundError, match=r"no version '\.\./\.\.', it has v1"):
        store.activate("../..")


def test_a_pointer_of_garbage_is_a_named_error(
    store: VersionStore, write_version: WriteVersion
) -> None:
    write_version()
    store.layout.current.write_bytes(b"\xff\xfe")
    with pytest.raises(VersionNotFoundError):
        open_artifact(store.layout.root)


def test_a_lock_is_held_by_one_process_and_freed_by_its_death(store: VersionStore) -> None:
    command = [sys.executable, "-c", HOLD_LOCK, str(store.layout.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(ArtifactError, match=rf"pid {other.pid}\) is writing"),
            store.lock(),
        ):
            pass
        other.kill()
    with store.lock():
        assert store.layout.lock.read_text() == f"pid {os.getpid()}\n"


def test_a_lock_that_its_holder_removed_is_not_held_by_another(
    store: VersionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.layout.root.mkdir(parents=True, exist_ok=True)
    flock = fcntl.flock

    def removed_meanwhile(file: TextIO, how: int) -> None:
        store.layout.lock.unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with pytest.raises(ArtifactError, match="is writing to"), store.lock():
        pass
    monkeypatch.undo()
    with store.lock():
        assert store.layout.lock.read_text() == f"pid {os.getpid()}\n"


def test_an_index_that_takes_no_record_opens(
    store: VersionStore, write_version: WriteVersion
) -> None:
    write_version()
    folder = store.layout.verified("v1").parent
    shutil.rmtree(folder)
    folder.write_text("a file where a folder should be")
    assert open_artifact(store.layout.root).version == "v1"


def test_one_fact_of_a_manifest_is_read_alone(
    store: VersionStore, write_version: WriteVersion, tmp_path: Path
) -> None:
    write_version()
    assert store.fact("v1", "encoder", "digest") == manifest_of("v1", tmp_path).encoder.digest
    with pytest.raises(ArtifactError, match=r"no readable encoder\.age"):
        store.fact("v1", "encoder", "age")
