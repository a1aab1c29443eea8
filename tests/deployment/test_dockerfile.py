import os
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.deployment.commands import ROOT, command_problems, project, variable_problems
from tests.deployment.conftest import Served
from tests.deployment.dockerfile import Dockerfile, Instruction

PATH = ROOT / "docker/Dockerfile"
HADOLINT = Path(sys.executable).parent / "hadolint"
EXTRAS = ("cpu", "gpu")


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([HADOLINT, PATH], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("USER 10001:10001", "USER root", "DL3002"),
        ("--constraint constraints.txt hatchling", "hatchling", "DL3013"),
        ("WORKDIR /tmp", "WORKDIR tmp", "DL3000"),
        ('"$EXTRA" in', "$EXTRA in $EXTRA", "SC1"),
    ],
)
def test_hadolint_would_have_found_it(tmp_path: Path, old: str, new: str, rule: str) -> None:
    text = PATH.read_text()
    assert old in text
    (tmp_path / "Dockerfile").write_text(text.replace(old, new))
    command = [HADOLINT, tmp_path / "Dockerfile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert rule in done.stdout


def runs(dockerfile: Dockerfile, stage: str, part: str) -> Instruction:
    """The one RUN of a stage that has this part."""
    [found] = [one for one in dockerfile.stage(stage).all("RUN") if part in one.rest]
    return found


def run(line: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a RUN line here, with a `pip` that only says what it was asked for."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "pip").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tools / "pip").chmod(0o755)
    (tools / "python").unlink(missing_ok=True)
    (tools / "python").symlink_to(sys.executable)
    path = f"{tools}:{os.defpath}"
    return subprocess.run(
        ["sh", "-c", line],
        cwd=folder,
        env={"PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("extra", "status"), [("cpu", 0), ("gpu", 0), ("dev", 1), ("", 1)])
def test_extra_is_cpu_or_gpu(
    dockerfile: Dockerfile, tmp_path: Path, extra: str, status: int
) -> None:
    done = run(runs(dockerfile, "dependencies", "case").rest, tmp_path, EXTRA=extra)
    assert done.returncode == status
    assert done.stderr == ("" if not status else f"EXTRA is cpu or gpu, got '{extra}'\n")


@pytest.mark.parametrize("url", ["", "https://torch.example/whl/cpu"])
def test_torch_comes_from_the_index_that_was_named(
    dockerfile: Dockerfile, tmp_path: Path, url: str
) -> None:
    line = runs(dockerfile, "dependencies", "TORCH_INDEX_URL").rest
    said = run(line, tmp_path, TORCH_INDEX_URL=url).stdout.split()
    named = ["--index-url", url] if url else []
    assert said == ["install", "--constraint", "constraints.txt", "--no-deps", *named, "torch"]


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_rest_is_what_the_project_names(
    dockerfile: Dockerfile, tmp_path: Path, extra: str
) -> None:
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    done = run(runs(dockerfile, "dependencies", "tomllib").rest, tmp_path, EXTRA=extra)
    said = ["install", "--constraint", "constraints.txt", "--requirement", "requirements.txt"]
    assert done.stdout.split() == said
    assert (tmp_path / "requirements.txt").read_text().split() == requirements(extra)


def requirements(extra: str) -> list[str]:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*told["dependencies"], *told["optional-dependencies"][extra]]


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_direct_requirement_is_pinned_to_one_that_fits(extra: str) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    for requirement in map(Requirement, requirements(extra)):
        assert pins[requirement.name] in requirement.specifier


def test_every_install_is_under_the_constraints_or_of_our_own_wheel(
    dockerfile: Dockerfile,
) -> None:
    installs = [
        one.rest
        for stage in dockerfile.stages
        for one in stage.all("RUN")
        if "pip install" in one.rest
    ]
    assert len(installs) == 4
    for one in installs:
        assert "--constraint constraints.txt" in one or "--no-deps --no-index /dist/" in one


def test_the_python_of_the_image_is_one_that_the_project_takes(dockerfile: Dockerfile) -> None:
    told = re.search(r"^ARG PYTHON_VERSION=(\S+)", PATH.read_text(), re.MULTILINE)
    assert told is not None
    assert told[1] in SpecifierSet(str(project()["requires-python"]))
    assert dockerfile.stage("base").base == "python:${PYTHON_VERSION}-slim-bookworm"


def test_the_wheel_is_built_from_all_that_it_needs(dockerfile: Dockerfile) -> None:
    copied = {name for one in dockerfile.stage("wheel").all("COPY") for name in one.words[:-1]}
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(told["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    files = {told["project"]["readme"], *told["project"]["license-files"], "pyproject.toml"}
    assert copied == packages | files | {"constraints.txt"}


def ignored(name: str) -> bool:
    """Whether the build context lacks a path: the last pattern that it matches decides."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    matching = [one for one in patterns if matches(one.removeprefix("!"), name)]
    return bool(matching) and not matching[-1].startswith("!")


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern fits the path or a folder above it; `**/` lets it begin anywhere."""
    parts = name.split("/")
    starts = range(len(parts)) if pattern.startswith("**/") else [0]
    places = ["/".join(parts[i:j]) for i in starts for j in range(i + 1, len(parts) + 1)]
    plain = pattern.removeprefix("**/")
    return any(fnmatch(one, plain) for one in places if one.count("/") == plain.count("/"))


def test_what_is_copied_is_in_the_build_context(dockerfile: Dockerfile) -> None:
    sources = {
        source
        for stage in dockerfile.stages
        for one in stage.all("COPY")
        if one.flag("from") is None
        for source in one.words[:-1]
    }
    assert len(sources) == 8
    for source in sources:
        assert (ROOT / source).exists()
        assert not ignored(source)


@pytest.mark.parametrize(
    "name", [".git/config", ".env", "demo/index/CURRENT", "data/x", "tests/conftest.py", ".venv/x",
             "service/__pycache__/cli.pyc", "service/cli.pyc", "Makefile"]
)  # fmt: skip
def test_the_build_context_lacks_what_the_image_is_not_made_of(name: str) -> None:
    assert ignored(name)


def test_copies_between_stages_name_a_stage(dockerfile: Dockerfile) -> None:
    [copy] = [one for one in dockerfile.image.all("COPY") if one.flag("from")]
    source, target = copy.words
    assert source == target == "/opt/meet"
    assert dockerfile.stage(copy.flag("from") or "")
    [mount] = re.findall(
        r"--mount=type=bind,from=(\w+),source=(\S+),", str(dockerfile.image.all("RUN"))
    )
    assert dockerfile.stage(mount[0]).last("RUN").rest.endswith(f"--wheel-dir {mount[1]} .")


def test_the_image_runs_a_command_as_nobody_special(dockerfile: Dockerfile) -> None:
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", dockerfile.image.last("USER").rest)
    assert command_problems(dockerfile.image.last("CMD").words) == []


def test_the_image_brings_settings_that_exist(dockerfile: Dockerfile, served: Served) -> None:
    told = dockerfile.environment
    assert variable_problems(told) == []
    assert told["OMP_WAIT_POLICY"] == "PASSIVE"
    assert told["MEET_HOST"] == "0.0.0.0"
    assert [told["MEET_PORT"]] == dockerfile.image.last("EXPOSE").words
    [path] = re.findall(r"'GET', '([^']+)'", dockerfile.healthcheck[-1])
    assert path in served.routes


def test_the_bundled_encoder_is_in_the_image(dockerfile: Dockerfile) -> None:
    [(_, source)] = dockerfile.copied.items()
    assert (ROOT / source / "encoder.json").is_file()
