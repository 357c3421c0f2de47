"""Real prose for training: Python's own documentation, as the running interpreter ships it."""

from __future__ import annotations

import ast
import re
import sysconfig
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def paragraphs() -> tuple[str, ...]:
    """Paragraphs of `pydoc` topics and of the standard library's docstrings, white space folded.

    Every twentieth paragraph is left to `held_out_paragraphs`, so that recall is judged between
    sentences the model never saw.
    """
    return tuple(p for i, p in enumerate(_all_paragraphs()) if i % 20)


@lru_cache(maxsize=1)
def held_out_paragraphs() -> tuple[str, ...]:
    return tuple(p for i, p in enumerate(_all_paragraphs()) if i % 20 == 0)


@lru_cache(maxsize=1)
def words() -> tuple[str, ...]:
    """Every lower-case word of 3 to 12 letters in that documentation: names for things of no particular kind."""
    return tuple(sorted({w for p in _all_paragraphs() for w in re.findall(r"\b[a-z]{3,12}\b", p)}))


@lru_cache(maxsize=1)
def _all_paragraphs() -> tuple[str, ...]:
    from pydoc_data.topics import topics

    texts = [topics[name] for name in sorted(topics)]
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    for file in sorted(stdlib.rglob("*.py")):
        parts = file.relative_to(stdlib).parts
        if {"test", "tests", "site-packages", "pydoc_data", "idlelib", "lib2to3"} & set(parts):
            continue
        texts.extend(_docstrings(file))
    seen: dict[str, None] = {}
    for text in texts:
        for paragraph in re.split(r"\n\s*\n", text):
            folded = " ".join(paragraph.split())
            if len(folded) >= 80 and sum(c.isalpha() or c == " " for c in folded) > 0.8 * len(folded):
                seen.setdefault(folded)
    return tuple(seen)


def _docstrings(file: Path) -> list[str]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return []
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = (ast.get_docstring(n) for n in ast.walk(tree) if isinstance(n, nodes))
    return [d for d in docs if d]
