import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.deployment.commands import (
    ROOT,
    problems,
    project,
    redis_problems,
    settings_of,
)
from tests.deployment.conftest import Served
from tests.deployment.dockerfile import Dockerfile
from tests.deployment.workloads import Object, Workload

OWN = ("gallery", "index", "meet")
PROMETHEUS = ROOT / "docker/prometheus"


@pytest.mark.parametrize("name", OWN)
def test_a_service_asks_for_what_there_is(
    services: dict[str, Workload], dockerfile: Dockerfile, served: Served, name: str
) -> None:
    assert services[name].ours
    assert problems(services[name], served.routes, dockerfile.copied) == []


def test_each_of_our_services_runs_the_image_of_this_version(
    compose: Object, services: dict[str, Workload]
) -> None:
    assert {name for name, one in services.items() if one.ours} == set(OWN)
    assert {services[name].image for name in OWN} == {f"meet-retrieval:{project()['version']}-cpu"}
    for name in OWN:
        built = compose["services"][name]["build"]
        assert (ROOT / built["context"] / built["dockerfile"]).is_file()
        assert built["args"] == {"EXTRA": "cpu", "TORCH_INDEX_URL": ""}


def test_what_one_service_writes_the_next_one_reads(services: dict[str, Workload]) -> None:
    gallery, index, meet = (services[name] for name in OWN)
    assert gallery.mount(gallery.value("--out")) is not None
    assert _place(gallery, "--out") == _place(index, "--gallery")
    assert _place(index, "--out") == _place(meet, "--index")
    assert not any(mount.writable for mount in meet.mounts)


def _place(workload: Workload, flag: str) -> tuple[str, str]:
    mount = workload.mount(workload.value(flag))
    assert mount is not None
    return mount.source, workload.value(flag).removeprefix(mount.path)


def test_every_name_that_a_service_refers_to_is_there(compose: Object) -> None:
    for one in compose["services"].values():
        assert set(one.get("depends_on", {})) <= set(compose["services"])
        assert set(one.get("networks", [])) <= set(compose["networks"])
        sources = [text.split(":")[0] for text in one.get("volumes", [])]
        assert all(s in compose["volumes"] or (ROOT / s).exists() for s in sources)


def test_one_shot_services_end_before_what_needs_them_starts(compose: Object) -> None:
    done = {"condition": "service_completed_successfully"}
    assert compose["services"]["index"]["depends_on"]["gallery"] == done
    assert compose["services"]["meet"]["depends_on"]["index"] == done
    for name in ("gallery", "index"):
        assert compose["services"][name]["restart"] == "no"


def test_redis_is_where_the_server_looks_for_it(
    compose: Object, services: dict[str, Workload]
) -> None:
    shared = set(compose["services"]["redis"]["networks"])
    assert shared & set(compose["services"]["meet"]["networks"])
    assert compose["networks"]["back"]["internal"]
    assert redis_problems(services["meet"], {("redis", 6379)}) == []


def test_every_service_is_hardened(compose: Object) -> None:
    for one in compose["services"].values():
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert one["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", []))


def test_a_stop_waits_for_the_server_to_drain(
    compose: Object, services: dict[str, Workload]
) -> None:
    grace = int(compose["services"]["meet"]["stop_grace_period"].removesuffix("s"))
    assert grace > settings_of(services["meet"]).shutdown_seconds


@pytest.fixture
def socket() -> Iterator[Path]:
    # A socket's path is limited to about 100 characters, shorter than many test folders.
    with tempfile.TemporaryDirectory(prefix="redis") as folder:
        yield Path(folder) / "s"


@pytest.mark.redis
def test_redis_takes_the_compose_file_s_command(
    services: dict[str, Workload], socket: Path
) -> None:
    assert_a_cache(services["redis"].command, socket)


def assert_a_cache(command: tuple[str, ...], socket: Path) -> None:
    """A real redis-server, started so, forgets the least used and writes nothing."""
    where = ("--port", "0", "--unixsocket", str(socket), "--dir", str(socket.parent))
    server = subprocess.Popen([*command, *where], stdout=subprocess.DEVNULL)
    try:
        told = _told(socket, "maxmemory*", "save", "appendonly", "protected-mode")
    finally:
        server.kill()
        server.wait()
    assert int(told["maxmemory"]) == 256 * 2**20
    assert told["maxmemory-policy"] == "allkeys-lru"
    assert (told["save"], told["appendonly"], told["protected-mode"]) == ("", "no", "no")
    assert list(socket.parent.glob("*.rdb")) == []


def _told(socket: Path, *names: str) -> dict[str, str]:
    """What CONFIG GET says, once the server answers."""
    for _ in range(500):
        cli = ["redis-cli", "-s", str(socket), "CONFIG", "GET", *names]
        said = subprocess.run(cli, capture_output=True, text=True, check=False)
        if said.returncode == 0 and said.stdout:
            lines = said.stdout.split("\n")
            return dict(zip(lines[::2], lines[1::2], strict=False))
        subprocess.run(["sleep", "0.02"], check=True)
    raise TimeoutError("redis-server did not answer")


def test_prometheus_scrapes_the_server(
    compose: Object, services: dict[str, Workload], served: Served
) -> None:
    told = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    [job] = told["scrape_configs"]
    [target] = job["static_configs"]
    assert target["targets"] == [f"meet:{settings_of(services['meet']).port}"]
    assert job["metrics_path"] in served.routes
    shared = set(compose["services"]["prometheus"]["networks"])
    assert shared & set(compose["services"]["meet"]["networks"])


def test_prometheus_is_given_its_files(services: dict[str, Workload]) -> None:
    [mount] = [m for m in services["prometheus"].mounts if m.source.startswith(".")]
    assert (ROOT / mount.source).resolve() == PROMETHEUS
    config = f"--config.file={mount.path}/prometheus.yml"
    assert config in services["prometheus"].command
    told = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert all((PROMETHEUS / name).is_file() for name in told["rule_files"])


def test_alerts_ask_for_series_and_labels_that_the_server_has(served: Served) -> None:
    [group] = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    exposed = httpx.get(f"{served.url}/metrics").text
    asked = set(re.findall(r"meet_\w+", " ".join(rule["expr"] for rule in group["rules"])))
    assert len(asked) >= 3
    assert {
        name for name in asked if not re.search(rf"^{name}[{{ ]", exposed, re.MULTILINE)
    } == set()
    for label in ("status", "direction", "version", "stage"):
        assert re.search(rf'^meet_\w+{{.*\b{label}="', exposed, re.MULTILINE)
    assert 'stage="total"' in exposed
