"""The real server where it may write next to nothing: a read-only root and a /tmp of 1 MB.

Where mount namespaces may be made the layout is the real one; elsewhere the kernel lets the
process write no file beyond 1 MB, which a spooled upload would.
"""

import base64
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from benchmarks.smoke import announced_url

ROOT = Path(__file__).resolve().parents[2]
INDEX = "/mnt"  # there on every Linux, and empty
# What lies over it would be hidden, and with it the packages of a checkout below.
TEMPORARY = "/var/tmp" if ROOT.is_relative_to("/tmp") else "/tmp"
SERVE = f'"{sys.executable}" -m service.cli --port 0 --index'
# The last word is checked: a test of a layout that is none would prove nothing.
LAYOUT = f"""set -e
mount --make-rprivate /
mount --bind "$1" {INDEX}
mount -o remount,ro,bind {INDEX}
mount -t tmpfs -o size=1m tmpfs {TEMPORARY}
mount -o remount,ro,bind /
! touch /read-only {INDEX}/read-only 2>/dev/null
! head -c 2000000 /dev/zero 2>/dev/null >{TEMPORARY}/large
rm -f {TEMPORARY}/large
export TMPDIR={TEMPORARY}
cd /
"""
LIMITED = "ulimit -f 1024 && cd / && exec "


def namespace() -> list[str] | None:
    """The words before a shell that may mount, None where there are none."""
    for words in (["unshare", "-m"], ["unshare", "-m", "-r"]):
        try:
            done = subprocess.run(
                [*words, "sh", "-c", LAYOUT, "sh", "/usr"], capture_output=True, check=False
            )
        except FileNotFoundError:
            return None
        if done.returncode == 0:
            return words
    return None


@pytest.fixture(scope="module")
def confined(index_root: Path) -> Iterator[str]:
    """The URL of a server in the tightest layout that can be made here."""
    words = namespace()
    if words is None:
        command = ["sh", "-c", f'{LIMITED}{SERVE} "$1"', "sh", str(index_root)]
    else:
        command = [*words, "sh", "-c", f"{LAYOUT}exec {SERVE} {INDEX}", "sh", str(index_root)]
    # Its working directory is the root, where the packages are not.
    command = ["env", f"PYTHONPATH={ROOT}", "PYTHONDONTWRITEBYTECODE=1", *command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield announced_url(server)
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A PNG of five megabytes."""
    noise = np.random.default_rng(2).integers(0, 256, (1300, 1300, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG", compress_level=0)
    assert len(file.getvalue()) > 5_000_000
    return file.getvalue()


def test_uploads_of_five_megabytes_are_answered_where_nothing_can_be_written(
    confined: str, photo: bytes
) -> None:
    url = f"{confined}/search/image-to-text"
    fields = {"image": base64.b64encode(photo).decode()}
    answers = [httpx.post(url, files={"image": photo}, timeout=60) for _ in range(3)]
    answers.append(httpx.post(url, json=fields, timeout=60))
    assert [one.status_code for one in answers] == [200] * 4
    hits = [one.json()["hits"] for one in answers]
    assert len(hits[0]) == 10
    assert all(one == hits[0] for one in hits)


def test_the_rest_works_there_too(confined: str) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/index", "/items/photo-07/image", "/docs"):
        assert httpx.get(confined + path).status_code == 200, path
    body = {"query": "a red dog", "k": 5}
    assert len(httpx.post(f"{confined}/search/text-to-image", json=body).json()["hits"]) == 5
