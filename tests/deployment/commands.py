"""Commands and settings of deployment files, held against the programs that will read them."""

import io
import subprocess
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import pytest
from pydantic import BaseModel, ValidationError

from service.settings import ServiceSettings
from tests.deployment.workloads import Workload

ROOT = Path(__file__).resolve().parent.parent.parent
PREFIX = "MEET_"
# No command has it: a parser that complains of nothing else took all the rest.
UNKNOWN_FLAG = "--no-command-has-this-flag"
COMPLAINT = "unrecognized arguments: "
LOOPBACK = ("127.", "::1", "localhost")
# What other programs read in the image: Python, pip, the loader of models, OpenMP.
OTHER_VARIABLES = {
    "HF_HOME",
    "HOME",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "PATH",
    "PIP_DISABLE_PIP_VERSION_CHECK",
    "PIP_NO_CACHE_DIR",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONUNBUFFERED",
}

Main = Callable[[Sequence[str]], object]


@cache
def project() -> dict[str, object]:
    """The table `project` of pyproject.toml."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert isinstance(found, dict)
    return found


def problems(workload: Workload, routes: frozenset[str], files: Mapping[str, str]) -> list[str]:
    """What the container would stumble over, a sentence each; `files` are in the image."""
    found = [
        *command_problems(workload.command),
        *variable_problems(workload.environment),
        *path_problems(workload, files),
    ]
    if workload.command[0] == "meet-serve" and not found:
        found += server_problems(workload, routes)
    return [f"{workload.name}: {one}" for one in found]


def command_problems(words: Sequence[str]) -> list[str]:
    """What the command's own parser says of the words."""
    if words[0] == "sh":
        checked = subprocess.run(
            ["sh", "-n", *words[1:]], capture_output=True, text=True, check=False
        )
        return checked.stderr.splitlines()
    program = module_of(words)
    if program is None:
        return [f"no such command: {' '.join(words[:3])}"]
    module, function, arguments = program
    main: Main = getattr(import_module(module), function)
    said = io.StringIO()
    with redirect_stderr(said), suppress(SystemExit):
        main([*arguments, UNKNOWN_FLAG])
    last = said.getvalue().splitlines()[-1]
    return [] if last.partition(COMPLAINT)[2] == UNKNOWN_FLAG else [last]


def module_of(words: Sequence[str]) -> tuple[str, str, list[str]] | None:
    """Module, function and arguments of a command of the project."""
    scripts = project()["scripts"]
    assert isinstance(scripts, dict)
    if words[0] in scripts:
        module, _, function = scripts[words[0]].partition(":")
        return module, function, list(words[1:])
    if list(words[:2]) == ["python", "-m"] and _package(words[2]).joinpath("__main__.py").is_file():
        return f"{words[2]}.__main__", "main", list(words[3:])
    return None


def _package(dotted: str) -> Path:
    return ROOT.joinpath(*dotted.split("."))


def variable_problems(environment: Mapping[str, str]) -> list[str]:
    """Names that nothing reads, and values that the settings refuse."""
    unknown = [
        f"nothing reads the variable {name}"
        for name in environment
        if not (is_setting(name) if name.startswith(PREFIX) else name in OTHER_VARIABLES)
    ]
    return unknown or setting_problems(environment, {"index": "/index"})


def is_setting(name: str) -> bool:
    """Whether `MEET_A__B` names a field of the settings, or one of a field's."""
    model: object = ServiceSettings
    for part in name.removeprefix(PREFIX).lower().split("__"):
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return False
        if part not in model.model_fields:
            return False
        model = _model_in(model.model_fields[part].annotation)
    return True


def _model_in(annotation: object) -> object:
    """The model of a field, where it may be None, too."""
    models = [one for one in get_args(annotation) if isinstance(one, type)]
    return next((one for one in models if issubclass(one, BaseModel)), annotation)


def setting_problems(environment: Mapping[str, str], flags: Mapping[str, str]) -> list[str]:
    """What the settings say of values that are out of their range."""
    try:
        settings(environment, flags)
    except ValidationError as error:
        return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return []


def settings(environment: Mapping[str, str], flags: Mapping[str, str]) -> ServiceSettings:
    """The settings of a server with just these variables and flags."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ServiceSettings.model_fields:
            patch.delenv(f"{PREFIX}{name.upper()}", raising=False)
        for name, value in environment.items():
            if name.startswith(PREFIX):
                patch.setenv(name, value)
        return ServiceSettings(**flags)  # type: ignore[arg-type]


def settings_of(workload: Workload) -> ServiceSettings:
    """The settings that a container's server ends up with."""
    return settings(workload.environment, flags_of(workload.command))


def flags_of(words: Sequence[str]) -> dict[str, str]:
    """The flags of meet-serve by the names of their settings."""
    pairs = ((flag, value) for flag, value in pairwise(words) if flag.startswith("--"))
    named = ((flag[2:].replace("-", "_"), value) for flag, value in pairs)
    return {name: value for name, value in named if name in ServiceSettings.model_fields}


def path_problems(workload: Workload, files: Mapping[str, str]) -> list[str]:
    """Paths that are neither in a volume nor in the image, and outputs that cannot be written."""
    words = () if workload.command[0] == "sh" else workload.command
    found = [
        f"{word} is in no volume and not in the image"
        for word in words
        if word.startswith("/") and workload.mount(word) is None and word not in files
    ]
    mount = workload.mount(workload.value("--out")) if "--out" in words else None
    if mount is not None and not mount.writable:
        found.append(f"{mount.path} cannot be written")
    return found


def server_problems(workload: Workload, routes: frozenset[str]) -> list[str]:
    """Ports that nothing listens on, and probes of paths that the app does not have."""
    flags = flags_of(workload.command)
    found = setting_problems(workload.environment, flags)
    if found:
        return found
    told = settings(workload.environment, flags)
    if told.host.startswith(LOOPBACK):
        found.append(f"it listens on {told.host} alone, which nobody else reaches")
    ports = {*workload.ports, *(probe.port for probe in workload.probes)}
    found += [f"port {one} is not {told.port}, where it listens" for one in ports - {told.port}]
    asked = {probe.path for probe in workload.probes}
    return found + [f"the app has no GET {path}" for path in asked - routes]


def redis_problems(workload: Workload, addresses: set[tuple[str, int]]) -> list[str]:
    """A Redis at an address that nothing has."""
    url = settings_of(workload).redis_url
    if url is None:
        return [f"{workload.name}: it is told of no Redis"]
    parts = urlsplit(url.get_secret_value())
    if (parts.hostname, parts.port) in addresses:
        return []
    return [f"{workload.name}: nothing is at {parts.hostname}:{parts.port}"]
