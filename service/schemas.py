"""What requests and answers look like on the wire."""

from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, model_validator

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
        description="items that are re-ranked (never fewer than k), up to the index's "
        "`limits.max_candidates`; else what its `budget` says",
    )
    timeout_ms: int | None = Field(
        default=None,
        ge=1,
        description="time for the answer, at most the index's `limits.max_timeout_ms`, which is "
        "also the default; where it is short the answer says in `degraded` what was left out",
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


class ImageUpload(SearchFields):
    """A search for captions by a file in a form."""

    image: bytes = Field(json_schema_extra={"type": "string", "format": "binary"})


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
    metadata: dict[str, JsonValue]
    explanation: Explanation | None = None


class SearchAnswer(Answer):
    """The hits of one search, best first."""

    index_version: str
    direction: Direction
    rerank: str = Field(description="how the hits were ordered in the end")
    degraded: list[str] = Field(
        description="what the time did not allow, in the order it is given up: the re-ranking "
        "asked for, the relationship, the number of candidates"
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
