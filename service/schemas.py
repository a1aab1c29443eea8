"""What requests and answers look like on the wire."""

import json
from typing import Annotated, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    model_validator,
)

from model.core.types import CandidateBudget, Direction, Frozen, InputKind, Modality, RerankMode
from service.errors import Violation
from service.settings import Limits

MAX_VECTOR_VALUES = 65_536
Vector = Annotated[
    list[FiniteFloat], Field(min_length=1, max_length=MAX_VECTOR_VALUES, fail_fast=True)
]


class SearchFields(Frozen):
    """What every search can say beside its query."""

    k: int = Field(default=10, ge=1, description="hits wanted, up to the index's `limits.max_k`")
    explain: bool = Field(default=False, description="show what each stage made of each hit")
    rerank: RerankMode | None = Field(
        default=None, description="one of the index's `rerank`; else its `default_rerank`"
    )
    candidates: int | None = Field(
        default=None,
        ge=1,
        description="items that are re-ranked, up to the index's `limits.max_candidates`; else "
        "what its `budget` says. Hits behind them follow by cosine",
    )
    timeout_ms: int | None = Field(
        default=None,
        ge=1,
        description="time for the answer, at most the index's `limits.max_timeout_ms`, which is "
        "also the default; where it is short the answer says in `degraded` what was left out",
    )
    offset: int = Field(
        default=0,
        ge=0,
        description="hits left out before the first; pages of one ranking fit together as long as "
        "offset + k stays within the index's `limits.max_candidates`",
    )
    filter: dict[str, JsonValue] | None = Field(
        default=None,
        description="conditions on metadata, all to be fulfilled: a field's value, or an object of "
        "`eq`, `in`, `gt`, `gte`, `lt`, `lte`. Numbers compare as numbers, texts by code points "
        "(so do ISO dates), values of other kinds never match. A list fulfils a condition if one "
        "of its elements does, null is a field that is not there, dots reach into objects, `id` "
        "is the item's own; a caption has its image's metadata",
        examples=[{"licence": "CC0", "row": {"gte": 30}}],
    )
    exact: bool = Field(
        default=False,
        description="re-rank every item that the filter leaves, up to the index's "
        "`limits.max_exact`",
    )
    min_score: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="leave out hits whose `calibrated` score is lower; needs a bank",
    )
    collapse: int | None = Field(
        default=None,
        ge=0,
        description="of hits whose hash codes differ in at most so many bits only the best stays",
    )


class QueryFields(SearchFields):
    """A search whose query is exactly one of several fields."""

    choices: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _has_one_query(self) -> Self:
        given = [name for name in self.choices if getattr(self, name) is not None]
        if len(given) != 1:
            wanted = ", ".join(f"`{name}`" for name in self.choices)
            raise ValueError(f"exactly one of {wanted} is needed, got {len(given)}")
        return self


class TextSearch(QueryFields):
    """A search for images: exactly one of `query` and `vector`."""

    choices: ClassVar[tuple[str, ...]] = ("query", "vector")

    query: str | None = Field(default=None, examples=["two dogs run over the grass"])
    vector: Vector | None = Field(default=None, description="an embedding of D values")


class ImageSearch(QueryFields):
    """A search for captions: exactly one of `image`, `id` and `vector`."""

    choices: ClassVar[tuple[str, ...]] = ("image", "id", "vector")

    image: str | None = Field(default=None, description="an image file in base64")
    id: str | None = Field(default=None, description="the id of an image of the gallery")
    vector: Vector | None = Field(default=None, description="an embedding of D values")


def _from_text(value: object) -> object:
    """What a form's text says as JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise ValueError("Input should be a JSON object") from error


class ImageUpload(SearchFields):
    """A search for captions by a file in a form."""

    image: bytes = Field(json_schema_extra={"type": "string", "format": "binary"})
    filter: Annotated[dict[str, JsonValue] | None, BeforeValidator(_from_text)] = Field(
        default=None, description="conditions on metadata, as JSON"
    )


class Answer(BaseModel):
    """What a server says; frozen, for the client hands the same objects out."""

    model_config = ConfigDict(frozen=True)


class Explanation(Answer):
    """What each stage made of a hit; ranks are 0-based."""

    hamming_distance: int
    pq_score: float
    consistency: float
    reverse_rank: int | None = Field(
        default=None, description="left out where no reverse lists were read"
    )
    complementarity: float | None = Field(
        default=None, description="in mode pillar the refined cosine, or 0"
    )
    expansion: float | None = Field(
        default=None, description="left out where no pairs of a bank were asked"
    )
    rank_after_hash: int
    rank_after_pq: int
    rank_after_rerank: int


class Hit(Answer):
    """One item found: rank 0 is best, a higher score is better."""

    id: str
    rank: int
    score: float
    caption: str | None = None
    image: str | None = Field(default=None, description="path of the picture on this server")
    calibrated: float | None = Field(
        default=None,
        description="the share of the bank's items that are less similar to the query: how far "
        "the hit stands out, not how likely it is right; left out without a bank",
    )
    metadata: dict[str, JsonValue]
    duplicates: list[str] | None = Field(
        default=None, description="with `collapse`: ids of the candidates that the hit stands for"
    )
    n_duplicates: int | None = Field(
        default=None, description="how many these are; the ids of the first 32 are listed"
    )
    explanation: Explanation | None = None


class SearchAnswer(Answer):
    """The hits of one search, best first."""

    index_version: str
    direction: Direction
    rerank: str = Field(description="how the hits were ordered in the end")
    degraded: list[str] = Field(
        description="what the time did not allow, in the order it is given up: the re-ranking "
        "asked for, the relationship, the exact search, the number of candidates"
    )
    hits: list[Hit]
    milliseconds: dict[str, float] = Field(
        description="time of each stage: decode, queue, encode, hash, pq, rerank, and total"
    )


class ItemAnswer(Answer):
    """One item of the gallery."""

    id: str
    modality: Modality
    caption: str | None = None
    image_id: str | None = Field(default=None, description="the image that a caption describes")
    image: str | None = Field(default=None, description="path of the picture on this server")
    captions: list[str] = Field(description="ids of the captions of an image")
    metadata: dict[str, JsonValue]


class EncoderAnswer(Answer):
    """Who turns queries into vectors."""

    name: str
    kind: str
    embedding_dim: int
    accepts: list[InputKind]
    digest: str


class IndexAnswer(Answer):
    """The index served, what can be asked of it, and the limits of a request."""

    version: str
    created: str
    encoder: EncoderAnswer
    counts: dict[Modality, int]
    accepts: dict[Direction, list[str]] = Field(description="query fields by direction")
    rerank: list[RerankMode] = Field(description="modes that can be asked for")
    default_rerank: RerankMode
    lists: str = Field(description="where reverse lists come from: stored or lazy")
    budget: CandidateBudget
    quality: dict[str, JsonValue]
    metadata_fields: list[str] = Field(
        default=[], description="fields that filters can ask for, as far as the first items tell"
    )
    limits: Limits


class Status(Answer):
    """A health check's answer."""

    status: str
    index_version: str | None = None


class Problem(Answer):
    """Why a request was not answered (RFC 9457), with a `code` for machines."""

    type: str = Field(examples=["urn:meet:problem:text_rejected"])
    title: str
    status: int
    detail: str
    instance: str = Field(description="the path that was asked for")
    code: str = Field(examples=["text_rejected"])
    request_id: str
    errors: list[Violation] | None = Field(default=None, description="each broken rule")
