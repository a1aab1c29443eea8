"""Settings of the server: flags over environment (`MEET_`, nested by `__`) over defaults."""

import math
import os
import re
from collections.abc import Iterable
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from model.core.types import Frozen
from model.reverse_lists.redis_options import KEEP_SECONDS, RedisOptions
from service.keys import listed_keys, read_keys
from service.limits import Limits

ANSWER_SECONDS = 3600
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
ANY_ORIGIN = "*"
KEY_SOURCES = ("search_keys", "search_keys_file", "admin_keys", "admin_keys_file")


def _listed(given: object) -> object:
    """The parts of a comma list, as variables and flags give one."""
    if not isinstance(given, str):
        return given
    return tuple(part for one in given.split(",") if (part := one.strip()))


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]


class LogFormat(StrEnum):
    """How a line of the log looks."""

    JSON = "json"
    TEXT = "text"


class LogLevel(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Batching(Frozen):
    """How searches share the device."""

    max_batch: int = Field(default=64, ge=1, le=1024)
    max_queue: int = Field(default=256, ge=1)
    max_queue_pixels: int = Field(default=200_000_000, ge=1)  # of decoded images that wait
    max_wait_ms: float = Field(default=0.0, ge=0, le=1000)  # for company, while fewer are there


class RateLimit(Frozen):
    """How often one caller may ask: a bucket of `burst` requests that fills by `per_second`."""

    per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)  # None: no limit
    burst: int | None = Field(default=None, ge=1)

    @property
    def size(self) -> int:
        """Requests that may come at once: those of one second, unless told otherwise."""
        return self.burst or max(1, math.ceil(self.per_second or 1))


class ServiceSettings(BaseSettings):
    """Everything that `meet-serve` can be told."""

    model_config = SettingsConfigDict(
        env_prefix="MEET_",
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,  # it may be a key or a password
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
    watch_seconds: float = Field(default=5.0, ge=0)  # between looks at CURRENT, 0: none
    shadow_share: float = Field(default=0.01, ge=0, le=1)  # of searches that are repeated exactly
    max_waiting_bytes: int = Field(default=512 * 2**20, ge=2**20)  # of all bodies together
    search_keys: SecretStr | None = None  # a comma list
    search_keys_file: Path | None = None  # a key a line
    admin_keys: SecretStr | None = None
    admin_keys_file: Path | None = None
    guard_metrics: bool = False
    rate_limit: RateLimit = RateLimit()
    trusted_proxies: CommaList = ()
    cors_origins: CommaList = ()
    log_format: LogFormat = LogFormat.JSON
    log_level: LogLevel = LogLevel.INFO
    log_queries: bool = False
    slow_query_seconds: float = Field(default=5.0, ge=0)

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for one in proxies:
            try:
                ip_network(one)
            except ValueError as error:
                raise ValueError(f"needs addresses or networks, got {one!r}") from error
        return proxies

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for one in origins:
            parts = urlsplit(one)
            if one != ANY_ORIGIN and one != f"{parts.scheme}://{parts.netloc}":
                raise ValueError(f"needs origins such as https://example.org, got {one!r}")
        return origins

    @field_validator("search_keys", "admin_keys")
    @classmethod
    def _are_keys(cls, listed: SecretStr | None) -> SecretStr | None:
        if listed is not None and not listed_keys(listed.get_secret_value()):
            raise ValueError("needs at least one key, got none")
        return listed

    @field_validator("search_keys_file", "admin_keys_file")
    @classmethod
    def _is_key_file(cls, path: Path | None) -> Path | None:
        if path is not None and not read_keys(path):
            raise ValueError(f"needs at least one key, {path} holds none")
        return path

    @field_validator("guard_metrics")
    @classmethod
    def _has_keys_to_guard_with(cls, guarded: bool, told: ValidationInfo) -> bool:
        if guarded and not any(told.data.get(name) for name in KEY_SOURCES):
            raise ValueError("needs search keys or admin keys to guard with, got none")
        return guarded

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


class TracingSettings(BaseSettings):
    """The standard `OTEL_` variables that say whether there are traces at all."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    otel_exporter_otlp_endpoint: str = ""
    otel_exporter_otlp_traces_endpoint: str = ""
    otel_traces_exporter: str = ""
    otel_sdk_disabled: str = ""
    otel_service_name: str = ""

    @property
    def wanted(self) -> bool:
        """Whether spans go anywhere."""
        endpoint = self.otel_exporter_otlp_traces_endpoint or self.otel_exporter_otlp_endpoint
        off = self.otel_sdk_disabled.strip().lower() == "true"
        return bool(endpoint) and not off and self.otel_traces_exporter in {"", "otlp"}


class SearchSettings(BaseSettings):
    """What `meet-search` takes from the environment: MEET_URL and MEET_API_KEY."""

    model_config = SettingsConfigDict(env_prefix="MEET_", frozen=True, extra="ignore")

    url: str = "http://127.0.0.1:8000"
    api_key: SecretStr | None = None


# What an orchestrator tells of a service that is named `meet`.
LINKS = re.compile(r"(.*_)?(SERVICE_(HOST|PORT)(_.*)?|PORT_\d+_.*)")


def unknown_variables(names: Iterable[str] | None = None) -> list[str]:
    """Variables with the prefix of the settings that name none: most are misspelt."""
    given = os.environ if names is None else names
    prefix = ServiceSettings.model_config["env_prefix"]
    return sorted(n for n in given if n.startswith(prefix) and not _known(n.removeprefix(prefix)))


def _known(name: str) -> bool:
    first, _, rest = name.lower().partition("__")
    field = ServiceSettings.model_fields.get(first)
    if field is None:
        return first in SearchSettings.model_fields or LINKS.fullmatch(name) is not None
    nested = getattr(field.annotation, "model_fields", None)
    return not rest or nested is None or rest in nested
