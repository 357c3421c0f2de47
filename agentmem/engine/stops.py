"""Finds stop sequences in streamed text and holds back what may be the beginning of one."""

from __future__ import annotations


class StopFilter:
    """Feed text as it comes; what `push` returns may be sent. After a match, `matched` names the sequence."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.matched = ""

    def push(self, text: str) -> str:
        """Text that is surely not part of a stop sequence. Nothing after a match."""
        if self.matched:
            return ""
        self._held += text
        found = [(at, s) for s in self._stops if (at := self._held.find(s)) >= 0]
        if found:
            at, self.matched = min(found, key=lambda f: (f[0], -len(f[1])))
            out, self._held = self._held[:at], ""
            return out
        keep = max((_overlap(self._held, s) for s in self._stops), default=0)
        out = self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return out

    def flush(self) -> str:
        """What was held back, once no more text comes."""
        out, self._held = self._held, ""
        return out


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
