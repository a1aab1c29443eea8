"""What a version is: one frozen, validated value beside its files."""

import json
from enum import StrEnum
from pathlib import Path

from pydantic import JsonValue, ValidationError

from model.artifact.files import replace_file
from model.core.errors import ArtifactError
from model.core.types import CandidateBudget, Frozen, Modality
from model.encoders.protocols import EncoderIdentity
from model.heads.heads import HeadsConfig
from model.rerankers.weights import StageTwo

SCHEMA_VERSION = 1


class ListsKind(StrEnum):
    """Where the reverse lists of an index are."""

    STORED = "stored"
    LAZY = "lazy"
    NONE = "none"


class HeadsSource(StrEnum):
    """Whether the heads were trained, or fitted to the gallery without training."""

    TRAINED = "trained"
    FITTED = "fitted"


OWN_BANK = "gallery"


class BankInfo(Frozen):
    """The background that reverse ranks are measured against."""

    source: str
    sizes: dict[Modality, int]
    seed: int
    z: int


class PillarInfo(Frozen):
    """How many neighbours of each kind are stored of every item, and what the networks saw."""

    neighbours: int
    trained_on: str


class LearnedInfo(Frozen):
    """What the networks of the learned re-ranker saw."""

    trained_on: str


class Manifest(Frozen):
    """Everything about a version that its arrays do not say themselves.

    `gallery` is the folder that relative sources of items lie below; `build_key` tells two
    builds of the same inputs and options; `skipped` counts the gallery's records in `report.json`.
    """

    schema_version: int = SCHEMA_VERSION
    version: str
    created: str
    build_key: str
    gallery: str
    layout: str
    encoder: EncoderIdentity
    heads: HeadsConfig
    heads_digest: str
    heads_source: HeadsSource
    counts: dict[Modality, int]
    skipped: int
    thumbnails: bool
    bank: BankInfo
    lists: ListsKind
    pillar: PillarInfo | None = None
    learned: LearnedInfo | None = None
    budget: CandidateBudget
    stage_two: StageTwo
    options: dict[str, JsonValue]
    quality: dict[str, JsonValue]
    seconds: dict[str, float]

    @property
    def embedding_dim(self) -> int:
        """D."""
        return self.heads.embedding_dim

    def save(self, path: Path) -> None:
        """Write the manifest, readable."""
        replace_file(path, (self.model_dump_json(indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """The manifest of a version.

        Raises:
            ArtifactError: missing, no manifest, or of another schema version.
        """
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f"{path} cannot be read: {error}") from error
        found = content.get("schema_version") if isinstance(content, dict) else None
        if found != SCHEMA_VERSION:
            raise ArtifactError(
                f"{path} has schema version {found}, this release reads {SCHEMA_VERSION}"
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(str(part) for part in fault["loc"])
            raise ArtifactError(f"{path} is no manifest: {place}: {fault['msg']}") from error
