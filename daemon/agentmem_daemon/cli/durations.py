"""Spans of time as people write them: 90s, 30m, 12h, 7d, 2w."""

from __future__ import annotations

import re
from datetime import timedelta

import typer

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SHAPE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.ASCII)
_LONGEST = timedelta(days=36_500)
NEVER = timedelta()


def duration(text: str) -> timedelta:
    """Raises typer.BadParameter for anything but a number and a unit, or more than a hundred years."""
    match = _SHAPE.fullmatch(text.strip().lower())
    try:
        span = timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else None
    except OverflowError:
        span = None
    if span is None or span > _LONGEST:
        raise typer.BadParameter("A duration is a number with a unit, up to a hundred years: 90s, 30m, 12h, 7d or 2w.")
    return span


def duration_or_none(text: str) -> timedelta:
    """As `duration`; "none" is NEVER."""
    return NEVER if text.strip().lower() == "none" else duration(text)
