"""A Dockerfile as a value: as much of the format as `docker/Dockerfile` uses."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Instruction:
    """One instruction; continued lines are one."""

    name: str
    rest: str

    @property
    def words(self) -> list[str]:
        """Words of the exec form, or of a plain line without its flags."""
        if self.rest.startswith("["):
            return [str(word) for word in json.loads(self.rest)]
        return [word for word in shlex.split(self.rest) if not word.startswith("--")]

    def flag(self, name: str) -> str | None:
        """The value of `--name=value`."""
        found = re.search(rf"--{name}=(\S+)", self.rest)
        return found[1] if found else None


@dataclass(frozen=True)
class Stage:
    """What follows one FROM."""

    base: str
    name: str
    instructions: tuple[Instruction, ...]

    def all(self, name: str) -> list[Instruction]:
        return [one for one in self.instructions if one.name == name]

    def last(self, name: str) -> Instruction:
        return self.all(name)[-1]


@dataclass(frozen=True)
class Dockerfile:
    """All stages; the last one is the image."""

    stages: tuple[Stage, ...]

    @classmethod
    def parse(cls, text: str) -> "Dockerfile":
        groups: list[list[Instruction]] = []
        for one in _instructions(text):
            if one.name == "FROM":
                groups.append([one])
            elif groups:
                groups[-1].append(one)
        return cls(tuple(_stage(group[0], group[1:]) for group in groups))

    def stage(self, name: str) -> Stage:
        return next(one for one in self.stages if one.name == name)

    @property
    def image(self) -> Stage:
        return self.stages[-1]

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """ENV of the image, that of the stages it is from included."""
        return self._environment(self.image)

    def _environment(self, stage: Stage) -> dict[str, str]:
        bases = [one for one in self.stages if one.name == stage.base]
        found = self._environment(bases[0]) if bases else {}
        for one in stage.all("ENV"):
            found |= dict(word.split("=", 1) for word in shlex.split(one.rest))
        return found

    @property
    def copied(self) -> dict[str, str]:
        """Where the image has what of the build context: container path → context path."""
        copies = [one.words for one in self.image.all("COPY") if one.flag("from") is None]
        return {target: source for source, target in copies}

    @property
    def healthcheck(self) -> list[str]:
        """The words that the health check runs."""
        _, _, command = self.image.last("HEALTHCHECK").rest.partition("CMD ")
        return [str(word) for word in json.loads(command)]


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", "").splitlines():
        name, _, rest = line.strip().partition(" ")
        if name:
            yield Instruction(name.upper(), rest.strip())


def _stage(head: Instruction, rest: list[Instruction]) -> Stage:
    base, *named = head.words
    return Stage(base, named[1] if named else "", tuple(rest))
