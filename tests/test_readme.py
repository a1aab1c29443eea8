"""The README's commands run as they stand there, on small made-up data.

What is changed on the way: `make` only says what it would do, for `make test` would run these
tests again, and `.ci/run` makes both, the demo with `SMOKE=1`; `.venv/bin` commands are called in
this process; training is one short epoch of small towers; the server takes a free port, which
the curl lines then ask; `openai/clip-vit-base-patch32` is a folder with a tiny random CLIP.
"""

import argparse
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.smoke import announced_url
from index_builder.scenes.generate import generate_gallery
from index_builder.scenes.split import SceneSplit
from tests.support.tiny_models import save_tiny_clip

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

SHORT_HEADS = ["--heads-epochs", "1"]
SHORT_VSE = ["--epochs", "1", "--embedding-dim", "32", "--gru-dim", "16", *SHORT_HEADS]
TARGETS = ("demo", "demo SMOKE=1", "test", "check", "format", "venv", "bundled", "clean", "help")
WORDS = ("a", "red", "small", "dog", "cat", "runs", "sits", "on", "under", "the", "snow")


def readme_commands() -> list[str]:
    """The lines of all sh blocks, in order."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


COMMANDS = readme_commands()
TRAINING = [["vse"], ["heads"], ["learned"], ["pillar"], ["import"]]
SHORT = {"vse": SHORT_VSE, "heads": SHORT_HEADS, "learned": ["--folds", "2", "--steps", "5"]}


@dataclass
class World:
    """The folder that the commands run in, and the server that one of them starts."""

    folder: Path
    url: str = ""
    servers: list[subprocess.Popen[str]] = field(default_factory=list)
    done: int = 0

    def run_until(self, position: int) -> None:
        """Run the README's lines that did not run yet, to this one: each needs those before it."""
        for command in COMMANDS[self.done : position + 1]:
            sys.stdout.write(f"$ {command}\n")  # shown with a failure
            self.run(command)
            self.done += 1

    def run(self, command: str) -> None:
        """Run one line of the README, which must succeed."""
        words = shlex.split(command)
        if words[0] == "make":
            subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        elif words[0] == "curl":
            self._curl(words[1:])
        elif words[0] == ".venv/bin/meet-serve":
            self._serve(words[1:])
        else:
            self._call(words[0].removeprefix(".venv/bin/"), words[1:])

    def _call(self, script: str, arguments: list[str]) -> None:
        module, _, function = SCRIPTS[script].partition(":")
        arguments = [self._current() if word == "VERSION" else word for word in arguments]
        if script == "meet-train":
            arguments += SHORT[arguments[0]]
        assert getattr(import_module(module), function)(arguments) == 0

    def _current(self) -> str:
        return (self.folder / "photo-index/CURRENT").read_text().strip()

    def _serve(self, arguments: list[str]) -> None:
        command = [sys.executable, "-m", "service.cli", *arguments, "--port", "0"]
        server = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, text=True)
        self.servers.append(server)
        self.url = announced_url(server)

    def _curl(self, words: list[str]) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("url")
        parser.add_argument("-s", action="store_true")
        parser.add_argument("-o", type=Path)
        parser.add_argument("-H", dest="headers", action="append", default=[])
        parser.add_argument("-d", dest="body")
        parser.add_argument("-F", dest="form", action="append", default=[])
        told = parser.parse_args(words)
        pairs = [part.split("=", 1) for part in told.form]
        response = httpx.request(
            "POST" if told.body or told.form else "GET",
            told.url.replace("localhost:8000", self.url),
            headers=[tuple(header.split(": ", 1)) for header in told.headers],
            content=told.body,
            data={name: value for name, value in pairs if value[0] != "@"},
            files={n: (self.folder / v[1:]).read_bytes() for n, v in pairs if v[0] == "@"} or None,
            timeout=60,
        )
        assert response.status_code == 200, response.text
        assert response.content


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("readme")
    save_tiny_clip(folder / "openai/clip-vit-base-patch32")
    _save_photos(folder / "photos")
    generate_gallery(folder / "data/captioned", SceneSplit.TRAIN, n_scenes=40, seed=5)
    for split, count in (("train", 60), ("dev", 20)):
        _save_precomp(folder / "data/f8k_precomp", split, count)
    made = World(folder)
    yield made
    for server in made.servers:
        server.terminate()
        server.communicate(timeout=20)


def _save_photos(folder: Path) -> None:
    """Scenes beside the README's own example of a manifest."""
    example = re.search(r"photos/manifest.jsonl\n(\{.*\})", README)
    assert example is not None
    scenes = generate_gallery(folder, SceneSplit.DEMO, n_scenes=30, seed=5)
    lines = scenes.read_text().splitlines()
    (folder / "2024").mkdir()
    (folder / "images/demo-00000.jpg").rename(folder / "2024/beach.jpg")
    (folder / "manifest.jsonl").write_text("\n".join([example[1], *lines[1:]]))


def _save_precomp(folder: Path, split: str, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(count)
    np.save(folder / f"{split}_ims.npy", draw.normal(size=(count, 4, 8)).astype(np.float32))
    captions = [" ".join(draw.choice(WORDS, 6)) for _ in range(5 * count)]
    (folder / f"{split}_caps.txt").write_text("\n".join(captions) + "\n")


@pytest.mark.slow
@pytest.mark.parametrize("position", range(len(COMMANDS)), ids=COMMANDS)
def test_a_command_of_the_readme_runs(
    world: World, position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.folder)
    world.run_until(position)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_that_the_readme_names_exists(
    script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = re.search(rf"^\| `{script}.*?\n\n", README, flags=re.DOTALL | re.MULTILINE)
    assert table is not None
    named = set(re.findall(r"`(--[\w-]+)", table[0]))
    module, _, function = SCRIPTS[script].partition(":")
    for arguments in TRAINING if script == "meet-train" else [[]]:
        with pytest.raises(SystemExit):
            getattr(import_module(module), function)([*arguments, "--help"])
    assert named <= set(re.findall(r"--[\w-]+", capsys.readouterr().out))


def test_every_folder_of_the_readme_s_tree_exists() -> None:
    tree = README.split("## Folders")[1].split("```")[1]
    parent = ""
    for line in tree.strip().splitlines():
        name = line.split()[0]
        parent = parent if line.startswith(" ") else name
        place = ROOT / parent / name if line.startswith(" ") else ROOT / name
        assert place.exists(), f"the README names {name}"


@pytest.mark.parametrize(
    "target",
    [
        "demo",
        "demo SMOKE=1",
        "test",
        "check",
        "format",
        "venv",
        "bundled",
        "screenshots",
        "clean",
        "help",
    ],
)
def test_every_make_target_says_what_it_would_do(target: str) -> None:
    """A dry run: a real `make test` in here would start itself; `.ci/run` makes the real ones."""
    command = ["make", "-n", *target.split()]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert said.stdout.strip()
