"""Settings of the server: flags over environment (`MEET_`, nested by `__`) over defaults."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from model.core.types import Frozen
from model.data.images import ImageLimits
from model.reverse_lists.redis_options import KEEP_SECONDS, RedisOptions

ANSWER_SECONDS = 3600
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


class Limits(Frozen):
    """What one request may hold; published by `GET /index` and named when it is hit."""

    max_body_bytes: int = Field(default=ImageLimits().max_bytes, ge=1024)
    max_pixels: int = Field(default=ImageLimits().max_pixels, ge=1)
    max_text_chars: int = Field(default=2000, ge=1)
    max_text_words: int = Field(default=256, ge=1)
    max_k: int = Field(default=1000, ge=1)
    max_candidates: int = Field(default=8192, ge=1)
    max_exact: int = Field(default=20_000, ge=1)
    max_filter_conditions: int = Field(default=32, ge=1)
    max_filter_values: int = Field(default=1000, ge=1)
    max_timeout_ms: int = Field(default=10_000, ge=1)


class Batching(Frozen):
    """How searches share the device."""

    max_batch: int = Field(default=32, ge=1, le=1024)
    max_queue: int = Field(default=256, ge=1)
    max_queue_pixels: int = Field(default=200_000_000, ge=1)  # of decoded images that wait
    max_wait_ms: float = Field(default=0.0, ge=0, le=1000)  # for company, while fewer are there


class ServiceSettings(BaseSettings):
    """Everything that `meet-serve` can be told."""

    model_config = SettingsConfigDict(
        env_prefix="MEET_", env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    index: Path
    device: str = "cpu"
    redis_url: SecretStr | None = None
    redis_timeout_ms: int = Field(default=50, ge=1, le=60_000)
    redis_list_seconds: int = Field(default=KEEP_SECONDS, ge=1)
    redis_answer_seconds: int = Field(default=ANSWER_SECONDS, ge=0)  # 0: no answers are kept
    redis_put_bytes: int = Field(default=RedisOptions().put_bytes, ge=0)
    redis_max_memory_bytes: int | None = Field(default=None, ge=0)
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    limits: Limits = Limits()
    batch: Batching = Batching()
    decode_threads: int = Field(default=2, ge=1, le=64)
    probe_seconds: float = Field(default=5.0, gt=0)
    shutdown_seconds: int = Field(default=10, ge=0)
    drain_seconds: float = Field(default=0.0, ge=0)  # not ready but listening, before a stop
    header_seconds: float = Field(default=10.0, gt=0)
    body_seconds: float = Field(default=30.0, gt=0)
    stuck_seconds: float = Field(default=60.0, gt=0)
    max_waiting_bytes: int = Field(default=512 * 2**20, ge=2**20)  # of all bodies together

    @field_validator("redis_url")
    @classmethod
    def _is_redis_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return url
        if not url.get_secret_value().startswith(REDIS_SCHEMES):
            raise ValueError(f"needs to start with one of {', '.join(REDIS_SCHEMES)}")
        try:
            _ = urlsplit(url.get_secret_value()).port
        except ValueError as error:
            raise ValueError("needs a port that is a number up to 65535") from error
        return url


class SearchSettings(BaseSettings):
    """What `meet-search` takes from the environment: MEET_URL and MEET_API_KEY."""

    model_config = SettingsConfigDict(env_prefix="MEET_", frozen=True, extra="ignore")

    url: str = "http://127.0.0.1:8000"
    api_key: SecretStr | None = None
