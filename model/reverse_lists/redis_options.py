"""What Redis may take and is given; imports neither redis nor anything heavy."""

from pydantic import Field

from model.core.types import Frozen

KEEP_SECONDS = 7 * 24 * 3600


class RedisOptions(Frozen):
    """How long Redis may take, and how much it is given.

    `put_bytes` bounds one write, what is beyond stays unshared. While Redis uses more than
    `max_memory_bytes` (None: its own `maxmemory` decides) nothing is written.
    """

    timeout_seconds: float = Field(default=0.05, gt=0)
    put_bytes: int = Field(default=4 << 20, ge=0)
    max_memory_bytes: int | None = Field(default=None, ge=0)
