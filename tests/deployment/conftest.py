"""The files of the deployment, and the compose file's own commands run here on a small gallery."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import httpx
import pytest
import yaml

from benchmarks.smoke import announced_url
from tests.deployment.commands import ROOT, module_of
from tests.deployment.dockerfile import Dockerfile
from tests.deployment.workloads import Object, Workload, of_compose, of_kubernetes, read_compose

SCENES = 24
START_SECONDS = 300.0  # a bound on a server that hangs; a busy machine may well take a minute
OVERLAYS = ("cpu", "gpu")


@pytest.fixture(scope="session")
def dockerfile() -> Dockerfile:
    return Dockerfile.parse((ROOT / "docker/Dockerfile").read_text())


@pytest.fixture(scope="session")
def compose() -> Object:
    return read_compose(ROOT / "docker-compose.yml")


@pytest.fixture(scope="session")
def services(compose: Object, dockerfile: Dockerfile) -> dict[str, Workload]:
    return {one.name: one for one in of_compose(compose, dockerfile.environment)}


@pytest.fixture(scope="session")
def rendered() -> dict[str, list[Object]]:
    """What each overlay renders to."""
    return {name: render(ROOT / "k8s/overlays" / name) for name in OVERLAYS}


def render(folder: Path) -> list[Object]:
    """What `kubectl kustomize` makes of a folder; it warns of what is out of date."""
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run(
        [kubectl, "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="session", params=OVERLAYS)
def objects(request: pytest.FixtureRequest, rendered: dict[str, list[Object]]) -> list[Object]:
    found: list[Object] = rendered[request.param]
    return found


@pytest.fixture(scope="session")
def containers(objects: list[Object], dockerfile: Dockerfile) -> dict[str, Workload]:
    return {one.name: one for one in of_kubernetes(objects, dockerfile.environment)}


@dataclass(frozen=True)
class Served:
    """The compose file's service, as a process of this machine."""

    url: str
    routes: frozenset[str]


@pytest.fixture(scope="session")
def served(
    services: dict[str, Workload], dockerfile: Dockerfile, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Its gallery and its index made by the compose file's own commands, with fewer scenes."""
    places = {target: str(ROOT / source) for target, source in dockerfile.copied.items()}
    folder = tmp_path_factory.mktemp("volumes")
    places |= {path: str(folder / path[1:]) for path in ("/gallery", "/index")}
    for name in ("gallery", "index"):
        assert run_here(_here(services[name].command, places)) == 0
    command = _here(services["meet"].command, places)
    command[command.index("--port") + 1] = "0"
    process = start_here(command, services["meet"].environment, folder)
    try:
        url = announced_url(process, START_SECONDS)
        paths = httpx.get(f"{url}/openapi.json").json()["paths"]
        yield Served(url, frozenset(path for path, methods in paths.items() if "get" in methods))
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _here(words: tuple[str, ...], places: dict[str, str]) -> list[str]:
    """The words with the container's paths as they are here, and a small gallery."""
    small = [f"demo={SCENES}" if word.startswith("demo=") else word for word in words]
    return [places.get(word, word) for word in small]


def run_here(words: list[str]) -> object:
    """Run a command of the project in this process."""
    program = module_of(words)
    assert program is not None
    module, function, arguments = program
    return getattr(import_module(module), function)(arguments)


def start_here(
    words: list[str], environment: Mapping[str, str], home: Path
) -> subprocess.Popen[str]:
    """Start a command of the project as a process, with the container's variables alone."""
    program = module_of(words)
    assert program is not None
    here = {"HOME": str(home), "PYTHONPATH": str(ROOT), "PATH": os.defpath}
    return subprocess.Popen(
        [sys.executable, "-m", program[0], *program[2]],
        env={**environment, **here},
        stdout=subprocess.PIPE,
        text=True,
    )
