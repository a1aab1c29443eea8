"""What every answer says to a browser: one policy that the search page and the API's page obey."""

from collections.abc import Mapping
from typing import Any

POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; script-src 'self'; style-src 'self'; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_UNUSED = ("accelerometer", "camera", "geolocation", "gyroscope", "microphone", "payment", "usb")
SECURITY: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in _UNUSED),
    "Cross-Origin-Opener-Policy": "same-origin",
}
RESOURCE_POLICY = "Cross-Origin-Resource-Policy"


def security_headers(*, shared: bool) -> dict[str, str]:
    """The headers of every answer; where pages of other origins may ask, they may show pictures."""
    return {**SECURITY, RESOURCE_POLICY: "cross-origin" if shared else "same-origin"}


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI messages hold them."""
    return [(name.lower().encode("ascii"), headers[name].encode("latin-1")) for name in headers]


# What pages of the origins that the settings name may send, and read of answers.
CORS: Mapping[str, Any] = {
    "allow_methods": ("GET", "HEAD", "POST"),
    "allow_headers": ("Authorization", "Content-Type", "X-API-Key", "X-Request-ID", "traceparent"),
    "expose_headers": (
        "X-Request-ID",
        "Retry-After",
        "RateLimit-Limit",
        "RateLimit-Remaining",
        "RateLimit-Reset",
    ),
}
