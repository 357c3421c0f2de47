"""State id and tokenizer id: which memory belongs to which model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentmem.model.digests import FileDigests

_COSMETIC = {
    "_name_or_path", "architectures", "transformers_version", "torch_dtype", "dtype", "use_cache",
    "bos_token_id", "eos_token_id", "pad_token_id", "model_max_length",
}  # fmt: skip
"""Config fields that change no number of the state."""


def state_id(
    weights: list[Path],
    config: dict[str, Any],
    compute_dtype: str,
    layout: str,
    digest_of: Callable[[Path], bytes] | None = None,
) -> str:
    """32 hex digits over the weight files' bytes, the config fields that change numbers, dtype and layer policy.

    digest_of: SHA-256 of a file.
    """
    digest_of = digest_of or FileDigests()
    digest = hashlib.sha256(b"agentmem state id 1\0")
    numbers = {k: v for k, v in config.items() if k not in _COSMETIC}
    digest.update(json.dumps([numbers, compute_dtype, layout], sort_keys=True, default=str).encode())
    for file in sorted(weights):
        digest.update(digest_of(file))
    return digest.hexdigest()[:32]


def tokenizer_id(tokenizer: Any) -> str:
    """32 hex digits over vocabulary, merges, normaliser and added tokens; the chat template does not count."""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    if inner is not None:
        content = json.loads(inner.to_str())
        content.pop("truncation", None)
        content.pop("padding", None)
    else:
        content = [type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())]
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(b"agentmem tokenizer id 1\0" + text.encode()).hexdigest()[:32]
