import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from tests.deployment.conftest import SCENES, Served
from tests.deployment.dockerfile import Dockerfile
from tests.deployment.workloads import Workload


def test_the_compose_file_s_commands_make_and_serve_a_gallery(served: Served) -> None:
    assert httpx.get(f"{served.url}/index").json()["counts"]["image"] == SCENES
    answer = httpx.post(f"{served.url}/search/text-to-image", json={"query": "a dog", "k": 3})
    assert len(answer.json()["hits"]) == 3


def test_every_probe_is_answered_with_200(served: Served, containers: dict[str, Workload]) -> None:
    probes = containers["Deployment/meet/meet"].probes
    assert {probe.path for probe in probes} == {"/healthz", "/readyz"}
    assert {httpx.get(f"{served.url}{probe.path}").status_code for probe in probes} == {200}


class _Stuck(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stuck() -> Iterator[int]:
    """The port of a server that answers 503 to everything."""
    server = HTTPServer(("127.0.0.1", 0), _Stuck)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def health(dockerfile: Dockerfile, port: int, **environment: str) -> int:
    """The exit status of the image's health check; 0 means healthy."""
    program, *arguments = dockerfile.healthcheck
    assert program == "python"
    return subprocess.run(
        [sys.executable, *arguments],
        env={"PATH": os.defpath, "MEET_PORT": str(port), **environment},
        stderr=subprocess.DEVNULL,
        check=False,
    ).returncode


def test_the_image_s_health_check_tells_a_server_that_answers(
    dockerfile: Dockerfile, served: Served
) -> None:
    assert health(dockerfile, httpx.URL(served.url).port or 80) == 0


def test_the_image_s_health_check_asks_no_proxy(dockerfile: Dockerfile, served: Served) -> None:
    port = httpx.URL(served.url).port or 80
    assert health(dockerfile, port, http_proxy="http://127.0.0.1:1") == 0


def test_the_image_s_health_check_fails_on_503_and_where_nobody_listens(
    dockerfile: Dockerfile, stuck: int
) -> None:
    assert health(dockerfile, stuck) == 1
    assert health(dockerfile, 1) == 1


@pytest.fixture
def wait_for_index(
    containers: dict[str, Workload], tmp_path: Path
) -> Iterator["subprocess.Popen[str]"]:
    """The init container's script over an index folder of the test's own, already running."""
    shell, flag, script = containers["Deployment/meet/wait-for-index"].command
    here = [shell, flag, script.replace("/index", str(tmp_path)).replace("sleep 5", "sleep 0.05")]
    waiting = subprocess.Popen(here, stdout=subprocess.PIPE, text=True)
    yield waiting
    waiting.kill()
    waiting.communicate()


def test_a_pod_waits_until_an_index_is_published(
    wait_for_index: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    assert wait_for_index.stdout is not None
    assert wait_for_index.stdout.readline() == "no index yet, meet-build makes it\n"
    assert wait_for_index.poll() is None
    (tmp_path / "CURRENT").write_text("v1")
    assert wait_for_index.wait(10) == 0
