"""Figures in words short enough for a table."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ("B", "kB", "MB", "GB", "TB")


def size(count: int) -> str:
    """Bytes in decimal units: '0 B', '1.5 kB', '25 MB'."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit and value < 9.95 else f"{value:.0f} {_UNITS[unit]}"


def seconds(value: float) -> str:
    """'3.1 ms', '250 ms', '1.25 s'."""
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1000:.1f} ms" if value < 0.1 else f"{value * 1000:.0f} ms"


def moment(when: datetime | None) -> str:
    """Local time to the second; '-' if unset."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M:%S") if when else "-"


def ago(when: datetime | None, now: datetime | None = None) -> str:
    """'just now', '5 minutes ago', '3 days ago'; '-' if unset."""
    if when is None:
        return "-"
    passed = ((now or datetime.now(UTC)) - when.astimezone(UTC)).total_seconds()
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = int(passed // length)
        if count >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"
