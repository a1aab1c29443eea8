"""A typed client of the HTTP API, blocking and for asyncio; needs neither torch nor an index.

    with MeetClient("http://localhost:8000") as client:
        for hit in client.search_text("two dogs", k=5).hits:
            print(hit.rank, hit.score, hit.id)

`AsyncMeetClient` has the same methods to await.
"""

from service.client.calls import (
    Call,
    ImageQuery,
    PictureFile,
    QueryParams,
    SearchParams,
    TextQuery,
)
from service.client.clients import AsyncMeetClient, ClientOptions, MeetClient
from service.client.errors import (
    AccessRefusedError,
    ClientError,
    ForeignAnswerError,
    NotFoundError,
    ProblemError,
    RequestRefusedError,
    ServerFaultError,
    TimedOutError,
    UnavailableError,
    UnreachableError,
)
from service.client.retrying import RetryPolicy
from service.schemas import (
    Explanation,
    Hit,
    IndexAnswer,
    ItemAnswer,
    Problem,
    SearchAnswer,
    WhyNot,
)

__all__ = [
    "AccessRefusedError",
    "AsyncMeetClient",
    "Call",
    "ClientError",
    "ClientOptions",
    "Explanation",
    "ForeignAnswerError",
    "Hit",
    "ImageQuery",
    "IndexAnswer",
    "ItemAnswer",
    "MeetClient",
    "NotFoundError",
    "PictureFile",
    "Problem",
    "ProblemError",
    "QueryParams",
    "RequestRefusedError",
    "RetryPolicy",
    "SearchAnswer",
    "SearchParams",
    "ServerFaultError",
    "TextQuery",
    "TimedOutError",
    "UnavailableError",
    "UnreachableError",
    "WhyNot",
]
