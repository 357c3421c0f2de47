"""A JSON Schema validator of what the plan's schema uses; a keyword that it does not know is an error."""

from __future__ import annotations

import re
from typing import Any

_TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
}  # fmt: skip
_SILENT = {"title", "description", "default", "discriminator", "$defs"}


def fulfils(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    return all(_keyword(key, wanted, value, schema, root) for key, wanted in schema.items() if key not in _SILENT)


def _keyword(key: str, wanted: Any, value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    match key:
        case "$ref":
            return fulfils(value, root["$defs"][wanted.removeprefix("#/$defs/")], root)
        case "oneOf":
            return sum(fulfils(value, option, root) for option in wanted) == 1
        case "type":
            return isinstance(value, _TYPES[wanted]) and not isinstance(value, bool)
        case "const":
            return bool(value == wanted)
        case "enum":
            return value in wanted
        case "pattern":
            return not isinstance(value, str) or re.search(wanted, value) is not None
        case "minimum":
            return not isinstance(value, (int, float)) or value >= wanted
        case "maximum":
            return not isinstance(value, (int, float)) or value <= wanted
        case "maxLength":
            return not isinstance(value, str) or len(value) <= wanted
        case "minItems":
            return not isinstance(value, list) or len(value) >= wanted
        case "maxItems":
            return not isinstance(value, list) or len(value) <= wanted
        case "items":
            return not isinstance(value, list) or all(fulfils(v, wanted, root) for v in value)
        case "required":
            return not isinstance(value, dict) or set(wanted) <= set(value)
        case "properties":
            return not isinstance(value, dict) or all(
                fulfils(v, wanted[k], root) for k, v in value.items() if k in wanted
            )
        case "additionalProperties":
            assert wanted is False
            return not isinstance(value, dict) or set(value) <= set(schema["properties"])
    raise AssertionError(f"a keyword that this does not know: {key}")
