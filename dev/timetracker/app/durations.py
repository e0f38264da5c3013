"""Calculations with time, all in naive UTC as it is stored."""

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

SECONDS_PER_HOUR = 3600


def utc_now() -> datetime:
    """Now, in UTC, without zone: the form in which all times are stored."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)


def round_up_seconds(seconds: int, minutes: int) -> int:
    """Rounds up to whole steps of so many minutes; 0 minutes leaves it as it is."""
    if seconds < 0:
        raise ValueError("a duration is never negative")
    if minutes <= 0:
        return seconds
    step = minutes * 60
    return -(-seconds // step) * step


def hours(seconds: int) -> Decimal:
    """Hours with two decimals, as invoices bill them."""
    return (Decimal(seconds) / SECONDS_PER_HOUR).quantize(
        Decimal("0.01"), rounding=ROUND_HALF_UP
    )


def format_duration(seconds: int | None) -> str:
    """``H:MM``, and an empty text for a running timer."""
    if seconds is None:
        return ""
    minutes = seconds // 60
    return f"{minutes // 60}:{minutes % 60:02d}"


def parse_timestamp(text: str) -> datetime:
    """An ISO 8601 time; with a zone it is converted to UTC, without it is UTC."""
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is not None:
        parsed = parsed.astimezone(UTC).replace(tzinfo=None)
    return parsed
