"""Text from elsewhere must not drive the terminal: escape sequences could retitle it, recolour it or type into it."""

from __future__ import annotations

_KEPT = "\n\t"
# C0 and DEL have pictures of their own (U+2400..); C1 and the marks that reorder a line have none.
_PICTURES: dict[int, str] = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in _KEPT}
_PICTURES[0x7F] = "\u2421"
_PICTURES |= dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")


def harmless(text: str) -> str:
    """`text` with every control character but newline and tab replaced by a visible one. Works piece by piece."""
    return text.translate(_PICTURES)
