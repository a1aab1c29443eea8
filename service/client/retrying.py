"""When a call is tried again, and after how long."""

from typing import Annotated

from pydantic import Field

from model.core.types import Frozen
from service.client.errors import ClientError

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RetryPolicy(Frozen):
    """How often and how long a call that failed for now is tried again.

    What fails for now: 429, 503, and a connection that was refused or dropped. A server that
    answers too slowly is not asked again, that would only add to its load.
    """

    tries: int = Field(default=4, ge=1, le=100, description="in all, with the first one")
    seconds: Seconds = Field(default=30.0, description="no try begins later after the first")
    first_pause: Seconds = Field(default=0.1, description="doubled by every further try")
    longest_pause: Seconds = Field(default=5.0, description="where the server names no time")
    jitter: float = Field(default=0.5, ge=0, le=1, description="share of a pause that is drawn")

    def pause(self, error: ClientError, tried: int, elapsed: float, draw: float) -> float | None:
        """Seconds until the next try, None for no other one; `draw` is uniform in [0, 1).

        A pause that the server named is never shortened, only spread, so that callers which
        were turned away together do not come back together.
        """
        if not error.passing or tried >= self.tries:
            return None
        own = min(self.longest_pause, self.first_pause * 2.0 ** (tried - 1))
        spread = self.jitter * own * draw
        pause = own - spread if error.retry_after is None else error.retry_after + spread
        return pause if elapsed + pause <= self.seconds else None
