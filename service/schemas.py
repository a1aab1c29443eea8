"""What requests and answers look like on the wire."""

import json
from typing import Annotated, ClassVar, Self, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    InstanceOf,
    JsonValue,
    WrapValidator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from model.core.types import CandidateBudget, Fate, Frozen, InputKind, Modality, RerankMode, Way
from service.errors import Violation
from service.limits import Limits
from service.refusals import Refused, one_rule, or_refused

MAX_VECTOR_VALUES = 65_536
MAX_TEXTS = 16
MAX_WHY_NOT = 16
WEIGHT = 0.5
Vector = Annotated[
    list[FiniteFloat], Field(min_length=1, max_length=MAX_VECTOR_VALUES, fail_fast=True)
]
Texts = Annotated[
    str | Annotated[list[str], Field(max_length=MAX_TEXTS)],
    WrapValidator(one_rule(f"Input should be a text or a list of at most {MAX_TEXTS} texts")),
]
Weight = Annotated[FiniteFloat, Field(ge=0, le=1)]


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
        description="time for the answer, up to the index's `limits.max_timeout_ms`, which is also "
        "the default; where it is short the answer says in `degraded` what was left out",
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
    why_not: list[str] | None = Field(
        default=None,
        max_length=MAX_WHY_NOT,
        description="ids of items that were expected: which stage dropped each, and where it stood",
    )


class Shift(Frozen):
    """Query arithmetic: unit(query + plus_weight · mean(plus) - minus_weight · mean(minus)).

    Query and texts are unit embeddings, so `{"query": "a beach", "minus": "people"}` looks for
    beaches away from people. A result without a direction is 422.
    """

    plus: Texts | None = Field(default=None, description="a text or a list: the query moves there")
    minus: Texts | None = Field(default=None, description="a text or a list: it moves away")
    plus_weight: Weight = Field(default=WEIGHT, description="how far, 0 to 1")
    minus_weight: Weight = Field(default=WEIGHT, description="how far, 0 to 1")


class QueryFields(Shift):
    """A query: exactly one of several fields."""

    choices: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _has_one_query(self) -> Self:
        given = [name for name in self.choices if getattr(self, name) is not None]
        if len(given) != 1:
            told = " and ".join(f"`{name}`" for name in given)
            got = f"{told} were given" if given else "none was given"
            wanted = ", ".join(f"`{name}`" for name in self.choices)
            raise ValueError(f"exactly one of {wanted} is needed, {got}")
        return self


class TextQueryFields(QueryFields):
    """A query for images: exactly one of `query`, `id` and `vector`."""

    choices: ClassVar[tuple[str, ...]] = ("query", "id", "vector")

    query: str | None = Field(default=None, examples=["two dogs run over the grass"])
    id: str | None = Field(default=None, description="the id of a caption of the gallery")
    vector: Vector | None = Field(default=None, description="an embedding of D values")


class ImageQueryFields(QueryFields):
    """A query for captions: exactly one of `image`, `id` and `vector`."""

    choices: ClassVar[tuple[str, ...]] = ("image", "id", "vector")

    image: str | None = Field(
        default=None, description="an image file in base64, or a data URL of one"
    )
    id: str | None = Field(default=None, description="the id of an image of the gallery")
    vector: Vector | None = Field(default=None, description="an embedding of D values")


Kept: TypeAlias = SkipJsonSchema[InstanceOf[Refused]]
TextEntry = Annotated[str | TextQueryFields | Kept, WrapValidator(or_refused)]
ImageEntry = Annotated[str | ImageQueryFields | Kept, WrapValidator(or_refused)]
MANY = (
    "several queries that share the other fields, up to the index's `limits.max_queries`; the "
    "answer is then `answers`, in their order. An entry that cannot be answered holds a problem "
    "document in its place. "
)


class TextSearch(SearchFields, TextQueryFields):
    """A search for images: exactly one of `query`, `id`, `vector` and `queries`."""

    choices: ClassVar[tuple[str, ...]] = (*TextQueryFields.choices, "queries")

    queries: list[TextEntry] | None = Field(
        default=None, min_length=1, description=f"{MANY}A string is a text"
    )


class ImageSearch(SearchFields, ImageQueryFields):
    """A search for captions: exactly one of `image`, `id`, `vector` and `queries`."""

    choices: ClassVar[tuple[str, ...]] = (*ImageQueryFields.choices, "queries")

    queries: list[ImageEntry] | None = Field(
        default=None, min_length=1, description=f"{MANY}A string is the id of an image"
    )


def _from_text(value: object) -> object:
    """What a form's text says as JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise ValueError("Input should be a JSON object") from error


class ImageUpload(SearchFields, Shift):
    """A search for captions by a file in a form; lists and objects are sent as JSON."""

    image: bytes = Field(json_schema_extra={"type": "string", "format": "binary"})
    filter: Annotated[dict[str, JsonValue] | None, BeforeValidator(_from_text)] = Field(
        default=None, description="conditions on metadata, as JSON"
    )


class SimilarSearch(SearchFields, Shift):
    """A search for more like an item of the gallery, by its stored embedding."""

    id: str = Field(description="the id of an image or caption")
    to: Modality | None = Field(
        default=None, description="what is looked for; without it items of the same kind"
    )


class Answer(BaseModel):
    """What a server says; frozen, for the client hands the same objects out."""

    model_config = ConfigDict(frozen=True)


Rank = Annotated[
    int, Field(description="0-based: the best of all hits has 0, the first of a page its `offset`")
]
StageRank = Annotated[int, Field(description="0-based: 0 is the best of the stage")]


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
    rank_after_hash: StageRank
    rank_after_pq: StageRank
    rank_after_rerank: StageRank


class Hit(Answer):
    """One item found: rank 0 is best, a higher score is better."""

    id: str
    rank: Rank
    score: float = Field(description="higher is better; comes from whatever `rerank` names")
    caption: str | None = None
    image: str | None = Field(default=None, description="path of the picture on this server")
    calibrated: float | None = Field(
        default=None,
        description="the share of the bank's items that are less similar to the query: how far "
        "the hit stands out, not how likely it is right; left out without a bank",
    )
    metadata: dict[str, JsonValue]
    same_image: bool | None = Field(
        default=None,
        description="in answers about an item of the gallery: true where the hit belongs to the "
        "same image, as its own captions do",
    )
    duplicates: list[str] | None = Field(
        default=None, description="with `collapse`: ids of the candidates that the hit stands for"
    )
    n_duplicates: int | None = Field(
        default=None, description="how many these are; the ids of the first 32 are listed"
    )
    explanation: Explanation | None = None


class WhyNot(Answer):
    """What became of an item that was asked about; ranks are 0-based.

    A value that is left out belongs to a stage that the item did not reach.
    """

    id: str
    fate: Fate = Field(description="`found`, or what kept the item out of the hits")
    hamming_distance: int | None = None
    rank_after_hash: int | None = Field(
        default=None, description="among all items that the search may find"
    )
    kept_by_hash: int | None = Field(default=None, description="how many the stage kept")
    pq_score: float | None = None
    rank_after_pq: int | None = None
    kept_by_pq: int | None = Field(default=None, description="how many the stage kept")
    score: float | None = None
    calibrated: float | None = None
    rank_after_rerank: int | None = None
    represented_by: str | None = Field(
        default=None, description="collapsed: the id of the hit that the item is a duplicate of"
    )


class SearchAnswer(Answer):
    """The hits of one search, best first."""

    index_version: str
    direction: Way
    rerank: str = Field(description="how the hits were ordered in the end")
    degraded: list[str] = Field(
        description="what the time did not allow, in the order it is given up: the re-ranking "
        "asked for, the relationship, the exact search, the number of candidates"
    )
    notices: list[str] | None = Field(
        default=None,
        description="what of the search meant nothing here: a metadata field that no item has such "
        "a value in, a text of which the encoder knows no word; left out where nothing is to say",
    )
    hits: list[Hit]
    milliseconds: dict[str, float] = Field(
        description="time of each stage: decode, queue, encode, hash, pq, rerank, and total"
    )
    why_not: list[WhyNot] | None = Field(
        default=None, description="the fates of the ids in the search's `why_not`, in their order"
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
    accepts: dict[Way, list[str]] = Field(
        description="query fields by direction; inside one modality, `id` by /search/similar"
    )
    options: list[str] = Field(description="fields that every search takes beside its query")
    fields: dict[str, list[str]] = Field(
        default={},
        description="all fields of a search by its route, those that say the query first; an empty "
        "list is a search that this index cannot answer",
    )
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


class Answers(Answer):
    """The answers to several queries, in order; a problem document where there is none."""

    answers: list[SearchAnswer | Problem]
