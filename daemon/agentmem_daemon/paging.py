"""Page tokens: opaque to callers, bound to one listing, refused when they are anything else."""

from __future__ import annotations

import base64
import binascii

from agentmem.errors import AgentmemError, Reason

DEFAULT_PAGE = 100
MAX_PAGE = 1000
MAX_NUMBER = 10**18 - 1
_VERSION = "1"
# No name or namespace can hold it: control characters are refused.
_SEPARATOR = "\0"


def page_limit(page_size: int) -> int:
    """Entries of a page; 0 asks for the default."""
    if page_size > MAX_PAGE:
        raise AgentmemError(
            Reason.INPUT_INVALID, f"page_size is {page_size}; at most {MAX_PAGE} is possible.", limit=MAX_PAGE
        )
    return page_size or DEFAULT_PAGE


def page_token(listing: tuple[str, ...], last_key: str) -> str:
    """A token for the page after `last_key` of the listing."""
    text = _SEPARATOR.join((_VERSION, *listing, last_key))
    return base64.urlsafe_b64encode(text.encode()).decode()


def last_key(listing: tuple[str, ...], token: str) -> str:
    """The key that a page of this listing begins after; "" for the first page."""
    if not token:
        return ""
    try:
        text = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise _invalid() from None
    *head, key = text.split(_SEPARATOR)
    if head != [_VERSION, *listing] or not key:
        raise _invalid()
    return key


def last_number(listing: tuple[str, ...], token: str) -> int:
    """As `last_key`, where keys are numbers; 0 for the first page."""
    key = last_key(listing, token)
    if key and not (key.isascii() and key.isdigit() and len(key) < 19):
        raise _invalid()
    return int(key or "0")


def _invalid() -> AgentmemError:
    return AgentmemError(
        Reason.PAGE_TOKEN_INVALID, "The page token is not one that this listing gave. Begin again without a token."
    )
