"""A served version whose mapped files are written to in place: said before a search dies of it."""

import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from model.artifact.reader import open_artifact
from model.artifact.store import VersionStore
from model.core.errors import DigestMismatchError
from service.engine import SearchEngine
from tests.service.conftest import Launcher, OpenClient
from tests.service.test_server import WAIT_SECONDS


def test_a_cut_file_makes_the_server_unready_and_a_search_ends_it_with_words(
    launcher: Launcher, copied_root: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    running = launcher.start(copied_root, log=log).ready()
    assert httpx.get(f"{running.url}/readyz").status_code == 200
    os.truncate(copied_root / "versions" / "v1" / "image" / "embeddings.npy", 0)
    for _ in range(2):
        answer = httpx.get(f"{running.url}/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert (
            "image/embeddings.npy of v1 held 3968 bytes when it was opened, holds 0"
            in answer.json()["detail"]
        )
        assert str(copied_root) not in answer.text
    assert httpx.get(f"{running.url}/healthz").status_code == 200
    said = [line for line in log.read_text().splitlines() if "embeddings.npy" in line]
    assert [json.loads(line)["level"] for line in said] == ["error"]
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{running.url}/search/text-to-image", json={"query": "a bus"})
    assert running.process.wait(WAIT_SECONDS) == -signal.SIGBUS
    assert "Fatal Python error: Bus error" in log.read_text()


@pytest.mark.anyio
async def test_a_version_that_was_deleted_serves_on(
    two_versions: Path, open_client: OpenClient
) -> None:
    async with open_client(SearchEngine.open(two_versions, "v2")) as client:
        VersionStore(two_versions)._delete("v2")
        assert (await client.get("/readyz")).json()["index_version"] == "v2"
        answer = await client.post("/search/text-to-image", json={"query": "a bus"})
    assert answer.json()["hits"]


def test_every_mapped_file_is_looked_at_and_no_other(copied_root: Path) -> None:
    artifact, folder = open_artifact(copied_root), copied_root / "versions" / "v1"
    artifact.require_unchanged()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("ab") as file:
            file.write(b"\0")
        if path.suffix in {".npy", ".arrow", ".bin"}:
            name, size = path.relative_to(folder), path.stat().st_size
            said = f"{name} of v1 held {size - 1} bytes when it was opened, holds {size}"
            with pytest.raises(DigestMismatchError, match=said):
                artifact.require_unchanged()
        else:
            artifact.require_unchanged()
        os.truncate(path, path.stat().st_size - 1)
    artifact.require_unchanged()
