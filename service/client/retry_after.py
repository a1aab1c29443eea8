"""The header Retry-After (RFC 9110, 10.2.3): seconds, or a date in any of HTTP's three forms."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# A longer wait is nobody's; it also keeps a giant number from overflowing.
_LONGEST = 366 * 86_400.0


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds, 0 for a moment that has passed; None where nothing readable is said.

    A date is counted from the response's own date, so that two clocks need not agree.
    """
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdecimal():
        return min(float(said), _LONGEST)
    moment = _moment(said)
    if moment is None:
        return None
    sent = _moment(headers.get("date", "")) or datetime.now(UTC)
    return min(max(0.0, (moment - sent).total_seconds()), _LONGEST)


def _moment(text: str) -> datetime | None:
    try:
        read = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read
