"""What a build was asked for: one frozen, validated value."""

import re
from enum import StrEnum
from pathlib import Path

from pydantic import Field, JsonValue

from model.artifact.store import KEEP_VERSIONS
from model.core.errors import InputError
from model.core.types import Frozen
from model.data.selection import BANK_SIZE

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
MAX_BAD_SHARE, MAX_BAD_FLOOR = 0.01, 10
MAX_Z, MAX_BITS = 4096, 1024  # a list of z and a rotation of K by K have to fit into memory
MAX_SEED = 2**31 - 1  # k-means takes no larger one


class ListsChoice(StrEnum):
    """Where reverse lists go: the disk, nowhere until asked for, or by the disk budget."""

    AUTO = "auto"
    STORED = "stored"
    LAZY = "lazy"


class BuildOptions(Frozen):
    """Everything `meet-build` can be told.

    `max_bad` None stands for 1 % of the records, but at least 10; `pillar` and `learned`
    None for whatever the checkpoint has.
    """

    gallery: str
    encoder: str
    out: Path
    bank: str | None = None
    bank_size: int = Field(default=BANK_SIZE, ge=1)
    lists: ListsChoice = ListsChoice.AUTO
    lists_budget: int = Field(default=4 << 30, ge=0)
    z: int = Field(default=128, ge=1, le=MAX_Z)
    shard_size: int = Field(default=4096, ge=1)
    batch_size: int = Field(default=64, ge=1)
    device: str = "cpu"
    max_bad: int | None = Field(default=None, ge=0)
    thumbnails: bool = True
    pillar: bool | None = None
    learned: bool | None = None
    keep_versions: int = Field(default=KEEP_VERSIONS, ge=1)
    bits: int = Field(default=64, ge=8, le=MAX_BITS, multiple_of=8)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)

    def allowed_bad(self, n_records: int) -> int:
        """How many records may be skipped before the build fails."""
        if self.max_bad is not None:
            return self.max_bad
        return max(MAX_BAD_FLOOR, int(MAX_BAD_SHARE * n_records))

    def shaping(self) -> dict[str, JsonValue]:
        """The options that change what a version holds."""
        lists = {"lists", "lists_budget", "z", "pillar", "learned"}
        names = {"bank", "bank_size", "thumbnails", "bits", "seed"}
        return self.model_dump(mode="json", include=lists | names)


class EvaluateOptions(Frozen):
    """Everything `meet-build evaluate` can be told beside the version.

    `sample` None stands for as many queries as a build measures with.
    """

    sample: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)


def parse_size(text: str) -> int:
    """Bytes of a size such as `4GiB`, `500MB` or `1000`.

    Raises:
        InputError: no such size.
    """
    match = re.fullmatch(r"([\d.]+)\s*([kmg]i?)?b?", text.strip().lower())
    try:
        return int(float(match[1]) * UNITS[match[2] or ""]) if match else _refuse(text)
    except (ValueError, OverflowError):
        return _refuse(text)


def _refuse(text: str) -> int:
    raise InputError(f"a size is a number and a unit such as 4GiB, got {text!r}")
