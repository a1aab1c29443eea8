"""What one request may hold; light to import, for the client reads it too."""

from pydantic import Field

from model.core.types import Frozen
from model.data.image_limits import ImageLimits


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
    max_queries: int = Field(default=64, ge=1)
    max_timeout_ms: int = Field(default=10_000, ge=1)
