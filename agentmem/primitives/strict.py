"""JSON from outside, read strictly: nothing unknown, nothing twice, nothing converted, nothing large."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

_SHOWN = re.compile(r"[a-z][a-z0-9_-]{0,31}")
"""What of a document is quoted in a complaint. Anything else might be a prompt's text."""


class Strict(BaseModel):
    """A JSON object whose fields are all known, and exactly of their types. Immutable."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Refused(ValueError):
    """Why a document is none of the kind. path: keys and indexes that lead to the place. Quotes no text of it."""

    def __init__(self, why: str, path: tuple[int | str, ...] = ()) -> None:
        super().__init__(why)
        self.path = path


_T = TypeVar("_T", bound=Strict)


def load(kind: type[_T], text: str, max_bytes: int) -> _T:
    """Raises Refused for what is wrong with the form; what the kind itself raises passes through."""
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise Refused("it holds text that is not valid Unicode") from None
    if len(data) > max_bytes:
        raise Refused(f"it has {len(data)} bytes; {max_bytes} are the most")
    try:
        value = kind.model_validate_json(data)  # first: unlike json, it bears any depth
    except ValidationError as error:
        raise _refused(error) from None
    json.loads(data, object_pairs_hook=_unique)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise Refused("a field is given twice")
    return dict(pairs)


def _refused(error: ValidationError) -> Refused:
    first = error.errors(include_url=False, include_input=False)[0]
    path = tuple(p for p in first["loc"] if isinstance(p, int) or shown(p))
    match first["type"]:
        case "extra_forbidden":
            name = first["loc"][-1]
            return Refused(f"{name!r} is not a field here" if shown(name) else "it has a field that is unknown", path)
        case "missing":
            return Refused(f"{first['loc'][-1]!r} is missing", path)
        case "union_tag_not_found":
            return Refused("'type' is missing", path)
        case "union_tag_invalid":
            return Refused(f"'type' must be one of {first['ctx']['expected_tags']}", path)
        case "json_invalid":
            return Refused("it is not JSON", path)
        case "value_error":
            return Refused(str(first["ctx"]["error"]), path)
        case "too_short":
            return Refused(f"it has fewer than {first['ctx']['min_length']} items", path)
        case "too_long":
            return Refused(f"it has more than {first['ctx']['max_length']} items", path)
        case _:
            # Pydantic's sentences about these name what was expected, not what was there.
            return Refused(first["msg"].replace(" should", " must").lower(), path)


def shown(word: object) -> bool:
    """Whether a word of the document may be quoted."""
    return isinstance(word, str) and _SHOWN.fullmatch(word) is not None
