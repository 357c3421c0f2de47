"""Calls that add a turn, and the options they take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from agentmem.v1 import generation_pb2, latent_pb2, types_pb2
from agentmem_client import choices, convert, inputs
from agentmem_client.calls import Call
from agentmem_client.types import Appended, Slice, Spliced, Thought


class TurnOptions(TypedDict, total=False):
    """What every call that adds a turn takes.

    create: make the agent if it does not exist (the default). rebuild: recompute a timeline of another model
    from the record first. request_id: a repeat returns the committed result. expect_turn: TurnMismatch if the
    agent's last turn is another one. on_cancel: what becomes of the turn if the caller goes away. durability:
    "write_behind" answers before the turn is on disk; `durable` is false then. priority: which of several goes first.
    """

    create: bool
    rebuild: bool
    request_id: str | None
    expect_turn: int | None
    on_cancel: Literal["commit", "discard"]
    durability: Literal["durable", "write_behind"]
    priority: Literal["low", "normal", "high"]


class GenerateOptions(TurnOptions, total=False):
    """What calls that generate take besides; see `agentmem.v1.Sampling` for ranges and defaults.

    json_schema: a JSON Schema that the reply's text fulfils, unless max_tokens cuts it short.
    """

    temperature: float
    top_p: float | None
    top_k: int
    seed: int | None
    max_tokens: int | None
    stop: str | Sequence[str]
    json_schema: str | Mapping[str, Any] | None
    include_token_ids: bool


def generate(
    ref: types_pb2.AgentRef,
    prompt: types_pb2.Input,
    *,
    temperature: float = 0.0,
    top_p: float | None = None,
    top_k: int = 0,
    seed: int | None = None,
    max_tokens: int | None = None,
    stop: str | Sequence[str] = (),
    json_schema: str | Mapping[str, Any] | None = None,
    include_token_ids: bool = False,
    create: bool = True,
    rebuild: bool = False,
    request_id: str | None = None,
    expect_turn: int | None = None,
    on_cancel: str = "commit",
    durability: str = "durable",
    priority: str = "normal",
) -> generation_pb2.GenerateRequest:
    return generation_pb2.GenerateRequest(
        agent=ref,
        mode=generation_pb2.INPUT_MODE_APPEND,
        input=prompt,
        sampling=inputs.sampling(temperature, top_p, top_k, seed, max_tokens, stop, json_schema),
        include_token_ids=include_token_ids,
        create=create,
        rebuild=rebuild,
        request_id=inputs.request_id(request_id),
        expect_turn=inputs.optional_unsigned(expect_turn, "expect_turn"),
        on_cancel=choices.on_cancel(on_cancel),
        durability=choices.durability(durability),
        priority=choices.priority(priority),
    )


def append(
    ref: types_pb2.AgentRef,
    prompt: types_pb2.Input,
    *,
    create: bool = True,
    rebuild: bool = False,
    request_id: str | None = None,
    expect_turn: int | None = None,
    on_cancel: str = "commit",
    durability: str = "durable",
    priority: str = "normal",
) -> Call[Appended]:
    request = generation_pb2.AppendRequest(
        agent=ref,
        input=prompt,
        create=create,
        rebuild=rebuild,
        request_id=inputs.request_id(request_id),
        expect_turn=inputs.optional_unsigned(expect_turn, "expect_turn"),
        on_cancel=choices.on_cancel(on_cancel),
        durability=choices.durability(durability),
        priority=choices.priority(priority),
    )
    # No deadline: how long a text takes to compute is not for the client to guess.
    return Call("Append", request, lambda response: convert.appended(response, request.request_id), timeout=None)


class SpliceOptions(TypedDict, total=False):
    """As `TurnOptions`; a splice is there as a whole or not at all."""

    create: bool
    rebuild: bool
    request_id: str | None
    expect_turn: int | None
    durability: Literal["durable", "write_behind"]
    priority: Literal["low", "normal", "high"]


def splice(
    ref: types_pb2.AgentRef,
    parts: str | Slice | Iterable[str | Slice],
    reposition: str,
    order: str,
    ratio: float | None,
    check_layer: int | None,
    *,
    create: bool = True,
    rebuild: bool = False,
    request_id: str | None = None,
    expect_turn: int | None = None,
    durability: str = "durable",
    priority: str = "normal",
) -> Call[Spliced]:
    request = latent_pb2.SpliceRequest(
        agent=ref,
        parts=inputs.slices(parts),
        reposition=choices.reposition(reposition),
        order=choices.part_order(order),
        ratio=ratio,
        check_layer=None if check_layer is None else inputs.unsigned(check_layer, "check_layer", 32),
        create=create,
        rebuild=rebuild,
        request_id=inputs.request_id(request_id),
        expect_turn=inputs.optional_unsigned(expect_turn, "expect_turn"),
        durability=choices.durability(durability),
        priority=choices.priority(priority),
    )
    return Call("Splice", request, lambda response: convert.spliced(response, request.request_id), timeout=None)


def think(
    ref: types_pb2.AgentRef,
    steps: int,
    prompt: types_pb2.Input | None,
    projection: str,
    *,
    create: bool = True,
    rebuild: bool = False,
    request_id: str | None = None,
    expect_turn: int | None = None,
    on_cancel: str = "commit",
    durability: str = "durable",
    priority: str = "normal",
) -> Call[Thought]:
    request = latent_pb2.ThinkRequest(
        agent=ref,
        input=prompt,
        steps=inputs.unsigned(steps, "steps", 32),
        projection=choices.projection(projection),
        create=create,
        rebuild=rebuild,
        request_id=inputs.request_id(request_id),
        expect_turn=inputs.optional_unsigned(expect_turn, "expect_turn"),
        on_cancel=choices.on_cancel(on_cancel),
        durability=choices.durability(durability),
        priority=choices.priority(priority),
    )
    return Call("Think", request, lambda response: convert.thought(response, request.request_id), timeout=None)
