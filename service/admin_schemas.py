"""What those who run a server send and get."""

from pydantic import Field

from model.core.types import Frozen, RerankMode
from service.schemas import Answer

MOST_QUERIES = 1_000_000


class Activate(Frozen):
    """Which version is to be served."""

    version: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="a version of the index, which is published as well; else what is published",
    )


class ActivateAnswer(Answer):
    """What is served now."""

    version: str
    previous: str = Field(description="the version before; the same where nothing changed")
    seconds: float


class Evaluate(Frozen):
    """How much of the gallery is asked for itself."""

    queries: int = Field(
        default=1000, ge=1, le=MOST_QUERIES, description="at most so many queries a direction"
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="which ones, where there are more")


class EvaluateAnswer(Answer):
    """R@1, R@5, R@10 in percent of the gallery's own pairs, and their sum."""

    index_version: str
    rerank: RerankMode = Field(description="the index's default, which was asked")
    queries: dict[str, int] = Field(description="how many were asked, by direction")
    i2t: tuple[float, float, float]
    t2i: tuple[float, float, float]
    rsum: float
    seconds: float
