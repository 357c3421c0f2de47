"""Words that callers choose from, as protobuf has them. Case does not matter, so that results can be passed on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from agentmem.v1 import generation_pb2, latent_pb2, primitives_pb2, types_pb2
from agentmem_client.inputs import invalid

T = TypeVar("T")


def on_cancel(value: str) -> generation_pb2.OnCancel:
    choices = {"commit": generation_pb2.ON_CANCEL_COMMIT, "discard": generation_pb2.ON_CANCEL_DISCARD}
    return _choice(value, "on_cancel", choices)


def durability(value: str) -> generation_pb2.Durability:
    choices = {
        "durable": generation_pb2.DURABILITY_DURABLE,
        "write_behind": generation_pb2.DURABILITY_WRITE_BEHIND,
    }
    return _choice(value, "durability", choices)


def priority(value: str) -> types_pb2.Priority:
    choices = {"low": types_pb2.PRIORITY_LOW, "normal": types_pb2.PRIORITY_NORMAL, "high": types_pb2.PRIORITY_HIGH}
    return _choice(value, "priority", choices)


def reposition(value: str) -> latent_pb2.Reposition:
    choices = {
        "exact": latent_pb2.REPOSITION_EXACT,
        "reposition": latent_pb2.REPOSITION_REPOSITION,
        "blend": latent_pb2.REPOSITION_BLEND,
    }
    return _choice(value, "reposition", choices)


def part_order(value: str) -> latent_pb2.PartOrder:
    return _choice(value, "order", {"given": latent_pb2.PART_ORDER_GIVEN, "canonical": latent_pb2.PART_ORDER_CANONICAL})


def projection(value: str) -> latent_pb2.Projection:
    choices = {
        "identity": latent_pb2.PROJECTION_IDENTITY,
        "ridge": latent_pb2.PROJECTION_RIDGE,
        "softmax": latent_pb2.PROJECTION_SOFTMAX,
    }
    return _choice(value, "projection", choices)


def share(value: str | None) -> types_pb2.Share:
    """None leaves it to the daemon."""
    if value is None:
        return types_pb2.SHARE_UNSPECIFIED
    return _choice(value, "share", {"namespace": types_pb2.SHARE_NAMESPACE, "private": types_pb2.SHARE_PRIVATE})


def primitive(value: str | None) -> primitives_pb2.Primitive:
    """None leaves it to the daemon."""
    if value is None:
        return primitives_pb2.PRIMITIVE_UNSPECIFIED
    choices = {
        "answer": primitives_pb2.PRIMITIVE_ANSWER,
        "review": primitives_pb2.PRIMITIVE_REVIEW,
        "vote": primitives_pb2.PRIMITIVE_VOTE,
        "plan_execute": primitives_pb2.PRIMITIVE_PLAN_EXECUTE,
    }
    return _choice(value, "primitive", choices)


def medium(value: str | None) -> primitives_pb2.Medium:
    """None leaves it to the plan."""
    if value is None:
        return primitives_pb2.MEDIUM_UNSPECIFIED
    choices = {
        "latent": primitives_pb2.MEDIUM_LATENT,
        "text": primitives_pb2.MEDIUM_TEXT,
        "both": primitives_pb2.MEDIUM_BOTH,
    }
    return _choice(value, "medium", choices)


def evict_to(value: str) -> types_pb2.Residency:
    return _choice(value, "to", {"warm": types_pb2.RESIDENCY_WARM, "cold": types_pb2.RESIDENCY_COLD})


def _choice(value: Any, what: str, choices: Mapping[str, T]) -> T:
    word = value.lower() if isinstance(value, str) else value
    if word not in choices:
        raise invalid(f"{what} must be {' or '.join(f'{choice!r}' for choice in choices)}.")
    return choices[word]
