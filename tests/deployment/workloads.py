"""What runs, whoever runs it: containers of compose and of Kubernetes in one shape."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

OURS = "meet-retrieval:"
Object = dict[str, Any]


@dataclass(frozen=True)
class Mount:
    """A volume in a container."""

    path: str
    source: str
    writable: bool


@dataclass(frozen=True)
class Probe:
    """A GET that is to be answered with 200."""

    path: str
    port: int


@dataclass(frozen=True)
class Workload:
    """A container; `ports` are those that others are sent to."""

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    mounts: tuple[Mount, ...]
    ports: tuple[int, ...] = ()
    probes: tuple[Probe, ...] = field(default=())

    @property
    def ours(self) -> bool:
        """Whether it runs this project's image."""
        return self.image.startswith(OURS)

    def value(self, flag: str) -> str:
        """The word after a flag of the command."""
        return self.command[self.command.index(flag) + 1]

    def mount(self, path: str) -> Mount | None:
        """The volume that a path lies in."""
        return next(
            (m for m in self.mounts if path == m.path or path.startswith(f"{m.path}/")), None
        )


def read_compose(path: Path) -> Object:
    """The file with the defaults of its variables put in."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", path.read_text())
    content = yaml.safe_load(text)
    assert isinstance(content, dict)
    return content


def of_compose(compose: Object, image: Mapping[str, str]) -> list[Workload]:
    """Every service, with the environment that the image brings."""
    return [_of_service(name, one, image) for name, one in compose["services"].items()]


def _of_service(name: str, service: Object, image: Mapping[str, str]) -> Workload:
    brought = image if service["image"].startswith(OURS) else {}
    return Workload(
        name=name,
        image=service["image"],
        command=tuple(service["command"]),
        environment={**brought, **service.get("environment", {})},
        mounts=tuple(_volume(one) for one in service.get("volumes", [])),
        ports=tuple(int(one.rsplit(":", 1)[1]) for one in service.get("ports", [])),
    )


def _volume(text: str) -> Mount:
    source, path, *mode = text.split(":")
    return Mount(path, source, mode != ["ro"])


def pods_of(objects: Iterable[Object]) -> dict[str, Object]:
    """The pod templates of what runs pods, by kind and name."""
    found = {}
    for one in objects:
        spec = one.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            found[f"{one['kind']}/{one['metadata']['name']}"] = spec["template"]
    return found


def of_kubernetes(objects: list[Object], image: Mapping[str, str]) -> list[Workload]:
    """Every container of every pod, init containers included."""
    maps = {one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "ConfigMap"}
    return [
        _of_container(f"{name}/{container['name']}", container, pod["spec"], maps, image)
        for name, pod in pods_of(objects).items()
        for container in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"])
    ]


def _of_container(
    name: str, container: Object, pod: Object, maps: Object, image: Mapping[str, str]
) -> Workload:
    named = {one["name"]: one["containerPort"] for one in container.get("ports", [])}
    probes = [container[key] for key in sorted(container) if key.endswith("Probe")]
    gets = [one["httpGet"] for one in probes if "httpGet" in one]
    brought = image if container["image"].startswith(OURS) else {}
    return Workload(
        name=name,
        image=container["image"],
        command=(*container["command"], *container.get("args", [])),
        environment={**brought, **_environment(container, maps)},
        mounts=tuple(_mounts(container, pod)),
        ports=tuple(named.values()),
        probes=tuple(Probe(one["path"], named.get(one["port"], one["port"])) for one in gets),
    )


def _environment(container: Object, maps: Object) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= maps.get(source.get("configMapRef", {}).get("name"), {})
    for one in container.get("env", []):
        # A count of CPUs is the one thing that is taken from elsewhere.
        found[one["name"]] = one.get("value", "1")
    return found


def _mounts(container: Object, pod: Object) -> Iterable[Mount]:
    volumes = {one["name"]: one for one in pod.get("volumes", [])}
    for one in container.get("volumeMounts", []):
        claim = volumes.get(one["name"], {}).get("persistentVolumeClaim", {})
        source = claim.get("claimName", one["name"])
        yield Mount(one["mountPath"], source, not one.get("readOnly", False))
